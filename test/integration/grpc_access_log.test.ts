/** Access logs over Envoy's own gRPC service: what is in an entry, and that logging never costs a request. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { checkResource } from '../../config/build/check.ts';
import { MAX_WAITING_BYTES } from '../../proxy/telemetry/grpc_logs/grpc_logger.ts';
import { AccessLogService } from '../support/access_log_service.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { downstreamTls, MeshCa } from '../support/mesh_ca.ts';
import { exchange, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { resource } from '../support/static_source.ts';
import { tcpListener } from '../support/tcp_resources.ts';
import { askOverTls } from '../support/tls_peers.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.access_loggers.grpc.v3';
const HTTP2 = { http2_protocol_options: {} };
const toWeb = [{ match: { prefix: '/' }, name: 'r', route: { cluster: 'web' } }];

function logger(kind: 'Http' | 'Tcp', common: Json = {}, more: Json = {}): Json {
  return {
    name: kind === 'Http' ? 'envoy.access_loggers.http_grpc' : 'envoy.access_loggers.tcp_grpc',
    typed_config: {
      '@type': `${TYPE}.${kind}GrpcAccessLogConfig`,
      common_config: {
        log_name: 'mine',
        transport_api_version: 'V3',
        grpc_service: { envoy_grpc: { cluster_name: 'als' } },
        buffer_flush_interval: '0.02s',
        ...common,
      },
      ...more,
    },
  };
}

function get(port: number, path: string, headers: Record<string, string> = {}): Promise<number> {
  return new Promise((resolve, reject) => {
    request({ port, host: '127.0.0.1', path, headers: { host: 'shop.test', ...headers } }, (response) => {
      response.resume();
      response.once('end', () => resolve(response.statusCode ?? 0));
    })
      .once('error', reject)
      .end();
  });
}

const part = (json: Json | undefined, ...path: string[]): Json =>
  path.reduce((found, name) => (found[name] ?? {}) as Json, json ?? {});

test('an HTTP entry says what Envoy says of request, response, times, flags and tags', async (t) => {
  const service = await AccessLogService.start(t);
  const web = await RawUpstream.start(t, (received, socket) => {
    if (received.endsWith('\r\n\r\n')) socket.write('HTTP/1.1 200 OK\r\nx-a: 1\r\ncontent-length: 5\r\n\r\nhello');
  });
  const log = logger(
    'Http',
    {
      custom_tags: [
        { tag: 'who', literal: { value: 'me' } },
        { tag: 'agent', request_header: { name: 'user-agent' } },
      ],
      grpc_service: {
        envoy_grpc: { cluster_name: 'als', authority: 'logs.test' },
        initial_metadata: [{ key: 'x-token', value: 'secret' }],
      },
    },
    { additional_request_headers_to_log: ['X-Team'], additional_response_headers_to_log: ['x-a', 'x-none'] },
  );
  const proxy = await startTestProxy(t, [
    httpListener({ routes: routeConfig(toWeb), manager: { access_log: [log] } }),
    staticCluster('web', [web.port]),
    staticCluster('als', [service.port], HTTP2),
  ]);
  await get(proxy.port(), '/a?b', { 'user-agent': 'curl', 'x-team': 'caf\u00c3\u00a9', 'x-request-id': 'id-1' });
  const [entry] = await service.waitFor(1);
  const common = part(entry, 'common_properties');
  const { log_entry: _, ...identified } = part(service.messages[0]);
  assert.equal(part(identified, 'identifier')['log_name'], 'mine');
  assert.equal(part(identified, 'identifier', 'node')['id'], 'test');
  assert.equal(service.metadata[0]?.['x-token'], 'secret');
  assert.equal(entry?.['protocol_version'], 'HTTP11');
  const asked = part(entry, 'request');
  assert.deepEqual(
    {
      ...asked,
      request_headers_bytes: undefined,
      downstream_header_bytes_received: undefined,
      upstream_header_bytes_sent: 0,
    },
    {
      request_method: 'GET',
      scheme: 'http',
      authority: 'shop.test',
      path: '/a?b',
      user_agent: 'curl',
      request_id: 'id-1',
      request_headers: { 'x-team': 'café' },
      request_headers_bytes: undefined,
      downstream_header_bytes_received: undefined,
      upstream_header_bytes_sent: 0,
    },
  );
  assert.ok(Number(asked['downstream_header_bytes_received']) > 50);
  const answered = part(entry, 'response');
  assert.equal(answered['response_code'], 200);
  assert.equal(answered['response_body_bytes'], '5');
  assert.equal(answered['response_code_details'], 'via_upstream');
  assert.deepEqual(answered['response_headers'], { 'x-a': '1' });
  assert.equal(common['upstream_cluster'], 'web');
  assert.equal(common['route_name'], 'r');
  assert.equal(common['access_log_type'], 'DownstreamEnd');
  assert.equal(common['upstream_request_attempt_count'], 1);
  assert.equal(common['stream_id'], 'id-1');
  assert.deepEqual(common['custom_tags'], { who: 'me', agent: 'curl' });
  assert.equal(part(common, 'upstream_remote_address', 'socket_address')['port_value'], web.port);
  assert.equal(part(common, 'downstream_local_address', 'socket_address')['port_value'], proxy.port());
  assert.ok(Math.abs(Date.parse(String(common['start_time'])) - Date.now()) < 60_000);
  const seconds = (name: string): number => Number.parseFloat(String(common[name]));
  assert.ok(seconds('time_to_first_upstream_rx_byte') > 0);
  assert.ok(seconds('duration') >= seconds('time_to_first_upstream_rx_byte'));
  await proxy.counted();
  assert.equal(proxy.value('access_logs.grpc_access_log.logs_written'), 1);
});

test('an entry names response flags, and the filter of the logger holds', async (t) => {
  const service = await AccessLogService.start(t);
  const log = {
    ...logger('Http'),
    filter: { response_flag_filter: { flags: ['NC', 'FI'] } },
  };
  const fault = {
    name: 'fault',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault',
      abort: { http_status: 418, percentage: { numerator: 100 } },
      headers: [{ name: 'x-fault', present_match: true }],
    },
  };
  const proxy = await startTestProxy(t, [
    httpListener({
      routes: routeConfig([
        { match: { path: '/here' }, direct_response: { status: 200 } },
        { match: { prefix: '/' }, route: { cluster: 'nowhere' } },
      ]),
      manager: { access_log: [log] },
      filters: [fault],
    }),
    staticCluster('als', [service.port], HTTP2),
  ]);
  await get(proxy.port(), '/here');
  await get(proxy.port(), '/there');
  await get(proxy.port(), '/here', { 'x-fault': '1' });
  const entries = await service.waitFor(2);
  assert.deepEqual(
    entries.map((entry) => part(entry, 'common_properties', 'response_flags')),
    [{ no_cluster_found: true }, { fault_injected: true }],
  );
});

test('an entry holds both certificates of mutual TLS', async (t) => {
  const service = await AccessLogService.start(t);
  const ca = new MeshCa();
  const own = ca.issue('spiffe://cluster.local/ns/shop/sa/backend');
  const client = ca.issue('spiffe://cluster.local/ns/shop/sa/frontend');
  const socket = downstreamTls({ own, roots: ca.pem, prefix: 'spiffe://cluster.local/', alpn: ['http/1.1'] });
  const plain = httpListener({
    routes: routeConfig([{ match: { prefix: '/' }, direct_response: { status: 204 } }]),
    manager: { access_log: [logger('Http')] },
  });
  const [chain] = plain.json['filter_chains'] as Json[];
  const proxy = await startTestProxy(t, [
    resource('listener', { ...plain.json, filter_chains: [{ ...chain, transport_socket: socket }] }),
    staticCluster('als', [service.port], HTTP2),
  ]);
  await askOverTls(proxy.port(), { ca: ca.pem, cert: client.chain, key: client.key });
  const [entry] = await service.waitFor(1);
  const tls = part(entry, 'common_properties', 'tls_properties');
  assert.equal(tls['tls_version'], 'TLSv1_3');
  assert.equal(tls['tls_cipher_suite'], 0x1301);
  assert.deepEqual(part(tls, 'peer_certificate_properties')['subject_alt_name'], [
    { uri: 'spiffe://cluster.local/ns/shop/sa/frontend' },
  ]);
  assert.deepEqual(part(tls, 'local_certificate_properties')['subject_alt_name'], [
    { uri: 'spiffe://cluster.local/ns/shop/sa/backend' },
  ]);
});

test('a TCP entry says what a connection carried', async (t) => {
  const service = await AccessLogService.start(t);
  const echo = await RawUpstream.start(t, (received, socket) => {
    if (received === 'question') socket.end('answer');
  });
  const proxy = await startTestProxy(t, [
    tcpListener('app', { proxy: { access_log: [logger('Tcp')] } }),
    staticCluster('app', [echo.port]),
    staticCluster('als', [service.port], HTTP2),
  ]);
  await exchange(t, proxy.port(), 'question');
  const [entry] = await service.waitFor(1, 'tcp_logs');
  assert.deepEqual(part(entry, 'connection_properties'), { received_bytes: '8', sent_bytes: '6' });
  assert.equal(part(entry, 'common_properties')['upstream_cluster'], 'app');
  assert.equal(part(entry, 'common_properties')['access_log_type'], 'TcpConnectionEnd');
});

test('requests go on while the service is away; what does not fit is dropped and counted, the rest comes later', async (t) => {
  const first = await AccessLogService.start(t);
  const { port } = first;
  const log = logger(
    'Http',
    { grpc_stream_retry_policy: { retry_back_off: { base_interval: '0.05s', max_interval: '0.1s' } } },
    { additional_request_headers_to_log: ['x-large'] },
  );
  const proxy = await startTestProxy(t, [
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200 } }]),
      manager: { access_log: [log] },
    }),
    staticCluster('als', [1], HTTP2),
  ]);
  const size = 40_000;
  const count = Math.ceil(MAX_WAITING_BYTES / size) + 5;
  for (let i = 0; i < count; i++) assert.equal(await get(proxy.port(), '/', { 'x-large': 'x'.repeat(size) }), 200);
  await proxy.counted();
  const dropped = proxy.value('access_logs.grpc_access_log.logs_dropped');
  assert.ok(dropped >= 5 && dropped < 10, `${dropped} dropped`);
  assert.ok(proxy.warnings.some((line) => line.includes('Cannot send access logs to cluster "als"')));
  proxy.set([
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200 } }]),
      manager: { access_log: [log] },
    }),
    staticCluster('als', [port], HTTP2),
  ]);
  await first.waitFor(count - dropped);
  assert.equal(first.entries().length, count - dropped);
});

test('a stream that the service ended is opened again, and says again who it is', async (t) => {
  const service = await AccessLogService.start(t);
  const log = logger('Http', { grpc_stream_retry_policy: { retry_back_off: { base_interval: '0.02s' } } });
  const proxy = await startTestProxy(t, [
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200 } }]),
      manager: { access_log: [log] },
    }),
    staticCluster('als', [service.port], HTTP2),
  ]);
  await get(proxy.port(), '/1');
  await get(proxy.port(), '/2');
  await service.waitFor(2);
  assert.equal(service.streamCount, 1);
  assert.equal(service.messages.filter((message) => message['identifier'] !== undefined).length, 1);
  service.failStreams();
  await eventually('the end is seen', () => proxy.warnings.some((line) => line.includes('going away')));
  await get(proxy.port(), '/3');
  await service.waitFor(3);
  assert.equal(service.streamCount, 2);
  assert.equal(part(service.messages.at(-1), 'identifier')['log_name'], 'mine');
});

test('what is waiting when the proxy stops is sent', async (t) => {
  const service = await AccessLogService.start(t);
  const proxy = await startTestProxy(t, [
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200 } }]),
      manager: { access_log: [logger('Http', { buffer_flush_interval: '3600s' })] },
    }),
    staticCluster('als', [service.port], HTTP2),
  ]);
  for (let i = 0; i < 3; i++) await get(proxy.port(), `/${i}`);
  await proxy.stop();
  assert.equal(service.entries().length, 3);
});

for (const [says, config, field] of [
  ['without a name', { log_name: '' }, 'common_config.log_name'],
  ['of a service that is no cluster', { grpc_service: { google_grpc: {} } }, 'grpc_service.envoy_grpc'],
  ['that never flushes', { buffer_flush_interval: '0s' }, 'buffer_flush_interval'],
] as const) {
  test(`a gRPC logger ${says} is refused by field`, () => {
    const listener = httpListener({ routes: routeConfig([]), manager: { access_log: [logger('Http', config)] } });
    assert.match(checkResource(listener)?.message ?? '', new RegExp(field.replaceAll('.', '\\.')));
  });
}
