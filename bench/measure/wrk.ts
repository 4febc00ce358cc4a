/** Runs wrk and reads its figures. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { scratchFile } from '../programs.ts';

export interface LoadResult {
  readonly requests: number;
  readonly seconds: number;
  /** Answers that were not 2xx or 3xx, and socket errors. */
  readonly errors: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

export interface LoadOptions {
  readonly url: string;
  readonly connections: number;
  readonly seconds: number;
  /** Core to pin to; undefined: wherever. */
  readonly core: number | undefined;
  /** A POST with so many bytes. */
  readonly bodyBytes?: number | undefined;
}

/** @throws when wrk is missing; the message says how to install it. */
export async function load(options: LoadOptions): Promise<LoadResult> {
  const args = ['-t1', `-c${options.connections}`, `-d${options.seconds}s`, '--latency'];
  if (options.bodyBytes !== undefined) {
    const body = `wrk.method = "POST"\nwrk.body = string.rep("x", ${options.bodyBytes})\n`;
    args.push('-s', scratchFile('post.lua', body));
  }
  args.push(options.url);
  const [program, ...words] =
    options.core === undefined ? ['wrk', ...args] : ['taskset', '-c', String(options.core), 'wrk', ...args];
  let stdout: string;
  try {
    ({ stdout } = await promisify(execFile)(program as string, words));
  } catch (error) {
    throw new Error(`Cannot run wrk (apt-get install wrk): ${(error as Error).message}`, { cause: error });
  }
  return readWrk(stdout);
}

/** What wrk --latency has printed. */
export function readWrk(stdout: string): LoadResult {
  const number = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1] ?? 0);
  const socketErrors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(stdout);
  const failed = (socketErrors ?? []).slice(1).reduce((sum, text) => sum + Number(text), 0);
  return {
    requests: number(/(\d+) requests in/),
    seconds: number(/requests in ([\d.]+)s/),
    errors: number(/Non-2xx or 3xx responses: (\d+)/) + failed,
    p50Ms: latency(stdout, '50%'),
    p99Ms: latency(stdout, '99%'),
  };
}

function latency(stdout: string, row: string): number {
  const match = new RegExp(`${row}\\s+([\\d.]+)(us|ms|s)`).exec(stdout);
  const factor = { us: 0.001, ms: 1, s: 1000 }[match?.[2] ?? 'ms'] ?? 1;
  return Number(match?.[1] ?? 0) * factor;
}
