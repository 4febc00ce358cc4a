/** Kept-alive connections, limits and timeouts towards upstreams, as clients and upstreams see them. */
import assert from 'node:assert/strict';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { ListeningSocket } from '../../proxy/net/listening_socket.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { eventually } from '../support/eventually.ts';

async function before(t: Scope, upstream: RawUpstream, cluster: Json = {}, route: Json = {}): Promise<TestProxy> {
  return startTestProxy(t, [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up', ...route } }]) }),
    staticCluster('up', [upstream.port], cluster),
  ]);
}

const ask = async (proxy: TestProxy, method = 'GET', body?: string): Promise<string> => {
  const response = await fetch(`http://127.0.0.1:${proxy.port()}/x`, { method, ...(body !== undefined && { body }) });
  return `${response.status} ${await response.text()}`;
};

const http = (options: Json, protocol: Json = {}): Json => ({
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      common_http_protocol_options: options,
      explicit_http_config: { http_protocol_options: protocol },
    },
  },
});

/** Answers the first request of a connection, and meets every later one with a close before or after reading it. */
function dyingAfterOne(how: 'end' | 'reset'): (received: string, socket: Socket) => void {
  const answer = answering();
  return (received, socket) => {
    const heads = received.match(/ HTTP\/1\.1\r\n(?:.+\r\n)*\r\n/g)?.length ?? 0;
    if (heads <= 1) answer(received, socket);
    else if (how === 'end') socket.end();
    else socket.resetAndDestroy();
  };
}

for (const how of ['end', 'reset'] as const) {
  for (const method of ['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS']) {
    test(`a ${method} on a kept-alive connection that the upstream closes (${how}) moves to another one`, async (t) => {
      const upstream = await RawUpstream.start(t, dyingAfterOne(how));
      const proxy = await before(t, upstream);
      assert.equal(await ask(proxy), '200 ok');
      const answer = await ask(proxy, method, method === 'PUT' ? 'body' : undefined);
      assert.match(answer, method === 'HEAD' ? /^200 $/ : /^200 ok$/);
      assert.equal(upstream.received.length, 2);
    });
  }
  test(`a POST is never sent twice when the upstream closes (${how}) after a byte of it was written`, async (t) => {
    const upstream = await RawUpstream.start(t, dyingAfterOne(how));
    const proxy = await before(t, upstream);
    assert.equal(await ask(proxy), '200 ok');
    assert.match(await ask(proxy, 'POST', 'once'), /^503 upstream connect error or disconnect\/reset before headers/);
    assert.equal(upstream.all.match(/POST \/x/g)?.length, 1);
  });
}

test('a connection that the upstream closed while it was idle is not used again', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const proxy = await before(t, upstream);
  assert.equal(await ask(proxy), '200 ok');
  upstream.sockets[0]?.end();
  await eventually('the pool has let go of it', () => proxy.value('cluster.up.upstream_cx_active') === 0);
  assert.equal(await ask(proxy, 'POST', 'once'), '200 ok');
  assert.equal(upstream.received.length, 2);
});

test('a stray byte on an idle connection discards it', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const proxy = await before(t, upstream);
  assert.equal(await ask(proxy), '200 ok');
  // An answer that nobody asked for: the next client must not get it (attacks.md row 12).
  upstream.sockets[0]?.write('HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison');
  await eventually('the pool has let go of it', () => proxy.value('cluster.up.upstream_cx_active') === 0);
  assert.equal(await ask(proxy), '200 ok');
  assert.equal(proxy.value('cluster.up.upstream_cx_protocol_error'), 1);
});

test('what an upstream sends behind its answer is given to nobody', async (t) => {
  const upstream = await RawUpstream.start(t, (received, socket) => {
    if (received.split('\r\n\r\n').length === 2) {
      socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison');
    }
  });
  const proxy = await before(t, upstream);
  for (let i = 0; i < 3; i++) assert.equal(await ask(proxy), '200 ok');
  assert.equal(upstream.received.length, 3);
});

test('a connection carries no more requests than max_requests_per_connection', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const proxy = await before(t, upstream, http({ max_requests_per_connection: 2 }));
  for (let i = 0; i < 5; i++) assert.equal(await ask(proxy), '200 ok');
  assert.equal(upstream.received.length, 3);
  assert.equal(proxy.value('cluster.up.upstream_cx_max_requests'), 2);
});

test('an idle connection is closed after the idle timeout', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const proxy = await before(t, upstream, http({ idle_timeout: '0.05s' }));
  assert.equal(await ask(proxy), '200 ok');
  await eventually('it is closed', () => proxy.value('cluster.up.upstream_cx_active') === 0);
  assert.equal(proxy.value('cluster.up.upstream_cx_idle_timeout'), 1);
  assert.equal(proxy.value('cluster.up.upstream_cx_destroy'), 1);
  assert.equal(proxy.value('cluster.up.upstream_cx_destroy_local'), 1);
  assert.equal(proxy.value('cluster.up.upstream_cx_destroy_remote'), 0);
});

test('a connection that the upstream ends counts as ended by it', async (t) => {
  const upstream = await RawUpstream.start(t, (_, socket) => {
    socket.end('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  });
  const proxy = await before(t, upstream);
  assert.equal(await ask(proxy), '200 ok');
  await eventually('it is closed', () => proxy.value('cluster.up.upstream_cx_active') === 0);
  assert.equal(proxy.value('cluster.up.upstream_cx_destroy'), 1);
  assert.equal(proxy.value('cluster.up.upstream_cx_destroy_local'), 0);
  assert.equal(proxy.value('cluster.up.upstream_cx_destroy_remote'), 1);
});

test('a connect timeout is answered 503 UF when nobody accepts', {
  skip: process.platform !== 'linux' && 'Linux only',
}, async (t) => {
  // A listening socket on which nobody accepts; once its queue is full, the kernel lets further attempts wait.
  const deaf = await ListeningSocket.open('127.0.0.1', 0, 1, { backlog: 1 });
  t.after(() => deaf.close());
  const fillers = Array.from({ length: 8 }, () => new RawClient(t, deaf.port));
  await eventually(
    'the queue is full',
    () => fillers.some(({ socket }) => socket.connecting) && fillers.some(({ socket }) => !socket.connecting),
  );
  const proxy = await startTestProxy(t, [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'deaf' } }]) }),
    staticCluster('deaf', [deaf.port], { connect_timeout: '0.1s' }),
  ]);
  assert.match(await ask(proxy), /^503 .*reset reason: connection timeout/);
  assert.equal(proxy.value('cluster.deaf.upstream_cx_connect_timeout'), 1);
});

test('requests beyond max_pending_requests are answered 503 UO, the others wait for their connection', async (t) => {
  const waiting: Socket[] = [];
  const upstream = await RawUpstream.start(t, (_received, socket) => waiting.push(socket));
  const limits = { circuit_breakers: { thresholds: [{ max_connections: 1, max_pending_requests: 2 }] } };
  const proxy = await before(t, upstream, limits);
  const asked = Array.from({ length: 6 }, () => ask(proxy));
  await eventually('what is too much was refused', () => proxy.value('cluster.up.upstream_rq_pending_overflow') === 3);
  // One is on its way, two wait; each answer lets the next one go.
  for (let i = 0; i < 3; i++) {
    await eventually('a request is there', () => waiting.length > 0);
    waiting.shift()?.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  }
  const answers = (await Promise.all(asked)).map((answer) => answer.slice(0, 3)).sort();
  assert.deepEqual(answers, ['200', '200', '200', '503', '503', '503']);
  assert.equal(upstream.received.length, 1);
});

test('requests beyond max_requests are answered 503 UO', async (t) => {
  const waiting: Socket[] = [];
  const upstream = await RawUpstream.start(t, (_received, socket) => waiting.push(socket));
  const proxy = await before(t, upstream, { circuit_breakers: { thresholds: [{ max_requests: 2 }] } });
  const asked = [ask(proxy), ask(proxy)];
  await eventually('two are there', () => waiting.length === 2);
  assert.match(await ask(proxy), /^503 .*overflow/);
  for (const socket of waiting) socket.write('HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok');
  assert.deepEqual(await Promise.all(asked), ['200 ok', '200 ok']);
});

test('a client that leaves closes its upstream connection, which is never given to another', async (t) => {
  const upstream = await RawUpstream.start(t, () => {});
  const proxy = await before(t, upstream);
  const client = new RawClient(t, proxy.port());
  client.send('GET /x HTTP/1.1\r\nhost: a\r\n\r\n');
  await eventually('the upstream was asked', () => upstream.all.includes('GET /x'));
  client.socket.destroy();
  await eventually('its connection is closed', () => upstream.sockets[0]?.destroyed === true);
  assert.equal(proxy.value('cluster.up.upstream_rq_tx_reset'), 1);
});

test('an answer before the end of the request ends the exchange, and both connections', async (t) => {
  const upstream = await RawUpstream.start(t, (received, socket) => {
    if (received.includes('\r\n\r\n')) socket.write('HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n');
  });
  const proxy = await before(t, upstream);
  const client = new RawClient(t, proxy.port());
  client.send(`POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n${'x'.repeat(1000)}`);
  assert.match(await client.toEnd(), /^HTTP\/1\.1 413 /);
  await eventually('the upstream connection is closed', () => proxy.value('cluster.up.upstream_cx_active') === 0);
});

test('weights, health flags and priorities choose among hosts', async (t) => {
  const [a, b, c] = [
    await RawUpstream.start(t, answering('a')),
    await RawUpstream.start(t, answering('b')),
    await RawUpstream.start(t, answering('c')),
  ];
  const endpoint = (upstream: RawUpstream, more: Json = {}): Json => ({
    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: upstream.port } } },
    ...more,
  });
  const cluster = (name: string, endpoints: readonly Json[]) =>
    staticCluster(name, [], { load_assignment: { cluster_name: name, endpoints } });
  const proxy = await startTestProxy(t, [
    httpListener({
      routes: routeConfig(
        ['weighted', 'healthy', 'priority', 'panic'].map((name) => ({
          match: { prefix: `/${name}` },
          route: { cluster: name },
        })),
      ),
    }),
    cluster('weighted', [
      { lb_endpoints: [endpoint(a, { load_balancing_weight: 3 }), endpoint(b, { load_balancing_weight: 1 })] },
    ]),
    cluster('healthy', [{ lb_endpoints: [endpoint(a, { health_status: 'UNHEALTHY' }), endpoint(b), endpoint(c)] }]),
    cluster('priority', [
      { priority: 1, lb_endpoints: [endpoint(b)] },
      { priority: 0, lb_endpoints: [endpoint(a, { health_status: 'UNHEALTHY' })] },
    ]),
    cluster('panic', [
      { lb_endpoints: [endpoint(a, { health_status: 'UNHEALTHY' }), endpoint(b, { health_status: 'UNHEALTHY' })] },
    ]),
  ]);
  const count = async (path: string): Promise<Record<string, number>> => {
    const counts: Record<string, number> = {};
    for (let i = 0; i < 40; i++) {
      const text = await (await fetch(`http://127.0.0.1:${proxy.port()}/${path}`)).text();
      counts[text] = (counts[text] ?? 0) + 1;
    }
    return counts;
  };
  assert.deepEqual(await count('weighted'), { a: 30, b: 10 });
  assert.deepEqual(await count('healthy'), { b: 20, c: 20 });
  assert.deepEqual(await count('priority'), { b: 40 });
  // Below the panic threshold everybody is asked.
  assert.deepEqual(await count('panic'), { a: 20, b: 20 });
});
