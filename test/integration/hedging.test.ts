/** Hedging beyond what Envoy is compared with (retry_cases.ts): hosts, limits, clients that leave, what is counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

const PREVIOUS_HOSTS = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate' },
};

/** Tries are overdue after 0.1 s. */
async function start(
  t: Scope,
  ports: readonly number[],
  { policy = {}, cluster = {} }: { policy?: Json; cluster?: Json },
): Promise<TestProxy> {
  const retry = {
    retry_on: '5xx',
    per_try_timeout: '0.1s',
    retry_back_off: { base_interval: '0.001s', max_interval: '0.001s' },
    retry_host_predicate: [PREVIOUS_HOSTS],
    host_selection_retry_max_attempts: '3',
    ...policy,
  };
  return startTestProxy(t, [
    httpListener({
      routes: routeConfig([
        {
          name: 'only',
          match: { prefix: '/' },
          route: { cluster: 'up', retry_policy: retry, hedge_policy: { hedge_on_per_try_timeout: true } },
        },
      ]),
    }),
    staticCluster('up', ports, { lb_policy: 'ROUND_ROBIN', ...cluster }),
  ]);
}

const silent = (t: Scope): Promise<RawUpstream> => RawUpstream.start(t, () => {});

test('the second try goes to another host, the first one is cancelled when that has answered', async (t) => {
  const [stalled, good] = [await silent(t), await RawUpstream.start(t, answering('fast'))];
  const proxy = await start(t, [stalled.port, good.port], {
    // The good one shall answer within it on a busy machine too.
    policy: { per_try_timeout: '0.6s' },
    cluster: { outlier_detection: { consecutive_local_origin_failure: 1, split_external_local_origin_errors: true } },
  });
  for (let i = 0; i < 4; i++) {
    const response = await fetch(`http://127.0.0.1:${proxy.port()}/${i}`);
    assert.equal(`${response.status} ${await response.text()}`, '200 fast');
  }
  const hedges = stalled.received.join('').match(/GET /g)?.length ?? 0;
  assert.ok(hedges > 0);
  await eventually('all connections of the stalled host are closed', () => stalled.sockets.every((s) => s.destroyed));
  await proxy.counted();
  assert.equal(proxy.value('cluster.up.upstream_rq_retry'), hedges);
  assert.equal(proxy.value('cluster.up.upstream_rq_retry_success'), hedges);
  assert.equal(proxy.value('cluster.up.upstream_rq_tx_reset'), hedges);
  assert.equal(proxy.value('cluster.up.upstream_rq_per_try_timeout'), 0, 'none was cancelled for its time');
  assert.equal(proxy.value('cluster.up.upstream_rq_active'), 0);
  assert.ok(proxy.value('cluster.up.outlier_detection.ejections_detected_consecutive_local_origin_failure') > 0);
});

test('no more hedges at a time than retries are allowed: the others wait for what they have', async (t) => {
  const upstream = await silent(t);
  const proxy = await start(t, [upstream.port], {
    policy: { num_retries: 1, retry_back_off: { base_interval: '86400s', max_interval: '86400s' } },
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 1 }] } },
  });
  const clients = [1, 2, 3].map((i) => new RawClient(t, proxy.port()).send(`GET /${i} HTTP/1.1\r\nhost: a\r\n\r\n`));
  await eventually('two overflow', () => proxy.value('cluster.up.upstream_rq_retry_overflow') === 2);
  assert.equal(proxy.value('cluster.up.upstream_rq_retry'), 1);
  await eventually('the upstream has all', () => (upstream.all.match(/GET /g) ?? []).length === 3);
  const ok = 'HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate';
  for (const socket of upstream.sockets) socket.write(ok);
  for (const client of clients) assert.match(await client.until((text) => text.endsWith('late')), /^HTTP\/1.1 200 /);
  // The place among the retries is free again.
  await eventually('nobody holds it', () => proxy.value('cluster.up.circuit_breakers.default.rq_retry_open') === 0);
});

test('a client that leaves ends both tries', async (t) => {
  const upstreams = [await silent(t), await silent(t)];
  const proxy = await start(
    t,
    upstreams.map(({ port }) => port),
    {},
  );
  const client = new RawClient(t, proxy.port()).send('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  await eventually('both have it', () => upstreams.every(({ received }) => (received[0] ?? '').includes('\r\n\r\n')));
  client.socket.destroy();
  await eventually('both are let go', () => upstreams.every(({ sockets }) => sockets.every((s) => s.destroyed)));
  await proxy.counted();
  assert.equal(proxy.value('cluster.up.upstream_rq_active'), 0);
  assert.deepEqual(proxy.errors, []);
});

test('a client that reads slowly is waited for by whichever try wins', async (t) => {
  const size = 8_000_000;
  const first = await silent(t);
  const proxy = await start(t, [first.port, (await silent(t)).port], {});
  const client = new RawClient(t, proxy.port()).send('GET / HTTP/1.1\r\nhost: a\r\n\r\n');
  await eventually(
    'it is sent',
    () => first.received.join('') !== '' || proxy.value('cluster.up.upstream_rq_retry') > 0,
  );
  await eventually('it is sent twice', () => proxy.value('cluster.up.upstream_rq_total') === 2);
  client.socket.pause();
  const [socket] = first.sockets;
  socket?.write(`HTTP/1.1 200 OK\r\ncontent-length: ${size}\r\n\r\n${'x'.repeat(size)}`);
  await eventually('the upstream is held', () => (socket?.writableLength ?? 0) > 0);
  client.socket.resume();
  const received = await client.until((text) => text.length >= size);
  assert.ok(received.endsWith('x'));
});
