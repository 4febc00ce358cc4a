/** Under load, with replicas that die, fail, reset, stall, lie: no idempotent request fails, nothing else is sent twice. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { load, type Misdeed, Replica } from '../support/fault_harness.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { HTTP2, ISTIO_RETRIES, prove, replicaResources } from './nothing_falls_over.ts';

for (const protocol of ['http1', 'http2'] as const) {
  test(`three replicas over ${protocol}, one dies again and again, one fails every other time: no request fails, 1.4 attempts each at most`, async (t) => {
    const { asked, failed, attemptsEach, kills } = await prove(t, 1500, 600, 2, protocol);
    // HTTP/2 servers send head and body apart: an answer that had begun when its server died cannot be asked for again.
    const begun = protocol === 'http2' ? /^\w+ read ECONNRESET$|^\w+ aborted$/ : /^$/;
    assert.deepEqual(
      [...failed].filter(([answer]) => !begun.test(answer)),
      [],
    );
    assert.ok([...failed.values()].reduce((sum, count) => sum + count, 0) <= asked / 100);
    assert.ok(attemptsEach <= 1.4, `${attemptsEach} attempts each`);
    assert.ok(asked >= 1500 && kills >= 2);
  });
}

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
for (const protocol of ['http1', 'http2'] as const) {
  for (const misdeed of MISDEEDS) {
    test(`one replica of three does ${misdeed} over ${protocol}: no idempotent request fails`, async (t) => {
      const replicas = await Promise.all([1, 2, 3].map(() => Replica.start(t, protocol)));
      (replicas[0] as Replica).misdeed = misdeed;
      const retries = { ...ISTIO_RETRIES, per_try_timeout: '0.25s' };
      const ports = replicas.map(({ port }) => port);
      const proxy = await startTestProxy(t, replicaResources(ports, retries, protocol === 'http2' ? HTTP2 : {}));
      const { failed } = await load({ port: proxy.port(), requests: 200, concurrency: 8 });
      assert.deepEqual([...failed], []);
    });
  }
}

test('an upstream that closes kept-alive connections at random: no 5xx for idempotent methods, no POST twice, without any policy', async (t) => {
  const replica = await Replica.start(t);
  replica.misdeed = 'closeIdle';
  const proxy = await startTestProxy(t, replicaResources([replica.port], { retry_on: '', num_retries: 0 }));
  const idempotent = await load({
    port: proxy.port(),
    requests: 600,
    concurrency: 4,
    methods: ['GET', 'PUT', 'DELETE'],
  });
  assert.deepEqual([...idempotent.failed], []);
  replica.seen.clear();
  const posts = await load({ port: proxy.port(), requests: 300, concurrency: 4, methods: ['POST'] });
  // A POST that met a dying connection may fail. It is never sent twice.
  for (const answer of posts.failed.keys()) assert.match(answer, /^POST 503 /);
  assert.deepEqual(
    [...replica.seen.values()].filter(({ times }) => times > 1),
    [],
  );
});
