/**
 * Configuration at scale: `sh bin/node-26 bench/push.ts [CLUSTERS] [SECONDS]`. A control plane pushes CLUSTERS clusters
 * with 10 endpoints each (10,000), then 1,000 endpoint lists of 20 a second while 2,000 requests a second pass.
 */
import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Json } from '../config/resources.ts';
import { AdsServer, bytes, text, varint } from '../test/support/ads_server.ts';
import { routeConfig } from '../test/support/envoy_resources.ts';
import { bootstrapFor } from '../test/support/pushed_proxy.ts';
import { adsListener, edsCluster } from '../test/support/xds_resources.ts';
import { cpuSeconds, residentBytes } from './process_cpu.ts';

const [clusters = 10_000, seconds = 10] = process.argv.slice(2).map(Number);
const ENDPOINTS = 10;
const UPDATED_ENDPOINTS = 20;
const UPDATES_PER_SECOND = 1000;
const REQUESTS_PER_SECOND = 2000;
/** A prime: no number of clusters that is not a multiple of it shares a divisor with it. */
const STRIDE = 7919;
const root = fileURLToPath(new URL('..', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'pillion-push-'));
const delays = join(folder, 'loop_delay');
const scope = { after: (close: () => unknown) => void closers.push(close) };
const closers: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];

/** In a process of its own: this one has a thousand updates a second to encode. */
function startBackend(): Promise<number> {
  const child = spawn(process.execPath, [join(root, 'cli/main.ts'), 'echo', '--listen', '0.0.0.0:0'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  closers.push(() => child.kill('SIGKILL'));
  return new Promise((resolve) => {
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      const found = /http:\/\/[\d.]+:(\d+)/.exec(text);
      if (found !== null) resolve(Number(found[1]));
    });
  });
}

const backendPort = await startBackend();

/** Those that traffic goes to are on this machine; the others are never called. */
function address(index: number, n: number, round: number): [ip: string, port: number] {
  return index < 100
    ? [`127.0.${n}.${1 + ((index + round) % 250)}`, backendPort]
    : [`10.${(index >> 8) & 255}.${index & 255}.${n + 1}`, 80 + (round % 1000)];
}

function assignment(index: number, count: number): Json {
  const lb_endpoints = Array.from({ length: count }, (_, n) => {
    const [ip, port] = address(index, n, 0);
    return { endpoint: { address: { socket_address: { address: ip, port_value: port } } } };
  });
  return { cluster_name: `c${index}`, endpoints: [{ lb_endpoints }] };
}

/** The same by hand: this process must not be what is measured. */
function encodeAssignment(index: number, count: number, round: number): Buffer {
  const endpoints = Array.from({ length: count }, (_, n) => {
    const [ip, port] = address(index, n, round);
    const socket = Buffer.concat([text(2, ip), varint(3 * 8), varint(port)]);
    return bytes(2, bytes(1, bytes(1, bytes(1, socket))));
  });
  return Buffer.concat([text(1, `c${index}`), bytes(2, Buffer.concat(endpoints))]);
}

const ads = new AdsServer();
await ads.listen('127.0.0.1:0');
closers.push(() => ads.close());
const calls = Array.from({ length: 100 }, (_, index) => ({
  match: { prefix: '/', headers: [{ name: ':authority', string_match: { exact: `c${index}.test` } }] },
  route: { cluster: `c${index}` },
}));
const first = {
  clusters: Array.from({ length: clusters }, (_, index) => edsCluster(`c${index}`)),
  endpoints: Array.from({ length: clusters }, (_, index) => assignment(index, ENDPOINTS)),
  listeners: [adsListener('l', 'r')],
  routes: [routeConfig(calls, 'r')],
};

async function startProxy(from = ads): Promise<{ pid: number; port: number; readyMs: number; stop(): void }> {
  const bootstrap = {
    ...bootstrapFor(from.port),
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } },
  };
  const startedMs = performance.now();
  const child = spawn(
    join(root, 'bin/pillion'),
    ['run', '--config-yaml', JSON.stringify(bootstrap), '--concurrency', '2', '-l', 'info'],
    {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: {
        ...process.env,
        PILLION_LOOP_DELAY: delays,
        NODE_OPTIONS: `--disable-warning=ExperimentalWarning --import=${join(root, 'bench/loop_delay.ts')}`,
      },
    },
  );
  scope.after(() => child.kill('SIGKILL'));
  let log = '';
  return new Promise((resolve, reject) => {
    child.once('exit', () => reject(new Error(log)));
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      log = (log + text).slice(-10_000);
      const found = /"?l listens on [\d.]+:(\d+)/.exec(log);
      if (found === null) return;
      child.removeAllListeners('exit');
      const readyMs = performance.now() - startedMs;
      resolve({ pid: child.pid as number, port: Number(found[1]), readyMs, stop: () => child.kill('SIGTERM') });
    });
  });
}

function load(port: number): Promise<{ failed: number; p50: number; p99: number; p999: number; max: number }> {
  const args = [join(root, 'bench/push_load.ts'), String(port), String(REQUESTS_PER_SECOND), String(seconds)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  return new Promise((resolve) =>
    child.stdout.setEncoding('utf8').once('data', (text: string) => resolve(JSON.parse(text))),
  );
}

/** The longest turn of each thread's event loop since `sinceMs`: by the clock, and of its own CPU time. */
function longestPauses(sinceMs: number): string {
  const longest = new Map<number, { clock: number; cpu: number; gc: number }>();
  for (const line of readFileSync(delays, 'utf8').trim().split('\n')) {
    const { thread, atMs, longestMs, longestCpuMs, longestGcMs } = JSON.parse(line) as Record<string, number> & {
      thread: number;
    };
    if ((atMs ?? 0) < sinceMs) continue;
    const before = longest.get(thread) ?? { clock: 0, cpu: 0, gc: 0 };
    longest.set(thread, {
      clock: Math.max(before.clock, longestMs ?? 0),
      cpu: Math.max(before.cpu, longestCpuMs ?? 0),
      gc: Math.max(before.gc, longestGcMs ?? 0),
    });
  }
  return [...longest]
    .map(([thread, { clock, cpu, gc }]) => {
      const name = thread === 0 ? 'control' : `data ${thread}`;
      return `${name} ${clock.toFixed(1)} ms (${cpu.toFixed(1)} of its CPU; collecting ${gc.toFixed(1)})`;
    })
    .join(', ');
}

const cores = (before: number): string => `${((cpuSeconds([pid]) - before) / (seconds + 2)).toFixed(2)} cores`;
const mib = (bytes: number): string => `${(bytes / 1024 / 1024).toFixed(0)} MiB`;
const sleep = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

// One cluster, for the memory without.
ads.set({ ...first, clusters: first.clusters.slice(0, 1), endpoints: first.endpoints.slice(0, 1) });
const small = await startProxy();
await sleep(1500);
const emptyBytes = residentBytes([small.pid]);
console.log(`1 cluster: ready ${small.readyMs.toFixed(0)} ms after the start, ${mib(emptyBytes)}`);

/** Into a proxy that runs: until the endpoints of the last are answered. */
async function pushMore(count: number): Promise<void> {
  const sinceMs = Date.now();
  ads.set({ endpoints: first.endpoints.slice(0, count) });
  ads.answers.length = 0;
  const pushedMs = performance.now();
  await ads.push({ clusters: first.clusters.slice(0, count) });
  const last = first.clusters.slice(0, count).at(-1)?.['name'] as string;
  await ads.until(
    'their endpoints are answered',
    () => ads.names.get('endpoints')?.has(last) === true && ads.answers.at(-1)?.list === 'endpoints',
    60_000,
  );
  const appliedMs = performance.now() - pushedMs;
  await sleep(1500);
  console.log(
    `${count} clusters x ${ENDPOINTS} into a running proxy: applied ${appliedMs.toFixed(0)} ms after the push`,
  );
  console.log(`  longest pauses: ${longestPauses(sinceMs)}`);
}

await pushMore(1000);
await pushMore(clusters);
small.stop();
await sleep(500);

// One endpoint a cluster, to tell what a cluster takes and what an endpoint does.
ads.set({ endpoints: Array.from({ length: clusters }, (_, index) => assignment(index, 1)), clusters: first.clusters });
const single = await startProxy();
await sleep(2500);
const singleBytes = residentBytes([single.pid]);
single.stop();
await sleep(500);

ads.set(first);
const beganMs = Date.now();
const { pid, port, readyMs } = await startProxy();
console.log(`${clusters} clusters x ${ENDPOINTS}: ready ${readyMs.toFixed(0)} ms after the start`);
await sleep(2500);
console.log(`  longest pauses meanwhile, loading of modules included: ${longestPauses(beganMs)}`);
const fullBytes = residentBytes([pid]);
const perEndpoint = (fullBytes - singleBytes) / (clusters * (ENDPOINTS - 1));
console.log(
  `  ${mib(fullBytes - emptyBytes)} more than with one: ${Math.round((singleBytes - emptyBytes) / clusters - perEndpoint)} bytes a cluster, ${Math.round(perEndpoint)} an endpoint`,
);

await load(port);
const quietMs = Date.now();
const quietCpu = cpuSeconds([pid]);
const quiet = await load(port);
console.log(`${REQUESTS_PER_SECOND} requests/s without updates: ${JSON.stringify(quiet)}`);
console.log(`  ${cores(quietCpu)}; longest pauses: ${longestPauses(quietMs + 1000)}`);

interface Updates {
  readonly sent: number;
  readonly perSecond: number;
  readonly answered: number;
}

/** Requests through the proxy, while a control plane sends its updates. */
async function loadWithUpdates(
  from: AdsServer,
): Promise<Updates & { readonly busy: Awaited<ReturnType<typeof load>> }> {
  const answeredBefore = from.answers.length;
  const startMs = performance.now();
  let round = 0;
  let sent = 0;
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - startMs) / 1000) * UPDATES_PER_SECOND);
    for (; sent < due; sent++) {
      // Spread, so that every second has its share of clusters with traffic; each comes once in a round.
      const index = (sent * STRIDE) % clusters;
      if (sent % clusters === 0) round++;
      from.sendEncoded('endpoints', `c${index}`, encodeAssignment(index, UPDATED_ENDPOINTS, round));
    }
  }, 1);
  const busy = await load(port);
  clearInterval(timer);
  const perSecond = sent / ((performance.now() - startMs) / 1000);
  return { sent, perSecond, answered: from.answers.length - answeredBefore, busy };
}

const busyMs = Date.now();
const busyCpu = cpuSeconds([pid]);
const { busy, sent, perSecond, answered } = await loadWithUpdates(ads);
console.log(`${REQUESTS_PER_SECOND} requests/s with ${perSecond.toFixed(0)} updates/s: ${JSON.stringify(busy)}`);
console.log(
  `  ${answered} of ${sent} updates answered; ${cores(busyCpu)}; longest pauses: ${longestPauses(busyMs + 1000)}`,
);
console.log(`  p99 ${(busy.p99 / quiet.p99).toFixed(2)} times that without; ${mib(residentBytes([pid]))}`);

// How much of that is the machine's: the same updates go to another proxy beside the one that is asked.
const otherAds = new AdsServer();
await otherAds.listen('127.0.0.1:0');
otherAds.set(first);
const other = await startProxy(otherAds);
await sleep(4000);
const { busy: beside } = await loadWithUpdates(otherAds);
console.log(`${REQUESTS_PER_SECOND} requests/s with the updates to another proxy: ${JSON.stringify(beside)}`);
console.log(`  p99 ${(beside.p99 / quiet.p99).toFixed(2)} times that without`);
other.stop();
await otherAds.close();
for (const close of closers.reverse()) await close();
process.exit(busy.failed === 0 ? 0 : 1);
