/** Runs wrk and reads its figures. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

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
  /** `name: value` */
  readonly headers: readonly string[];
  /** Core to pin to. */
  readonly core: number;
}

/** @throws when wrk is missing; the message says how to install it. */
export async function load(options: LoadOptions): Promise<LoadResult> {
  const args = [
    '-c',
    String(options.core),
    'wrk',
    '-t1',
    `-c${options.connections}`,
    `-d${options.seconds}s`,
    '--latency',
  ];
  for (const header of options.headers) args.push('-H', header);
  args.push(options.url);
  let stdout: string;
  try {
    ({ stdout } = await promisify(execFile)('taskset', args));
  } catch (error) {
    throw new Error(`Cannot run wrk (apt-get install wrk): ${(error as Error).message}`, { cause: error });
  }
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
