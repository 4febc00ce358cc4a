/** Programs under measurement: found, started on a core, awaited, stopped. */
import { type ChildProcess, spawn } from 'node:child_process';
import { accessSync, constants, globSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';

/** Everything that a run writes; gone with it. */
export const scratch = mkdtempSync(join(tmpdir(), 'pillion-bench-'));
process.once('exit', () => rmSync(scratch, { recursive: true, force: true }));

export interface Running {
  readonly pid: number;
  readonly port: number;
  /** From its start to the first connection. */
  readonly readyMs: number;
  stop(): Promise<void>;
}

export interface Program {
  readonly program: string;
  readonly parameters: readonly string[];
  readonly port: number;
  /** Pinned to it; undefined: wherever. */
  readonly core: number | undefined;
  readonly environment?: Readonly<Record<string, string>>;
}

const START_LIMIT_MS = 20_000;
const STOP_LIMIT_MS = 2000;

export async function start({ program, parameters, port, core, environment }: Program): Promise<Running> {
  const words = core === undefined ? [program, ...parameters] : ['taskset', '-c', String(core), program, ...parameters];
  const startMs = performance.now();
  const child = spawn(words[0] as string, words.slice(1), {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, ...environment },
  });
  await listening(child, program, port);
  const ended = new Promise<void>((resolve) => {
    child.once('exit', () => resolve());
  });
  return {
    pid: child.pid as number,
    port,
    readyMs: performance.now() - startMs,
    async stop() {
      child.kill('SIGTERM');
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_LIMIT_MS);
      await ended;
      clearTimeout(timer);
    },
  };
}

/** Polls until the port answers; a program that ends before is an error. */
async function listening(child: ChildProcess, program: string, port: number): Promise<void> {
  const untilMs = performance.now() + START_LIMIT_MS;
  while (performance.now() < untilMs) {
    if (child.exitCode !== null) {
      throw new Error(`${program} ended with ${child.exitCode} before it listened on ${port}`);
    }
    const open = await new Promise<boolean>((resolve) => {
      const socket = connect(port, '127.0.0.1');
      socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
      socket.once('connect', () => socket.destroy());
    });
    if (open) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  child.kill('SIGKILL');
  throw new Error(`${program} does not listen on ${port} after ${START_LIMIT_MS / 1000} s`);
}

export async function freePort(): Promise<number> {
  // Below the range that connections take theirs from, and with the next one free too: two sidecars need both.
  for (;;) {
    const port = 18_000 + Math.floor(Math.random() * 14_000);
    if ((await isFree(port)) && (await isFree(port + 1))) return port;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
      .once('error', () => resolve(false))
      .listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

let files = 0;

/** @returns the path. */
export function scratchFile(name: string, text: string): string {
  const path = join(scratch, `${files++}-${name}`);
  writeFileSync(path, text);
  return path;
}

/** The program itself where PATH only has a wrapper script of pip's, which takes seconds to start. */
export function findProgram(name: string): string | undefined {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    try {
      const path = join(folder, name);
      accessSync(path, constants.X_OK);
      const packaged = globSync(join(folder, `../versions/*/lib/python*/site-packages/${name}/_bin/${name}`));
      const beside = globSync(join(folder, `../lib/python*/site-packages/${name}/_bin/${name}`));
      return packaged[0] ?? beside[0] ?? path;
    } catch {
      // Not in this folder.
    }
  }
  return undefined;
}
