/** A replica that misbehaves and dies as a process does; see fault_child.ts for what it is. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Scope } from './scope.ts';

export type FaultProtocol = 'http1' | 'http2' | 'grpc' | 'tcp';

/**
 * half503: every other answer. reset: the connection, at each third piece that comes. stall: what comes is swallowed. slow:
 * 60 ms late. halfClose: its end instead of an answer. corrupt: noise instead of one. flood: much behind the answer that nobody
 * asked for.
 */
export type WireMisdeed = 'fine' | 'half503' | 'reset' | 'stall' | 'slow' | 'halfClose' | 'corrupt' | 'flood';

export const WIRE_MISDEEDS: readonly WireMisdeed[] = [
  'half503',
  'reset',
  'stall',
  'slow',
  'halfClose',
  'corrupt',
  'flood',
];

export interface FaultSetup {
  readonly protocol: FaultProtocol;
  /** 0: any. */
  readonly port: number;
  /** PEM; clients have to show a certificate of `ca`. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string } | undefined;
}

export interface FaultOrder {
  readonly number: number;
  readonly misdeed: WireMisdeed;
}

const CHILD = fileURLToPath(new URL('./fault_child.ts', import.meta.url));

export class FaultProcess {
  port = 0;
  readonly #setup: Omit<FaultSetup, 'port'>;
  readonly #ledger: string;
  #child: ChildProcess | undefined = undefined;
  #orders = 0;
  #isOver = false;

  private constructor(setup: Omit<FaultSetup, 'port'>, folder: string) {
    this.#setup = setup;
    this.#ledger = join(folder, 'served');
  }

  static async start(scope: Scope, setup: Omit<FaultSetup, 'port'>): Promise<FaultProcess> {
    const folder = mkdtempSync(join(tmpdir(), 'pillion-fault-'));
    const replica = new FaultProcess(setup, folder);
    scope.after(async () => {
      replica.#isOver = true;
      await replica.kill();
      rmSync(folder, { recursive: true, force: true });
    });
    await replica.restart();
    return replica;
  }

  /** How often each id was served, over all lives. */
  served(): Map<string, number> {
    const counts = new Map<string, number>();
    for (const id of readFileSync(this.#ledger, 'latin1').split('\n').slice(0, -1)) {
      counts.set(id, (counts.get(id) ?? 0) + 1);
    }
    return counts;
  }

  /** From now on; resolves when it is so. */
  async behave(misdeed: WireMisdeed): Promise<void> {
    const number = ++this.#orders;
    const child = this.#child;
    if (child === undefined) throw new Error('it is dead');
    child.send({ number, misdeed } satisfies FaultOrder);
    for (;;) {
      const [answer] = (await once(child, 'message')) as [{ readonly done?: number }];
      if (answer.done === number) return;
    }
  }

  /** SIGKILL. */
  async kill(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, 'exit');
    child.kill('SIGKILL');
    await gone;
  }

  /** On the same port. */
  async restart(): Promise<void> {
    if (this.#isOver) return;
    const file = openSync(this.#ledger, 'a');
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', CHILD, JSON.stringify({ ...this.#setup, port: this.port })],
      { stdio: ['ignore', 'ignore', 'inherit', file, 'ipc'] },
    );
    closeSync(file);
    this.#child = child;
    const [ready] = (await Promise.race([once(child, 'message'), once(child, 'exit')])) as [{ readonly port?: number }];
    if (typeof ready !== 'object' || ready?.port === undefined) throw new Error('the replica did not start');
    this.port = ready.port;
  }
}
