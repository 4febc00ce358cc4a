/** gRPC through the proxy with grpc-js on both sides: every kind of call, its ends, its deadlines and its statistics. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import type grpc from '@grpc/grpc-js';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { echoClient, startEchoServer } from '../support/grpc_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { eventually } from '../support/eventually.ts';

const HTTP2: Json = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};
const GRPC_STATS: Json = {
  name: 'envoy.filters.http.grpc_stats',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig',
    emit_filter_state: true,
    stats_for_all_methods: false,
  },
};
const ISTIO_STATS: Json = {
  name: 'istio.stats',
  typed_config: { '@type': 'type.googleapis.com/stats.PluginConfig' },
};

function resources(port: number, route: Json = {}): Resource[] {
  return [
    httpListener({
      filters: [GRPC_STATS, ISTIO_STATS],
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'echo', timeout: '0s', ...route } }]),
    }),
    staticCluster('echo', [port], HTTP2),
  ];
}

const scope = fileScope();
const server = await startEchoServer(scope);
/** Two of them in a row, as between two pods. */
const inner = await startTestProxy(scope, resources(server.port));
const outer = await startTestProxy(scope, resources(inner.port()));
const client = echoClient(scope, outer.port());

test('a unary call comes back, however large it is', async () => {
  for (const size of [0, 1, 1024, 100_000, 3_000_000]) {
    const request = Buffer.alloc(size, 7);
    assert.ok((await client.unary(request)).equals(request), `${size} bytes`);
  }
});

test('streams in either direction carry every message in order', async () => {
  const parts = Array.from({ length: 100 }, (_, index) => Buffer.alloc(index * 37, index));
  assert.ok((await client.upload(parts)).equals(Buffer.concat(parts)));
  assert.deepEqual(await client.download(Buffer.from('again')), new Array(10).fill(Buffer.from('again')));
});

test('both sides talk in turn, and each may end first', async () => {
  const call = client.chat();
  for (const word of ['one', 'two', 'three']) {
    const answered = once(call, 'data');
    call.write(Buffer.from(word));
    assert.deepEqual(await answered, [Buffer.from(word)]);
  }
  const status = once(call, 'status') as Promise<[grpc.StatusObject]>;
  call.end();
  assert.equal((await status)[0].code, 0);
  const other = client.chat();
  const ended = once(other, 'status') as Promise<[grpc.StatusObject]>;
  other.on('data', () => {});
  other.write(Buffer.from('bye'));
  assert.equal((await ended)[0].code, 0);
});

test('a status, its message and its metadata arrive when a call fails', async () => {
  await assert.rejects(client.unary(Buffer.from('fail')), (error: grpc.ServiceError) => {
    assert.equal(error.code, 5);
    assert.equal(error.details, 'no such thing: ü');
    assert.deepEqual(error.metadata.get('x-end'), ['yes']);
    return true;
  });
});

test('an unknown method is answered by the server, not by the proxy', async () => {
  const { raw } = client;
  const failed = new Promise<grpc.ServiceError | null>((resolve) => {
    raw.makeUnaryRequest(
      '/test.Echo/None',
      (value: Buffer) => value,
      (value: Buffer) => value,
      Buffer.alloc(0),
      (error) => resolve(error),
    );
  });
  assert.equal((await failed)?.code, 12);
});

test('a client that cancels cancels the call at the server', async () => {
  const before = server.cancelled.length;
  const call = client.chat();
  call.on('error', () => {});
  const answered = once(call, 'data');
  call.write(Buffer.from('hello'));
  await answered;
  call.cancel();
  await eventually('the server is told', () => server.cancelled.length > before);
  assert.equal(server.cancelled[before], 'Chat');
});

test('a client’s deadline ends its call, at the server too', async () => {
  const before = server.cancelled.length;
  await assert.rejects(client.unary(Buffer.from('sleep'), { deadline: Date.now() + 1500 }), { code: 4 });
  await eventually('the server is told', () => server.cancelled.length > before);
});

test('grpc-timeout is the proxy’s deadline too, up to grpc_timeout_header_max', async (t) => {
  const proxy = await startTestProxy(
    t,
    resources(server.port, { timeout: '0s', max_stream_duration: { grpc_timeout_header_max: '0.2s' } }),
  );
  const started = Date.now();
  await assert.rejects(
    echoClient(t, proxy.port()).unary(Buffer.from('sleep'), { deadline: Date.now() + 60_000 }),
    (error: grpc.ServiceError) => error.code === 4 || error.code === 14,
  );
  // Not the client's own deadline, a minute later.
  assert.ok(Date.now() - started < 40_000);
});

test('a server that is gone is UNAVAILABLE, in 200 and trailers only', async (t) => {
  const proxy = await startTestProxy(t, resources(1));
  await assert.rejects(echoClient(t, proxy.port()).unary(Buffer.from('x')), (error: grpc.ServiceError) => {
    assert.equal(error.code, 14);
    assert.match(error.details, /upstream connect error/);
    return true;
  });
});

test('calls, messages and outcomes are counted under Envoy’s and Istio’s names', async (t) => {
  const proxy = await startTestProxy(t, resources(server.port));
  const own = echoClient(t, proxy.port());
  await own.unary(Buffer.from('x'));
  await own.download(Buffer.from('x'));
  await assert.rejects(own.unary(Buffer.from('fail')));
  await proxy.counted();
  const value = (name: string): number => proxy.value(`cluster.echo.grpc.${name}`);
  assert.deepEqual(
    ['total', 'success', 'failure', '0', '5', 'request_message_count', 'response_message_count'].map(value),
    [3, 2, 1, 2, 1, 3, 11],
  );
  const metrics = await (await fetch(`http://127.0.0.1:${proxy.port('admin')}/stats/prometheus`)).text();
  const line = (name: string, status: string): string | undefined =>
    metrics
      .split('\n')
      .find((text) => text.startsWith(`${name}{`) && text.includes(`grpc_response_status="${status}"`));
  assert.match(line('istio_requests_total', '0') ?? '', /request_protocol="grpc".* 2$/);
  assert.match(line('istio_requests_total', '5') ?? '', /response_code="200".* 1$/);
  // Messages are counted whatever becomes of the call: their series name no status.
  assert.match(metrics, /istio_request_messages_total\{[^}]*\} 3\n/);
  assert.match(metrics, /istio_response_messages_total\{[^}]*\} 11\n/);
  assert.equal(proxy.value('cluster.echo.upstream_cx_http2_total'), 1);
});
