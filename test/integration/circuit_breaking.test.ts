/** Circuit breakers over two threads, as Istio's own task tries them: limits hold, and nobody waits for nothing. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

/** Answers come after so long, or when the test lets them go. */
async function start(t: Scope, thresholds: Json, answers: number | 'held', cluster: Json = {}) {
  let open = 0;
  let most = 0;
  const held: (() => void)[] = [];
  const upstream = await RawUpstream.start(t, (received, socket) => {
    if (!received.endsWith('\r\n\r\n')) return;
    open++;
    most = Math.max(most, open);
    const answer = (): void => {
      open--;
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
    };
    if (answers === 'held') held.push(answer);
    else setTimeout(answer, answers);
  });
  const proxy = await startTestProxy(
    t,
    [
      httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up', timeout: '0s' } }]) }),
      staticCluster('up', [upstream.port], { circuit_breakers: { thresholds: [thresholds] }, ...cluster }),
    ],
    { concurrency: 2 },
  );
  const release = (): void => {
    for (const answer of held.splice(0)) answer();
  };
  return { proxy, upstream, most: () => most, release };
}

async function ask(proxy: TestProxy): Promise<{ status: number; text: string; overloaded: string | null }> {
  const response = await fetch(`http://127.0.0.1:${proxy.port()}/`, { headers: { connection: 'close' } });
  return {
    status: response.status,
    text: await response.text(),
    overloaded: response.headers.get('x-envoy-overloaded'),
  };
}

const oneConnection: Json = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      common_http_protocol_options: { max_requests_per_connection: 1 },
      explicit_http_config: { http_protocol_options: {} },
    },
  },
};

test("Istio's task: one connection, one pending: some pass, some overflow, and nobody hangs", async (t) => {
  const { proxy } = await start(t, { max_connections: 1, max_pending_requests: 1 }, 5, oneConnection);
  const overflowed: string[] = [];
  let passed = 0;
  // Three clients, twenty requests each (fortio -c 3 -n 60).
  await Promise.all(
    [1, 2, 3].map(async () => {
      for (let i = 0; i < 20; i++) {
        const { status, text, overloaded } = await ask(proxy);
        if (status === 200) passed++;
        else overflowed.push(`${status} ${text} ${overloaded}`);
      }
    }),
  );
  assert.ok(passed >= 20, `${passed} of 60 passed`);
  assert.ok(overflowed.length > 0, 'nothing overflowed');
  const answer = '503 upstream connect error or disconnect/reset before headers. reset reason: overflow true';
  assert.deepEqual([...new Set(overflowed)], [answer]);
  assert.equal(proxy.value('cluster.up.upstream_rq_pending_overflow'), overflowed.length);
  assert.equal(proxy.value('cluster.up.upstream_rq_pending_active'), 0);
  // One client alone is never refused.
  for (let i = 0; i < 10; i++) assert.equal((await ask(proxy)).status, 200);
});

test('max_requests holds exactly over both threads', async (t) => {
  const { proxy, most, release } = await start(t, { max_requests: 5, max_pending_requests: 100 }, 'held');
  let answered = 0;
  const asked = Array.from({ length: 30 }, () => ask(proxy).finally(() => answered++));
  await eventually('the others are refused while five wait', () => answered === 25 && most() === 5);
  release();
  const answers = await Promise.all(asked);
  assert.equal(most(), 5);
  assert.equal(answers.filter(({ status }) => status === 200).length, 5);
  assert.equal(answers.filter(({ overloaded }) => overloaded === 'true').length, 25);
});

test('a limit of 0 refuses everything', async (t) => {
  for (const thresholds of [{ max_pending_requests: 0 }, { max_requests: 0 }]) {
    const { proxy } = await start(t, thresholds, 1);
    const { status, overloaded } = await ask(proxy);
    assert.deepEqual([status, overloaded], [503, 'true']);
  }
});

test('open gauges say which breaker is open, and what remains where that is asked for', async (t) => {
  const { proxy, most, release } = await start(t, { max_requests: 2, track_remaining: true }, 'held');
  const asked = [ask(proxy), ask(proxy)];
  const gauge = (name: string): number => proxy.value(`cluster.up.circuit_breakers.default.${name}`);
  await eventually('it is open', () => gauge('rq_open') === 1);
  assert.equal(gauge('remaining_rq'), 0);
  assert.equal(gauge('cx_open'), 0);
  await eventually('both have reached the upstream', () => most() === 2);
  release();
  await Promise.all(asked);
  await eventually('it is closed again', () => gauge('rq_open') === 0);
  assert.equal(gauge('remaining_rq'), 2);
});

test('clusters without limits of their own have the gauges as soon as a thread uses them', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const limits = { max_connections: 4294967295, max_requests: 4294967295, track_remaining: true };
  const none = { ...limits, max_pending_requests: 4294967295, max_retries: 4294967295 };
  const route = (prefix: string, cluster: string): Json => ({ match: { prefix }, route: { cluster } });
  const proxy = await startTestProxy(t, [
    httpListener({ routes: routeConfig([route('/none', 'none'), route('/idle', 'idle'), route('/', 'up')]) }),
    staticCluster('up', [upstream.port]),
    staticCluster('none', [upstream.port], { circuit_breakers: { thresholds: [none] } }),
    staticCluster('idle', [upstream.port]),
  ]);
  for (const path of ['/', '/none']) await fetch(`http://127.0.0.1:${proxy.port()}${path}`);
  const has = (name: string): boolean => proxy.running.statistics.has(`cluster.${name}`);
  await eventually(
    'both are read',
    () => has('up.circuit_breakers.high.rq_open') && has('none.circuit_breakers.high.rq_open'),
  );
  for (const name of ['cx_open', 'cx_pool_open', 'rq_open', 'rq_pending_open', 'rq_retry_open']) {
    assert.ok(has(`up.circuit_breakers.default.${name}`), name);
    assert.equal(proxy.value(`cluster.up.circuit_breakers.default.${name}`), 0);
  }
  assert.equal(has('up.circuit_breakers.default.remaining_rq'), false);
  await eventually(
    'no request is left',
    () => proxy.value('cluster.none.circuit_breakers.default.remaining_rq') === 4294967295,
  );
  assert.equal(has('idle.circuit_breakers.high.rq_open'), false);
});
