/**
 * `npm run bench`: CPU per request of Pillion and its peers, in one run, alternating, medians.
 * Options: --only WORK[,WORK], --rounds N (3), --seconds N (4).
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { peers, startUpstream } from './peers.ts';
import { cpuSeconds, residentBytes } from './process_cpu.ts';
import { works } from './works.ts';
import { load } from './wrk.ts';

interface Sample {
  readonly cpuMicros: number;
  readonly rps: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly megabytes: number;
  readonly errors: number;
}

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
  },
});
const rounds = Number(values.rounds);
const seconds = Number(values.seconds);
const wanted = values.only?.split(',');
const results: Record<string, Record<string, Sample>> = {};
const upstreamPort = 18080;
const proxyPort = 18081;

const upstream = await startUpstream(upstreamPort);
try {
  for (const work of works) {
    if (wanted !== undefined && !wanted.includes(work.name)) continue;
    console.log(`\n${work.name}: ${work.says}`);
    const taking = peers.filter((peer) => work.peers.includes(peer.name));
    const samples = new Map<string, Sample[]>();
    for (let round = 0; round < rounds; round++) {
      // Every other round in reverse order: what drifts over time falls on all.
      for (const peer of round % 2 === 0 ? taking : [...taking].reverse()) {
        if (!peer.available()) {
          if (round === 0) console.log(`  ${peer.name}: not installed (${peer.install})`);
          continue;
        }
        const running = await peer.start(work, proxyPort, upstreamPort);
        const url = `http://127.0.0.1:${proxyPort}${work.path}`;
        const options = { url, connections: work.connections, headers: work.headers, core: 1 };
        await load({ ...options, seconds: 1 });
        const before = cpuSeconds([running.pid]);
        const result = await load({ ...options, seconds });
        const used = cpuSeconds([running.pid]) - before;
        const list = samples.get(peer.name) ?? [];
        list.push({
          cpuMicros: (used / result.requests) * 1e6,
          rps: result.requests / result.seconds,
          p50Ms: result.p50Ms,
          p99Ms: result.p99Ms,
          megabytes: residentBytes([running.pid]) / 1048576,
          errors: result.errors,
        });
        samples.set(peer.name, list);
        await running.stop();
      }
    }
    results[work.name] = report(samples);
  }
} finally {
  await upstream.stop();
}
const folder = new URL('./results/', import.meta.url);
mkdirSync(folder, { recursive: true });
writeFileSync(
  new URL(`${new Date().toISOString().replaceAll(':', '-')}.json`, folder),
  JSON.stringify(results, undefined, 2),
);

function report(samples: ReadonlyMap<string, readonly Sample[]>): Record<string, Sample> {
  const medians: Record<string, Sample> = {};
  console.log('  peer            CPU µs/request   of Envoy   requests/s   p50 ms   p99 ms   RSS MB   errors');
  const envoy = median((samples.get('envoy') ?? []).map((sample) => sample.cpuMicros));
  for (const [name, list] of samples) {
    const middle = (pick: (sample: Sample) => number): number => median(list.map(pick));
    const row: Sample = {
      cpuMicros: middle((sample) => sample.cpuMicros),
      rps: middle((sample) => sample.rps),
      p50Ms: middle((sample) => sample.p50Ms),
      p99Ms: middle((sample) => sample.p99Ms),
      megabytes: middle((sample) => sample.megabytes),
      errors: list.reduce((sum, sample) => sum + sample.errors, 0),
    };
    medians[name] = row;
    const cells = [
      name.padEnd(15),
      row.cpuMicros.toFixed(1).padStart(15),
      (Number.isNaN(envoy) ? '-' : (row.cpuMicros / envoy).toFixed(2)).padStart(10),
      row.rps.toFixed(0).padStart(12),
      row.p50Ms.toFixed(2).padStart(8),
      row.p99Ms.toFixed(2).padStart(8),
      row.megabytes.toFixed(0).padStart(8),
      String(row.errors).padStart(8),
    ];
    console.log(`  ${cells.join(' ')}`);
  }
  return medians;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] as number)
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}
