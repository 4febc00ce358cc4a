/** One operation's time: the best of several runs, each long enough for the optimiser and the clock. */

const RUN_MS = 200;
const RUNS = 5;

/** Prints `name  nanoseconds`. `operation` returns something of its work, so that none of it is optimised away. */
export function bench(name: string, operation: (index: number) => unknown): void {
  let sink: unknown;
  let index = 0;
  const run = (count: number): number => {
    const startMs = performance.now();
    for (let i = 0; i < count; i++) sink = operation(index++);
    return performance.now() - startMs;
  };
  let count = 64;
  while (run(count) < RUN_MS / 10) count *= 2;
  count = Math.ceil(count * 10);
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < RUNS; i++) best = Math.min(best, run(count));
  console.log(`  ${name.padEnd(48)} ${((best / count) * 1e6).toFixed(0).padStart(8)} ns${sink === run ? ' ' : ''}`);
}
