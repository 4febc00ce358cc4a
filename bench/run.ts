/**
 * `npm run bench [-- OPTIONS]`: Pillion and its peers; `npm run bench -- compare A B`: two checkouts of Pillion;
 * `npm run bench -- micro [NAME]`: pieces alone; `npm run bench -- intercept`: what a redirection costs a connection. Options: --only WORK[,WORK], --peers PEER[,PEER], --rounds N (3),
 * --seconds N (4). README.md has the method and the last figures.
 */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { type Peer, peers, pillion, root } from './peers.ts';
import { plot, type Result } from './plot.ts';
import { freePort } from './programs.ts';
import { table } from './report.ts';
import { measureWork } from './rounds.ts';
import { startUpstream } from './upstream.ts';
import { works } from './works.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: { type: 'string' },
    peers: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '4' },
  },
});
const [command, ...words] = positionals;
if (command === 'micro') {
  await (await import('./micro/run.ts')).micro(words[0]);
} else if (command === 'intercept') {
  execFileSync('npm', ['run', '-s', 'build'], { cwd: root, stdio: 'inherit' });
  await (await import('./intercept.ts')).intercept(Number(values.rounds), Number(values.seconds));
} else if (command === 'compare') {
  const [a, b] = words.map((path) => resolve(path));
  if (a === undefined || b === undefined) throw new Error('usage: npm run bench -- compare CHECKOUT CHECKOUT');
  for (const checkout of new Set([a, b]))
    execFileSync('npm', ['run', '-s', 'build'], { cwd: checkout, stdio: 'inherit' });
  await run([pillion('A', a), pillion('B', b)], 'A');
} else {
  execFileSync('npm', ['run', '-s', 'build'], { cwd: root, stdio: 'inherit' });
  await run(peers, 'envoy');
}

async function run(candidates: readonly Peer[], of: string): Promise<void> {
  const isCompared = of === 'A';
  const wanted = values.only?.split(',');
  const asked = values.peers?.split(',');
  const taking = candidates.filter(({ name }) => asked === undefined || asked.includes(name));
  for (const { name, install } of taking.filter((peer) => !peer.available())) {
    console.log(`${name} is not installed (${install})`);
  }
  const upstreamPort = await freePort();
  const upstreamHttp2 = await freePort();
  const upstream = await startUpstream(upstreamPort, upstreamHttp2);
  const results: Result[] = [];
  try {
    for (const work of works) {
      if (wanted !== undefined && !wanted.includes(work.name)) continue;
      const part = taking.filter((peer) => peer.available() && (isCompared || work.peers.includes(peer.name)));
      if (part.length === 0) continue;
      console.log(`\n${work.name}: ${work.says}`);
      const port = work.config.http2 === true ? upstreamHttp2 : upstreamPort;
      const options = { rounds: Number(values.rounds), seconds: Number(values.seconds), upstream: port };
      const medians = await measureWork(work, part, options);
      results.push({ work, medians });
      console.log(table(work, medians, of));
    }
  } finally {
    await upstream.stop();
  }
  const folder = new URL('./results/', import.meta.url);
  mkdirSync(folder, { recursive: true });
  const name = new Date().toISOString().replaceAll(':', '-');
  const json = Object.fromEntries(results.map(({ work, medians }) => [work.name, Object.fromEntries(medians)]));
  writeFileSync(new URL(`${name}.json`, folder), `${JSON.stringify(json, undefined, 2)}\n`);
  writeFileSync(new URL(`${name}.svg`, folder), plot(results));
  console.log(`\nbench/results/${name}.json and .svg`);
}
