/** client → Pillion → mutual TLS → Pillion → application: what either application sees, and what is counted. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { fetchText } from '../support/fetch_text.ts';
import { downstreamTls, type KeyPair, MeshCa, upstreamTls } from '../support/mesh_ca.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { LogFile, startTestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';

const TYPE = 'type.googleapis.com';
const ca = new MeshCa();
const BACKEND = 'spiffe://cluster.local/ns/shop/sa/backend';
const FRONTEND = 'spiffe://cluster.local/ns/web/sa/frontend';

const struct = (name: string, type_url: string, value: Json): Json => ({
  name,
  typed_config: { '@type': `${TYPE}/udpa.type.v1.TypedStruct`, type_url: `${TYPE}/${type_url}`, value },
});
const HEADERS = [{ istio_headers: {} }];
const OUTBOUND_METADATA = struct('istio.metadata_exchange', 'io.istio.http.peer_metadata.Config', {
  upstream_discovery: [...HEADERS, { workload_discovery: {} }],
  upstream_propagation: HEADERS,
});
const INBOUND_METADATA = struct('istio.metadata_exchange', 'io.istio.http.peer_metadata.Config', {
  downstream_discovery: [...HEADERS, { workload_discovery: {} }],
  downstream_propagation: HEADERS,
});
const STATS: Json = { name: 'istio.stats', typed_config: { '@type': `${TYPE}/stats.PluginConfig` } };
const ALPN: Json = {
  name: 'istio.alpn',
  typed_config: {
    '@type': `${TYPE}/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig`,
    alpn_override: [
      { alpn_override: ['istio-http/1.0', 'istio', 'http/1.0'] },
      { upstream_protocol: 'HTTP11', alpn_override: ['istio-http/1.1', 'istio', 'http/1.1'] },
      { upstream_protocol: 'HTTP2', alpn_override: ['istio-h2', 'istio', 'h2'] },
    ],
  },
};
const FORWARD_CERT: Json = {
  forward_client_cert_details: 'APPEND_FORWARD',
  set_current_client_cert_details: { subject: true, dns: true, uri: true },
};

const workload = (name: string, namespace: string): Json => ({
  NAME: `${name}-6d4f8b7c9d-x2x4z`,
  NAMESPACE: namespace,
  WORKLOAD_NAME: name,
  CLUSTER_ID: 'Kubernetes',
  LABELS: { app: name, version: 'v1' },
});

const HTTP2: Json = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': `${TYPE}/envoy.extensions.upstreams.http.v3.HttpProtocolOptions`,
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

interface Options {
  readonly client?: KeyPair;
  /** Also without TLS. */
  readonly permissive?: boolean;
  /** HTTP/2 to the other sidecar and to this application. */
  readonly http2Application?: number;
  readonly istioMetadata?: Json;
}

async function startPair(t: Scope, options: Options = {}) {
  const application = await RawUpstream.start(t, answering());
  const inboundLog = new LogFile(t);
  const outboundLog = new LogFile(t);
  const plain = httpListener({
    name: 'inbound',
    routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'app' } }]),
    filters: [INBOUND_METADATA, STATS],
    manager: {
      ...FORWARD_CERT,
      access_log: [inboundLog.config('%DOWNSTREAM_PEER_URI_SAN% %DOWNSTREAM_TLS_VERSION%\n')],
    },
  });
  const [chain] = plain.json['filter_chains'] as Json[];
  const mutual = downstreamTls({
    own: ca.issue(BACKEND),
    roots: ca.pem,
    prefix: 'spiffe://cluster.local/',
    alpn: ['h2', 'http/1.1'],
  });
  const inspector = {
    name: 'envoy.filters.listener.tls_inspector',
    typed_config: { '@type': `${TYPE}/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector` },
  };
  const inbound: Resource = resource('listener', {
    ...plain.json,
    traffic_direction: 'INBOUND',
    listener_filters: [inspector],
    filter_chains: [
      {
        ...chain,
        name: 'mutual',
        filter_chain_match: {
          transport_protocol: 'tls',
          application_protocols: ['istio-http/1.0', 'istio-http/1.1', 'istio-h2'],
        },
        transport_socket: mutual,
      },
      ...(options.permissive === true
        ? [{ ...chain, name: 'plain', filter_chain_match: { transport_protocol: 'raw_buffer' } }]
        : []),
    ],
  });
  const server = await startTestProxy(
    t,
    [
      inbound,
      staticCluster('app', [options.http2Application ?? application.port], {
        metadata: service('backend', 'shop'),
        ...(options.http2Application !== undefined && HTTP2),
      }),
    ],
    { node: workload('backend', 'shop') },
  );
  const client = await startTestProxy(
    t,
    [
      httpListener({
        name: 'outbound',
        routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'backend' } }]),
        filters: [OUTBOUND_METADATA, ALPN, STATS],
        manager: {
          access_log: [outboundLog.config('%UPSTREAM_TLS_VERSION% %UPSTREAM_PEER_URI_SAN% %UPSTREAM_LOCAL_URI_SAN%\n')],
        },
      }),
      staticCluster('backend', [server.port('inbound')], {
        metadata: service('backend', 'shop', options.istioMetadata),
        ...(options.http2Application !== undefined && HTTP2),
        transport_socket: upstreamTls({
          own: options.client ?? ca.issue(FRONTEND),
          roots: ca.pem,
          uris: [BACKEND],
          alpn: ['istio-peer-exchange', 'istio'],
          more: { sni: 'outbound_.80_._.backend.shop.svc.cluster.local' },
        }),
      }),
    ],
    { node: workload('frontend', 'web') },
  );
  return { application, server, client, inboundLog, outboundLog };
}

function service(name: string, namespace: string, more: Json = {}): Json {
  const host = `${name}.${namespace}.svc.cluster.local`;
  return { filter_metadata: { istio: { services: [{ host, name, namespace }], ...more } } };
}

test('requests cross the mesh, and neither application sees how', async (t) => {
  const { application, server, client, inboundLog, outboundLog } = await startPair(t);
  const { status, body, headers } = await fetchText(client.port('outbound'), '/', {
    'x-forwarded-client-cert': 'By=spiffe://forged',
  });
  assert.equal(status, 200);
  assert.equal(body, 'ok');
  assert.equal(headers['x-envoy-peer-metadata'], undefined);
  assert.equal(headers['x-envoy-peer-metadata-id'], undefined);
  assert.doesNotMatch(application.all, /x-envoy-peer-metadata/);
  assert.deepEqual(await inboundLog.lines(1), [`${FRONTEND} TLSv1.3`]);
  assert.deepEqual(await outboundLog.lines(1), [`TLSv1.3 ${BACKEND} ${FRONTEND}`]);
  const xfcc = /x-forwarded-client-cert: (.*)\r\n/.exec(application.all)?.[1];
  assert.match(xfcc ?? '', new RegExp(`^By=${BACKEND};Hash=[0-9a-f]{64};Subject="";URI=${FRONTEND}$`));
  await server.counted();
  const labels = (proxy: typeof server) =>
    [...proxy.running.statistics.values()].find(({ name }) => name === 'istio_requests_total')?.labels ?? {};
  const both = {
    source_workload: 'frontend',
    source_workload_namespace: 'web',
    source_app: 'frontend',
    source_version: 'v1',
    source_canonical_service: 'frontend',
    source_principal: FRONTEND,
    destination_workload: 'backend',
    destination_workload_namespace: 'shop',
    destination_canonical_service: 'backend',
    destination_principal: BACKEND,
    destination_service: 'backend.shop.svc.cluster.local',
  };
  for (const [proxy, reporter, security] of [
    [server, 'destination', 'mutual_tls'],
    [client, 'source', 'unknown'],
  ] as const) {
    const found: Readonly<Record<string, string>> = labels(proxy);
    const expected = { ...both, reporter, connection_security_policy: security };
    assert.deepEqual(Object.fromEntries(Object.keys(expected).map((key) => [key, found[key]])), expected);
  }
});

test('a chain that waits for Istio is not reached with the ALPN of TCP', async (t) => {
  const { client, server } = await startPair(t, { istioMetadata: { alpn_override: 'false' } });
  assert.equal((await fetchText(client.port('outbound'), '/')).status, 503);
  await server.counted();
  assert.equal(server.value('listener.127.0.0.1_0.no_filter_chain_match'), 1);
});

test('without mutual TLS the client-certificate header is removed', async (t) => {
  const { application, server } = await startPair(t, { permissive: true });
  const given = { 'x-forwarded-client-cert': `By=${BACKEND};URI=spiffe://cluster.local/ns/shop/sa/admin` };
  assert.equal((await fetchText(server.port('inbound'), '/', given)).status, 200);
  assert.doesNotMatch(application.all, /x-forwarded-client-cert/);
});

test('a name cannot write an element of another name', async (t) => {
  const evil = ca.issue('spiffe://cluster.local/ns/a/sa/b,By=spiffe://x;URI="admin"', {
    commonName: 'a "quoted", name',
    dnsNames: ['a.example', 'b.example'],
  });
  const { application, client } = await startPair(t, { client: evil });
  assert.equal((await fetchText(client.port('outbound'), '/')).status, 200);
  const xfcc = /x-forwarded-client-cert: (.*)\r\n/.exec(application.all)?.[1] ?? '';
  assert.equal(
    xfcc.slice(xfcc.indexOf('Subject')),
    'Subject="CN=a \\"quoted\\"\\, name";URI="spiffe://cluster.local/ns/a/sa/b,By=spiffe://x;URI=\\"admin\\"";DNS=a.example;DNS=b.example',
  );
});

test('HTTP/2 and gRPC cross the mesh', async (t) => {
  const http2 = await import('node:http2');
  const grpc = await import('@grpc/grpc-js');
  const server = http2.createServer((request, response) => {
    response.setHeader('x-seen', String(request.headers['x-forwarded-client-cert']));
    response.end(`${request.httpVersion} ${request.method} ${request.url}`);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  const { client, server: inbound } = await startPair(t, { http2Application: (server.address() as AddressInfo).port });
  const session = http2.connect(`http://127.0.0.1:${client.port('outbound')}`);
  t.after(() => session.destroy());
  const stream = session.request({ ':path': '/over/h2' });
  const [headers] = (await once(stream, 'response')) as [Record<string, string>];
  let body = '';
  for await (const chunk of stream) body += String(chunk);
  assert.equal(body, '2.0 GET /over/h2');
  assert.match(headers['x-seen'] ?? '', new RegExp(`^By=${BACKEND};.*;URI=${FRONTEND}$`));
  await inbound.counted();
  assert.equal(inbound.value('listener.127.0.0.1_0.ssl.handshake'), 1);

  const echo = new grpc.Server();
  const asIs = (bytes: Buffer): Buffer => bytes;
  const method = {
    path: '/test.Echo/Say',
    requestStream: true,
    responseStream: true,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  } as const;
  echo.addService(
    { Say: method },
    {
      Say: (call: import('@grpc/grpc-js').ServerDuplexStream<Buffer, Buffer>) => {
        call.on('data', (bytes: Buffer) => call.write(Buffer.concat([Buffer.from('echo '), bytes])));
        call.on('end', () => call.end());
      },
    },
  );
  const grpcPort = await new Promise<number>((resolve, reject) => {
    echo.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
  });
  t.after(() => echo.forceShutdown());
  const pair = await startPair(t, { http2Application: grpcPort });
  const caller = new grpc.Client(`127.0.0.1:${pair.client.port('outbound')}`, grpc.credentials.createInsecure());
  t.after(() => caller.close());
  const call = caller.makeBidiStreamRequest(method.path, asIs, asIs);
  const said: string[] = [];
  for (const text of ['one', 'two']) {
    call.write(Buffer.from(text));
    const [answer] = (await once(call, 'data')) as [Buffer];
    said.push(answer.toString());
  }
  call.end();
  const [status] = (await once(call, 'status')) as [{ code: number }];
  assert.deepEqual([said, status.code], [['echo one', 'echo two'], 0]);
});
