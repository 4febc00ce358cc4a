/** Latency at a fixed rate, by h2load over HTTP/1.1: every request's time from its log. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { promisify } from 'node:util';
import type { Started } from '../peers.ts';
import { scratchFile } from '../programs.ts';
import type { Work } from '../works.ts';
import type { Figures } from './figures.ts';

export async function measureRate(running: Started, work: Work, seconds: number, rate: number): Promise<Figures> {
  const log = scratchFile('h2load.log', '');
  const parameters = [
    '--h1',
    `-c${work.connections}`,
    `-D${seconds}`,
    '--warm-up-time=1',
    `--rps=${Math.max(1, Math.round(rate / work.connections))}`,
    `--log-file=${log}`,
    `http://127.0.0.1:${running.port}${work.path}`,
  ];
  try {
    await promisify(execFile)('h2load', parameters, { maxBuffer: 1 << 24 });
  } catch (error) {
    throw new Error(`Cannot run h2load (apt-get install nghttp2-client): ${(error as Error).message}`, {
      cause: error,
    });
  }
  const micros: number[] = [];
  let errors = 0;
  for (const line of readFileSync(log, 'utf8').split('\n')) {
    if (line === '') continue;
    // Start of the request, status, microseconds.
    const [, status, time] = line.split('\t').map(Number);
    if (status === 200 && time !== undefined) micros.push(time);
    else errors++;
  }
  micros.sort((a, b) => a - b);
  const at = (share: number): number =>
    (micros[Math.min(micros.length - 1, Math.floor(micros.length * share))] ?? 0) / 1000;
  return { p50Ms: at(0.5), p99Ms: at(0.99), p999Ms: at(0.999), rps: micros.length / seconds, errors };
}
