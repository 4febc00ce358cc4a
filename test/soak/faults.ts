/** Replicas that take turns in misbehaving, for as long as one likes: nothing grows, nothing stays open, nothing fails. */
import assert from 'node:assert/strict';
import { ISTIO_RETRIES, replicaResources } from '../integration/nothing_falls_over.ts';
import { load, type Misdeed, Replica } from '../support/fault_harness.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

const MISDEEDS: readonly Misdeed[] = [
  'half503',
  'reset',
  'stall',
  'slow',
  'halfClose',
  'garbage',
  'flood',
  'closeIdle',
];
const TURN_MS = 500;
/** From the end of the first third on. */
const LONG_SECONDS = 60;
const MOST_GROWTH_BYTES = 48 * 1024 * 1024;

export async function faults(scope: Scope, seconds: number, log: (line: string) => void): Promise<void> {
  const replicas = await Promise.all([1, 2, 3].map(() => Replica.start(scope)));
  const proxy = await startTestProxy(
    scope,
    replicaResources(
      replicas.map(({ port }) => port),
      { ...ISTIO_RETRIES, per_try_timeout: '0.25s' },
    ),
    { concurrency: 2 },
  );
  let turn = 0;
  const timer = setInterval(() => {
    const [first, second] = [replicas[turn % 3], replicas[(turn + 1) % 3]] as [Replica, Replica];
    for (const replica of replicas) replica.misdeed = 'fine';
    first.misdeed = MISDEEDS[turn % MISDEEDS.length] as Misdeed;
    if (turn % 4 === 0) {
      second.kill();
      setTimeout(() => void second.restart().catch(() => {}), TURN_MS / 2);
    }
    for (const replica of replicas) replica.seen.clear();
    turn++;
  }, TURN_MS);
  const sizes: number[] = [];
  let asked = 0;
  const failed = new Map<string, number>();
  const resources = (): number => process.getActiveResourcesInfo().length;
  const resourcesBefore = resources();
  for (let part = 0; part < 6; part++) {
    const report = await load({ port: proxy.port(), requests: 0, concurrency: 8, leastMs: (seconds * 1000) / 6 });
    asked += report.asked;
    for (const [answer, count] of report.failed) failed.set(answer, (failed.get(answer) ?? 0) + count);
    const size = process.memoryUsage.rss();
    sizes.push(size);
    log(`${asked} requests, ${Math.round(size / 2 ** 20)} MB, ${resources()} resources`);
  }
  clearInterval(timer);
  for (const replica of replicas) replica.misdeed = 'fine';
  const idle = [
    'cluster.up.upstream_rq_active',
    'cluster.up.upstream_rq_pending_active',
    'http.test.downstream_rq_active',
    'http.test.downstream_cx_active',
  ];
  for (let i = 0; idle.some((name) => proxy.value(name) !== 0) && i < 400; i++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  for (const name of idle) assert.equal(proxy.value(name), 0, name);
  assert.equal(proxy.value('server.worker_restarts'), 0);
  assert.deepEqual(proxy.errors, []);
  const growth = (sizes.at(-1) as number) - (sizes[1] as number);
  // In seconds the heap is still finding its size.
  const long = seconds >= LONG_SECONDS;
  assert.ok(!long || growth < MOST_GROWTH_BYTES, `${Math.round(growth / 2 ** 20)} MB more than after a third`);
  assert.ok(resources() <= resourcesBefore + 24, `${resources()} resources, ${resourcesBefore} before`);
  // Two replicas may be bad at the same moment, and the third may be the one that a last attempt did not reach.
  const failures = [...failed.values()].reduce((sum, count) => sum + count, 0);
  assert.ok(failures <= asked / 1000, `${failures} of ${asked}: ${[...failed.keys()].join()}`);
}
