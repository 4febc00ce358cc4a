/** Rounds over peers, in alternating order, each in a fresh process; medians. */
import { freePort, type Running } from './programs.ts';
import type { Figures } from './measure/figures.ts';
import { measureIdle } from './measure/idle.ts';
import { measureLoad } from './measure/load.ts';
import { measureRate } from './measure/rate.ts';
import { measureStart } from './measure/start.ts';
import { load } from './measure/wrk.ts';
import { type Peer, peers as known, type Started } from './peers.ts';
import type { Work } from './works.ts';

export interface RoundOptions {
  readonly rounds: number;
  readonly seconds: number;
  readonly upstream: number;
}

/** Without Envoy to measure there is no saturation of its own. */
const DEFAULT_SATURATION = 20_000;
let saturation: number | undefined;

/** @returns medians by peer, in the order of `peers`. */
export async function measureWork(
  work: Work,
  peers: readonly Peer[],
  options: RoundOptions,
): Promise<Map<string, Figures>> {
  const samples = new Map<string, Figures[]>(peers.map(({ name }) => [name, []]));
  if (work.kind === 'rate') saturation ??= await envoySaturation(work, options);
  for (let round = 0; round < options.rounds; round++) {
    // Every other round in reverse order: what drifts over time falls on all.
    for (const peer of round % 2 === 0 ? peers : [...peers].reverse()) {
      const running = await peer.start(work, await freePort(), options.upstream);
      try {
        samples.get(peer.name)?.push(await measure(running, work, options));
      } finally {
        await running.stop();
      }
    }
  }
  return new Map([...samples].map(([name, list]) => [name, medians(list)]));
}

function measure(running: Started, work: Work, { seconds }: RoundOptions): Promise<Figures> {
  switch (work.kind) {
    case 'load':
    case 'reload':
      return measureLoad(running, work, seconds);
    case 'rate':
      return measureRate(running, work, seconds, (saturation ?? DEFAULT_SATURATION) / 2);
    case 'idle':
      return measureIdle(running, work);
    case 'start':
      return measureStart(running, work);
    default:
      return work.kind satisfies never;
  }
}

async function envoySaturation(work: Work, { seconds, upstream }: RoundOptions): Promise<number> {
  const envoy = known.find(({ name }) => name === 'envoy');
  if (envoy?.available() !== true) return DEFAULT_SATURATION;
  const running: Running = await envoy.start(work, await freePort(), upstream);
  const url = `http://127.0.0.1:${running.port}${work.path}`;
  const { requests, seconds: took } = await load({ url, connections: work.connections, seconds, core: undefined });
  await running.stop();
  return requests / took;
}

function medians(list: readonly Figures[]): Figures {
  const out: Record<string, number> = {};
  for (const key of Object.keys(list[0] ?? {})) {
    const values = list.map((figures) => figures[key] ?? Number.NaN).sort((a, b) => a - b);
    const middle = values.length >> 1;
    out[key] =
      values.length % 2 === 1
        ? (values[middle] as number)
        : ((values[middle - 1] as number) + (values[middle] as number)) / 2;
  }
  return out;
}
