/** A steady load for bench/push.ts: `push_load.ts PORT RATE SECONDS`, the first two not measured. Prints one line of JSON. */
import { Agent, request } from 'node:http';
import { build } from 'hdr-histogram-js';

const [port = 0, rate = 0, seconds = 0] = process.argv.slice(2).map(Number);
const agent = new Agent({ keepAlive: true, maxSockets: 64 });
const latency = build({ lowestDiscernibleValue: 1, highestTrackableValue: 60_000_000 });
/** While this process itself gets warm. */
const unmeasured = rate * 2;
const total = rate * seconds + unmeasured;
let sent = 0;
let ended = 0;
let failed = 0;
const startMs = performance.now();

function one(dueMs: number): void {
  const end = (isFine: boolean): void => {
    ended++;
    if (!isFine) failed++;
    // From when it was due: a client that had to wait has waited.
    if (ended > unmeasured) latency.recordValue(Math.max(1, Math.round((performance.now() - dueMs) * 1000)));
    if (ended === total) report();
  };
  const host = `c${sent % 100}.test`;
  request({ port, host: '127.0.0.1', agent, headers: { host } }, (response) => {
    response.resume();
    response.once('end', () => end(response.statusCode === 200));
    response.once('error', () => end(false));
  })
    .once('error', () => end(false))
    .end();
}

const timer = setInterval(() => {
  const due = Math.min(total, Math.floor(((performance.now() - startMs) / 1000) * rate));
  while (sent < due) {
    one(startMs + (sent * 1000) / rate);
    sent++;
  }
  if (sent === total) clearInterval(timer);
}, 1);

function report(): void {
  const ms = (percentile: number): number => latency.getValueAtPercentile(percentile) / 1000;
  console.log(
    JSON.stringify({ total, failed, p50: ms(50), p99: ms(99), p999: ms(99.9), max: latency.maxValue / 1000 }),
  );
  process.exit(0);
}
