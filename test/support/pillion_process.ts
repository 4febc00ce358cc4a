/** bin/pillion as users start it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Scope } from './scope.ts';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const pillion = `${root}bin/pillion`;

let stateFolder: string | undefined;

/** The state folder of all processes of one test file: no test touches the developer's own. */
function stateHome(): string {
  if (stateFolder === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'pillion-state-'));
    process.once('exit', () => rmSync(made, { recursive: true, force: true }));
    stateFolder = made;
  }
  return stateFolder;
}

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface StartOptions {
  readonly input?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  readonly program?: string;
}

/** A process under way; ended with the test at the latest. */
export class PillionProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';
  #wake: () => void = () => {};
  #done = false;

  constructor(scope: Scope, parameters: readonly string[], options: StartOptions = {}) {
    const { POD_NAME: _, ...environment } = process.env;
    this.child = spawn(options.program ?? pillion, parameters, {
      cwd: options.cwd ?? root,
      env: { ...environment, NO_COLOR: '', FORCE_COLOR: '', XDG_STATE_HOME: stateHome(), ...options.env },
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    scope.after(() => this.child.kill('SIGKILL'));
    this.child.stdin?.on('error', () => {});
    this.child.stdin?.end(options.input ?? '');
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text;
      this.#wake();
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text;
      this.#wake();
    });
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code) => {
        this.#done = true;
        this.#wake();
        resolve({ code, stdout: this.stdout, stderr: this.stderr });
      });
    });
  }

  /** Waits for text on stdout or stderr. @throws when it ends before, or after 30 s. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    const deadline = setTimeout(() => this.child.kill('SIGKILL'), 30_000);
    for (;;) {
      const found = pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
      if (found !== null) {
        clearTimeout(deadline);
        return found;
      }
      if (this.#done) throw new Error(`it ended without ${pattern}: ${this.stdout}${this.stderr}`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  signal(name: NodeJS.Signals): void {
    this.child.kill(name);
  }
}

export function runPillion(scope: Scope, parameters: readonly string[], options?: StartOptions): Promise<Ended> {
  return new PillionProcess(scope, parameters, options).ended;
}
