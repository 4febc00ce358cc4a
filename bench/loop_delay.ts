/** Preloaded into every thread (`NODE_OPTIONS=--import`): writes the longest pause of its event loop, a line a second. */
import { appendFileSync } from 'node:fs';
import { PerformanceObserver } from 'node:perf_hooks';
import { isMainThread, threadId } from 'node:worker_threads';

const file = process.env['PILLION_LOOP_DELAY'];
const TICK_MS = 1;

if (file !== undefined) {
  // This thread's own CPU time too: on a busy machine a pause may be the scheduler's.
  const cpuMs = (): number => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1000;
  };
  let last = performance.now();
  let lastCpu = cpuMs();
  let longestMs = 0;
  let longestCpuMs = 0;
  let longestGcMs = 0;
  new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) longestGcMs = Math.max(longestGcMs, duration);
  }).observe({ entryTypes: ['gc'] });
  setInterval(() => {
    const now = performance.now();
    const cpu = cpuMs();
    longestMs = Math.max(longestMs, now - last - TICK_MS);
    longestCpuMs = Math.max(longestCpuMs, cpu - lastCpu);
    last = now;
    lastCpu = cpu;
  }, TICK_MS).unref();
  setInterval(() => {
    const line = {
      thread: isMainThread ? 0 : threadId,
      atMs: Math.round(performance.timeOrigin + last),
      longestMs,
      longestCpuMs,
      longestGcMs,
    };
    appendFileSync(file, `${JSON.stringify(line)}\n`);
    longestMs = 0;
    longestCpuMs = 0;
    longestGcMs = 0;
  }, 1000).unref();
}
