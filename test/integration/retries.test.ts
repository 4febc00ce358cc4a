/** Retries beyond what Envoy can be compared with: other hosts, bodies, limits, clients that leave, what is written down. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { MisbehavingUpstream } from '../support/misbehaving_upstream.ts';
import { RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { SwitchedUpstream } from '../support/switched_upstream.ts';
import { eventually } from '../support/eventually.ts';

const PREVIOUS_HOSTS = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate' },
};
const QUICK = { retry_back_off: { base_interval: '0.001s', max_interval: '0.001s' } };

async function start(t: Scope, ports: readonly number[], policy: Json, more: { route?: Json; cluster?: Json } = {}) {
  return startTestProxy(t, [
    httpListener({
      routes: routeConfig([
        {
          name: 'only',
          match: { prefix: '/' },
          ...more.route,
          route: { cluster: 'up', retry_policy: { ...QUICK, ...policy } },
        },
      ]),
    }),
    staticCluster('up', ports, more.cluster),
  ]);
}

async function ask(proxy: TestProxy, path = '/', init: RequestInit = {}): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${proxy.port()}${path}`, init);
  return `${response.status} ${await response.text()}`;
}

for (const lb_policy of ['ROUND_ROBIN', 'LEAST_REQUEST', 'RANDOM', 'RING_HASH', 'MAGLEV']) {
  test(`previous_hosts with ${lb_policy}: a retry goes to a host that was not tried`, async (t) => {
    const upstreams = await Promise.all(['a', 'b', 'c'].map((name) => SwitchedUpstream.start(t, name)));
    const [a, b] = upstreams as [SwitchedUpstream, SwitchedUpstream];
    a.status = 503;
    b.status = 503;
    const proxy = await start(
      t,
      upstreams.map(({ port }) => port),
      {
        retry_on: '5xx',
        num_retries: 2,
        retry_host_predicate: [PREVIOUS_HOSTS],
        host_selection_retry_max_attempts: '5',
      },
      { cluster: { lb_policy } },
    );
    for (let i = 0; i < 30; i++) assert.equal(await ask(proxy), '200 c');
  });
}

test('previous_priorities: a retry leaves the priority that was tried', async (t) => {
  const [local, remote] = await Promise.all(['local', 'remote'].map((name) => SwitchedUpstream.start(t, name)));
  (local as SwitchedUpstream).status = 503;
  const endpoint = (port = 0) => ({
    lb_endpoints: [{ endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: port } } } }],
  });
  const proxy = await start(
    t,
    [],
    {
      retry_on: '5xx',
      num_retries: 1,
      retry_priority: {
        name: 'envoy.retry_priorities.previous_priorities',
        typed_config: {
          '@type':
            'type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig',
          update_frequency: 1,
        },
      },
    },
    {
      cluster: {
        load_assignment: {
          cluster_name: 'up',
          endpoints: [endpoint(local?.port), { ...endpoint(remote?.port), priority: 1 }],
        },
      },
    },
  );
  for (let i = 0; i < 10; i++) assert.equal(await ask(proxy), '200 remote');
});

test('a body is sent again whole, and one beyond the limit is not sent again and counted', async (t) => {
  const upstream = await MisbehavingUpstream.start(t);
  const proxy = await start(
    t,
    [upstream.port],
    { retry_on: '5xx', num_retries: 3 },
    { route: { per_request_buffer_limit_bytes: 100_000 } },
  );
  const small = 'x'.repeat(99_000);
  assert.equal(await ask(proxy, '/small/do/status:503/ok', { method: 'PUT', body: small }), '200 ok');
  assert.deepEqual(
    upstream.seen('/small/do/status:503/ok').map((body) => body.length),
    [99_000, 99_000],
  );
  const large = 'x'.repeat(300_000);
  assert.equal(await ask(proxy, '/large/do/status:503/ok', { method: 'PUT', body: large }), '503 says 503');
  assert.equal(upstream.seen('/large/do/status:503/ok').length, 1);
  assert.equal(proxy.value('cluster.up.retry_or_shadow_abandoned'), 1);
});

test('a body without end is not kept, and flows', async (t) => {
  let received = 0;
  const upstream = await RawUpstream.start(t, (all) => {
    received = all.length;
  });
  const proxy = await start(t, [upstream.port], { retry_on: '5xx', num_retries: 3 });
  const client = new RawClient(t, proxy.port());
  client.send('PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n');
  const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`;
  for (let i = 0; i < 100; i++) client.send(chunk);
  await eventually('six megabytes have gone through', () => received > 6_000_000);
  assert.equal(proxy.value('cluster.up.retry_or_shadow_abandoned'), 1);
});

test('a client that leaves during the back-off ends everything', async (t) => {
  const upstream = await MisbehavingUpstream.start(t);
  const proxy = await start(t, [upstream.port], {
    retry_on: '5xx',
    num_retries: 5,
    // Drawn at random from 0 on: a day, so that it is not over at once.
    retry_back_off: { base_interval: '86400s', max_interval: '86400s' },
  });
  const client = new RawClient(t, proxy.port()).send('GET /do/status:503 HTTP/1.1\r\nhost: a\r\n\r\n');
  await eventually('it waits', () => proxy.value('cluster.up.upstream_rq_retry') === 1);
  client.socket.destroy();
  await eventually('it is over', () => proxy.value('http.test.downstream_rq_active') === 0);
  // The place among the retries is free again: the next request may retry.
  assert.equal(upstream.seen('/do/status:503').length, 1);
  assert.deepEqual(proxy.errors, []);
});

/** Four requests at once, of which `places` may be sent again; those are answered when the others have their answers. */
async function overflow(upstream: MisbehavingUpstream, proxy: TestProxy, places: number): Promise<void> {
  let answered = 0;
  const asked = [1, 2, 3, 4].map((i) => ask(proxy, `/${i}/do/status:503/held`).finally(() => answered++));
  await eventually('the others overflow', () => answered === 4 - places);
  await eventually('the retries have come', () => upstream.held === places);
  upstream.release();
  const answers = await Promise.all(asked);
  assert.equal(answers.filter((answer) => answer === '200 held').length, places, answers.join());
  assert.equal(answers.filter((answer) => answer.startsWith('503 ')).length, 4 - places, answers.join());
  assert.equal(proxy.value('cluster.up.upstream_rq_retry_overflow'), 4 - places);
}

test('no more retries at a time than max_retries: the answer is what there is, with UO', async (t) => {
  const upstream = await MisbehavingUpstream.start(t);
  const proxy = await start(
    t,
    [upstream.port],
    { retry_on: '5xx', num_retries: 1 },
    { cluster: { circuit_breakers: { thresholds: [{ max_retries: 1 }] } } },
  );
  await overflow(upstream, proxy, 1);
});

test('a retry budget is a share of what is under way, and always a few', async (t) => {
  const upstream = await MisbehavingUpstream.start(t);
  const proxy = await start(
    t,
    [upstream.port],
    { retry_on: '5xx', num_retries: 1 },
    {
      cluster: {
        circuit_breakers: {
          thresholds: [{ retry_budget: { budget_percent: { value: 0 }, min_retry_concurrency: 2 } }],
        },
      },
    },
  );
  await overflow(upstream, proxy, 2);
});

test('retries during an outage stay within the breaker', async (t) => {
  const upstream = await MisbehavingUpstream.start(t);
  const proxy = await start(
    t,
    [upstream.port],
    { retry_on: '5xx', num_retries: 1000 },
    {
      cluster: { circuit_breakers: { thresholds: [{ max_retries: 3 }] } },
    },
  );
  const abort = new AbortController();
  const storm = Array.from({ length: 40 }, () =>
    ask(proxy, '/do/status:503', { signal: abort.signal }).catch(() => ''),
  );
  await eventually('it overflows', () => proxy.value('cluster.up.upstream_rq_retry_overflow') >= 37);
  abort.abort();
  await Promise.all(storm);
  await eventually('all are over', () => proxy.value('http.test.downstream_rq_active') === 0);
});

test('Retry-After is waited for', async (t) => {
  const upstream = await MisbehavingUpstream.start(t);
  const proxy = await start(t, [upstream.port], {
    retry_on: '5xx',
    num_retries: 1,
    rate_limited_retry_back_off: {
      reset_headers: [
        { name: 'Retry-After', format: 'SECONDS' },
        { name: 'X-RateLimit-Reset', format: 'UNIX_TIMESTAMP' },
      ],
      max_interval: '5s',
    },
  });
  const startMs = performance.now();
  assert.equal(await ask(proxy, '/do/answer:503,retry-after=1/ok'), '200 ok');
  const tookMs = performance.now() - startMs;
  assert.ok(tookMs >= 990, `${tookMs} ms`);
  assert.equal(proxy.value('cluster.up.upstream_rq_retry_backoff_ratelimited'), 1);
  // More than is believed, and nonsense: the usual back-off.
  assert.equal(await ask(proxy, '/far/do/answer:503,retry-after=3600/ok'), '200 ok');
  assert.equal(await ask(proxy, '/bad/do/answer:503,retry-after=soon/ok'), '200 ok');
  assert.equal(proxy.value('cluster.up.upstream_rq_retry_backoff_exponential'), 2);
});

test('the ledger says what was sent twice, by method, route and reason', async (t) => {
  const upstream = await MisbehavingUpstream.start(t);
  const proxy = await start(t, [upstream.port], { retry_on: '5xx', num_retries: 1 });
  await ask(proxy, '/1/do/status:503/ok');
  await ask(proxy, '/2/do/reset/ok', { method: 'POST', body: 'x' });
  const admin = proxy.running.addresses.get('admin');
  const text = await (await fetch(`http://127.0.0.1:${admin?.port}/stats/prometheus`)).text();
  assert.match(text, /pillion_requests_sent_again_total\{method="GET",route="only",reason="response"\} 1/);
  assert.match(text, /pillion_requests_sent_again_total\{method="POST",route="only",reason="reset"\} 1/);
  assert.equal(proxy.value('cluster.up.retry.upstream_rq_503'), 1);
  assert.equal(proxy.value('cluster.up.upstream_rq_retry_success'), 2);
});

test('the connection of an answer that was not wanted serves on', async (t) => {
  const upstream = await RawUpstream.start(t, (received, socket) => {
    const count = received.match(/ HTTP\/1\.1\r\n/g)?.length ?? 0;
    socket.write(
      count % 2 === 1
        ? 'HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy'
        : 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok',
    );
  });
  const proxy = await start(t, [upstream.port], { retry_on: '5xx', num_retries: 1 });
  for (let i = 0; i < 5; i++) assert.equal(await ask(proxy), '200 ok');
  assert.equal(upstream.sockets.length, 1);
});
