/** Runs h2load at saturation and reads its figures. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { scratchFile } from '../programs.ts';
import type { LoadOptions, LoadResult } from './wrk.ts';

export interface Http2Load {
  /** Streams at a time on each connection. */
  readonly streams: number;
  /** Requests look like gRPC calls: a POST of `bodyBytes` and its five bytes before. */
  readonly grpc?: boolean;
}

/** @throws when h2load is missing; the message says how to install it. */
export async function loadHttp2(options: LoadOptions, { streams, grpc = false }: Http2Load): Promise<LoadResult> {
  const args = ['-c', String(options.connections), '-m', String(streams), '-D', String(options.seconds), '-t', '1'];
  if (options.bodyBytes !== undefined) {
    const prefix = Buffer.alloc(grpc ? 5 : 0);
    if (grpc) prefix.writeUInt32BE(options.bodyBytes, 1);
    args.push(
      '-d',
      scratchFile('body', Buffer.concat([prefix, Buffer.alloc(options.bodyBytes, 'x')]).toString('latin1')),
    );
  }
  if (grpc) args.push('-H', 'content-type: application/grpc', '-H', 'te: trailers');
  args.push(options.url);
  const [program, ...words] =
    options.core === undefined ? ['h2load', ...args] : ['taskset', '-c', String(options.core), 'h2load', ...args];
  let stdout: string;
  try {
    ({ stdout } = await promisify(execFile)(program as string, words));
  } catch (error) {
    throw new Error(`Cannot run h2load (apt-get install nghttp2-client): ${(error as Error).message}`, {
      cause: error,
    });
  }
  const number = (pattern: RegExp): number => Number(pattern.exec(stdout)?.[1] ?? 0);
  return {
    requests: number(/(\d+) succeeded/),
    seconds: options.seconds,
    errors: number(/(\d+) failed/) + number(/(\d+) 4xx/) + number(/(\d+) 5xx/),
    // h2load prints least, greatest and mean, no quantiles.
    p50Ms: meanMs(stdout),
    p99Ms: Number.NaN,
  };
}

function meanMs(stdout: string): number {
  const [, mean, unit] = /time for request:\s+\S+\s+\S+\s+([\d.]+)(us|ms|s)/.exec(stdout) ?? [];
  return Number(mean ?? Number.NaN) * ({ us: 0.001, ms: 1, s: 1000 }[unit ?? 'ms'] ?? 1);
}
