/** How long the event loop of this process is kept, and readers that cost it nothing. */
import { spawn } from 'node:child_process';
import { performance, type PerformanceEntry, PerformanceObserver } from 'node:perf_hooks';

export interface Turns {
  /** Longest CPU time between two turns of this thread's event loop. */
  readonly longestMs: number;
  /** The same without the collections of garbage in it, which a loaded machine stretches at will. */
  readonly workMs: number;
}

/** Of the turns until `work` is done; in CPU time, so that what others on the machine take does not count. */
export async function longestTurn(work: Promise<unknown>): Promise<Turns> {
  const turns: { readonly startMs: number; readonly endMs: number; readonly cpuMs: number }[] = [];
  const collections: PerformanceEntry[] = [];
  const observer = new PerformanceObserver((list) => collections.push(...list.getEntries()));
  observer.observe({ entryTypes: ['gc'] });
  let done = false;
  const end = (): void => {
    done = true;
  };
  work.then(end, end);
  let last = process.threadCpuUsage();
  let startMs = performance.now();
  while (!done) {
    await new Promise((resolve) => setImmediate(resolve));
    const { user, system } = process.threadCpuUsage(last);
    const endMs = performance.now();
    if (user + system > 2000) turns.push({ startMs, endMs, cpuMs: (user + system) / 1000 });
    last = process.threadCpuUsage();
    startMs = performance.now();
  }
  await work;
  await new Promise((resolve) => setTimeout(resolve, 20));
  observer.disconnect();
  const collecting = ({ startMs, endMs }: { startMs: number; endMs: number }): number =>
    collections
      .filter((entry) => entry.startTime + entry.duration > startMs && entry.startTime < endMs)
      .reduce((sum, entry) => sum + entry.duration, 0);
  return {
    longestMs: Math.max(0, ...turns.map(({ cpuMs }) => cpuMs)),
    workMs: Math.max(0, ...turns.map((turn) => turn.cpuMs - collecting(turn))),
  };
}

/** Asks 127.0.0.1 in a process of its own, so that reading costs this one nothing. @returns bytes read. */
export function readElsewhere(port: number, path: string): Promise<number> {
  const program = `const r = await fetch(${JSON.stringify(`http://127.0.0.1:${port}${path}`)}); let n = 0; for await (const c of r.body) n += c.length; console.log(n);`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  return new Promise((resolve) => child.on('close', () => resolve(Number(out))));
}
