/** /cpuprofiler and /heapprofiler: profiles of the control thread and of every data thread, for Chrome's or VS Code's viewer. */
import { writeFile } from 'node:fs/promises';
import type { Worker } from 'node:worker_threads';
import { type AdminAnswer, type AdminEndpoint, text } from './state.ts';

/** Sampled, so that a profile names functions and holds no data of requests. */
const HEAP_SAMPLING_BYTES = 32_768;

type Kind = 'cpuprofile' | 'heapprofile';
type Stop = () => Promise<string>;

export class Profilers {
  /** Where profiles go: `<path>.<thread>.cpuprofile`. */
  readonly #path: string;
  readonly #workers: () => readonly (readonly [string, Worker])[];
  readonly #running = new Map<Kind, readonly (readonly [string, Stop])[]>();

  constructor(path: string, workers: () => readonly (readonly [string, Worker])[]) {
    this.#path = path;
    this.#workers = workers;
  }

  /** @returns false when it is running already. */
  async start(kind: Kind): Promise<boolean> {
    if (this.#running.has(kind)) return false;
    this.#running.set(kind, []);
    const stops: (readonly [string, Stop])[] = [['control', await startHere(kind)]];
    for (const [name, worker] of this.#workers()) {
      const handle = kind === 'cpuprofile' ? await worker.startCpuProfile() : await worker.startHeapProfile();
      stops.push([name, () => handle.stop()]);
    }
    this.#running.set(kind, stops);
    return true;
  }

  /** @returns the files written; none when it was not running. */
  async stop(kind: Kind): Promise<string[]> {
    const stops = this.#running.get(kind) ?? [];
    this.#running.delete(kind);
    const files: string[] = [];
    for (const [name, stop] of stops) {
      const file = `${this.#path}.${name}.${kind}`;
      try {
        await writeFile(file, await stop(), { mode: 0o600 });
        files.push(file);
      } catch (error) {
        // A thread that died in between has no profile to give; a folder that cannot be written is worth saying.
        if ((error as NodeJS.ErrnoException).code !== undefined && name === 'control') throw error;
      }
    }
    return files;
  }
}

async function startHere(kind: Kind): Promise<Stop> {
  const { Session } = await import('node:inspector/promises');
  const session = new Session();
  session.connect();
  const domain = kind === 'cpuprofile' ? 'Profiler' : 'HeapProfiler';
  await session.post(`${domain}.enable`);
  if (kind === 'cpuprofile') await session.post('Profiler.start');
  else await session.post('HeapProfiler.startSampling', { samplingInterval: HEAP_SAMPLING_BYTES });
  return async () => {
    const { profile } =
      kind === 'cpuprofile' ? await session.post('Profiler.stop') : await session.post('HeapProfiler.stopSampling');
    session.disconnect();
    return JSON.stringify(profile);
  };
}

function endpoint(path: string, help: string, kind: Kind): AdminEndpoint {
  return {
    path,
    help,
    parameters: { enable: `enables the ${kind === 'cpuprofile' ? 'CPU' : 'heap'} profiler; One of (y, n)` },
    mutates: true,
    async answer({ profilers }, query): Promise<AdminAnswer> {
      const enable = query.get('enable');
      if (enable !== 'y' && enable !== 'n') return text('?enable=<y|n>\n', 400);
      if (enable === 'y') {
        return (await profilers.start(kind)) ? text('OK\n') : text('the profiler is running already\n', 400);
      }
      try {
        const files = await profilers.stop(kind);
        return text(`OK\n${files.map((file) => `${file}\n`).join('')}`);
      } catch (error) {
        return text(`failure to write the profile: ${(error as Error).message}\n`, 500);
      }
    },
  };
}

export const profilerEndpoints: readonly AdminEndpoint[] = [
  endpoint('/cpuprofiler', 'enable/disable the CPU profiler', 'cpuprofile'),
  endpoint('/heapprofiler', 'enable/disable the heap profiler', 'heapprofile'),
];
