/** Saturated load by wrk or h2load: CPU a request, throughput, latency under it, memory; also while the configuration changes. */
import { readFileSync, writeFileSync } from 'node:fs';
import { cpuSeconds, residentBytes } from '../process_cpu.ts';
import type { Started } from '../peers.ts';
import { LOAD_CORE } from '../upstream.ts';
import type { Work } from '../works.ts';
import type { Figures } from './figures.ts';
import { loadHttp2 } from './h2load.ts';
import { load } from './wrk.ts';

const WARM_UP_SECONDS = 2;
const RELOAD_EVERY_MS = 200;

export async function measureLoad(running: Started, work: Work, seconds: number): Promise<Figures> {
  const options = {
    url: `http://127.0.0.1:${running.port}${work.path}`,
    connections: work.connections,
    core: (work.concurrency ?? 1) === 1 ? LOAD_CORE : undefined,
    bodyBytes: work.bodyBytes,
  };
  const { http2 } = work;
  const run = (during: number): ReturnType<typeof load> =>
    http2 === undefined ? load({ ...options, seconds: during }) : loadHttp2({ ...options, seconds: during }, http2);
  await run(WARM_UP_SECONDS);
  const reloading = work.kind === 'reload' ? new Reloading(running.configPath as string) : undefined;
  const before = cpuSeconds([running.pid]);
  const result = await run(seconds);
  const used = cpuSeconds([running.pid]) - before;
  return {
    cpuMicros: (used / result.requests) * 1e6,
    rps: result.requests / result.seconds,
    p50Ms: result.p50Ms,
    p99Ms: result.p99Ms,
    megabytes: residentBytes([running.pid]) / 1048576,
    errors: result.errors,
    reloads: reloading?.stop() ?? 0,
  };
}

/** Writes the file again and again, each time with another route and another listener. */
class Reloading {
  #count = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(path: string) {
    const text = readFileSync(path, 'utf8');
    this.#timer = setInterval(() => {
      const step = ++this.#count;
      writeFileSync(
        path,
        text
          .replace('"name":"all"', `"name":"all-${step}"`)
          .replace('"stat_prefix":"bench"', `"server_name":"step-${step % 7}","stat_prefix":"bench"`)
          .replace('"connect_timeout":"5s"', `"connect_timeout":"${5 + (step % 3)}s"`),
      );
    }, RELOAD_EVERY_MS);
  }

  /** @returns how often. */
  stop(): number {
    clearInterval(this.#timer);
    return this.#count;
  }
}
