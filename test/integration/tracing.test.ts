/** Spans of real requests through real proxies, in a collector that records them. */
import assert from 'node:assert/strict';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, it } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';
import { type Collector, startCollector } from '../support/otlp_collector.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

const TRACE = 'type.googleapis.com/envoy.config.trace.v3';
const HTTP2 = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};
const GRPC: Json = {
  name: 'envoy.tracers.opentelemetry',
  typed_config: { '@type': `${TRACE}.OpenTelemetryConfig`, grpc_service: { envoy_grpc: { cluster_name: 'otel' } } },
};

interface ProxyOptions {
  readonly direction: 'INBOUND' | 'OUTBOUND';
  readonly upstream: number;
  readonly operation: string;
  readonly collector: Collector;
  readonly tracing?: Json;
  readonly provider?: Json;
}

function start(
  t: Scope,
  { direction, upstream, operation, collector, tracing = {}, provider = GRPC }: ProxyOptions,
): Promise<TestProxy> {
  const routes = {
    virtual_hosts: [
      {
        name: 'all',
        domains: ['*'],
        routes: [{ match: { prefix: '/' }, route: { cluster: 'app' }, decorator: { operation } }],
      },
    ],
  };
  const listener = httpListener({ routes, manager: { tracing: { ...tracing, provider } } });
  return startTestProxy(t, [
    { ...listener, json: { ...listener.json, traffic_direction: direction } },
    staticCluster('app', [upstream]),
    staticCluster('otel', [collector.grpcPort], HTTP2),
    staticCluster('otel-http', [collector.httpPort]),
  ]);
}

/** An application that answers with the headers it saw; a path of digits is the status. */
async function application(t: Scope): Promise<{ readonly port: number; readonly seen: IncomingHttpHeaders[] }> {
  const seen: IncomingHttpHeaders[] = [];
  const server = createServer((request, response) => {
    seen.push(request.headers);
    response.writeHead(Number(/^\/(\d{3})$/.exec(request.url ?? '')?.[1] ?? 200)).end('ok');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => void server.close());
  t.after(() => server.closeAllConnections());
  return { port: (server.address() as AddressInfo).port, seen };
}

const get = (proxy: TestProxy, path = '/', headers: Record<string, string> = {}): Promise<Response> =>
  fetch(`http://127.0.0.1:${proxy.port()}${path}`, { headers });

describe('tracing', () => {
  it('makes one trace with the right parents when a call passes three proxies', async (t) => {
    const collector = await startCollector(t);
    const app = await application(t);
    const third = await start(t, { direction: 'INBOUND', upstream: app.port, operation: 'app:80/*', collector });
    const second = await start(t, {
      direction: 'OUTBOUND',
      upstream: third.port(),
      operation: 'third:80/*',
      collector,
    });
    const first = await start(t, {
      direction: 'INBOUND',
      upstream: second.port(),
      operation: 'second:80/*',
      collector,
    });
    assert.equal((await get(first, '/x?y=1')).status, 200);
    const spans = await collector.waitFor(3);
    assert.equal(new Set(spans.map(({ traceId }) => traceId)).size, 1);
    const root = spans.find(({ parentSpanId }) => parentSpanId === '');
    const middle = spans.find(({ parentSpanId }) => parentSpanId === root?.spanId);
    const last = spans.find(({ parentSpanId }) => parentSpanId === middle?.spanId);
    // The client names the operation to the server: the third is called what the second called it.
    assert.deepEqual([root?.name, middle?.name, last?.name], ['second:80/*', 'third:80/*', 'third:80/*']);
    assert.deepEqual([root?.kind, middle?.kind, last?.kind], [2, 3, 2]);
    assert.match(String(app.seen[0]?.['traceparent']), new RegExp(`^00-${last?.traceId}-${last?.spanId}-01$`));
    assert.equal(app.seen[0]?.['x-envoy-decorator-operation'], undefined);
    assert.ok(last !== undefined && last.endNano >= last.startNano);
    const { attributes } = last;
    assert.equal(attributes.get('http.method'), 'GET');
    assert.equal(attributes.get('http.status_code'), '200');
    assert.match(String(attributes.get('http.url')), /\/x\?y=1$/);
    assert.equal(attributes.get('upstream_cluster.name'), 'app');
    assert.equal(attributes.get('component'), 'proxy');
    assert.equal(attributes.get('guid:x-request-id'), app.seen[0]?.['x-request-id']);
  });

  it('keeps to the decision of the caller, and says so to the application, when it says not to sample', async (t) => {
    const collector = await startCollector(t);
    const app = await application(t);
    const proxy = await start(t, { direction: 'INBOUND', upstream: app.port, operation: 'a', collector });
    const trace = '0af7651916cd43dd8448eb211c80319c';
    await get(proxy, '/', { traceparent: `00-${trace}-b7ad6b7169203331-00`, tracestate: 'v=1' });
    assert.match(String(app.seen[0]?.['traceparent']), new RegExp(`^00-${trace}-[0-9a-f]{16}-00$`));
    assert.equal(app.seen[0]?.['tracestate'], 'v=1');
    await get(proxy, '/', { traceparent: `00-${trace}-b7ad6b7169203331-01` });
    const [only] = await collector.waitFor(1);
    assert.equal(collector.spans.length, 1);
    assert.equal(only?.parentSpanId, 'b7ad6b7169203331');
  });

  it('passes a context on as it came when it cannot be read', async (t) => {
    const collector = await startCollector(t);
    const app = await application(t);
    const proxy = await start(t, { direction: 'INBOUND', upstream: app.port, operation: 'a', collector });
    await get(proxy, '/', { traceparent: '00-zz-1-01' });
    assert.equal(app.seen[0]?.['traceparent'], '00-zz-1-01');
    await get(proxy);
    await collector.waitFor(1);
    assert.equal(collector.spans.length, 1);
  });

  it('samples by the request id: 0 % but what a client asks for', async (t) => {
    const collector = await startCollector(t);
    const app = await application(t);
    const tracing = { random_sampling: { value: 0 } };
    const proxy = await start(t, { direction: 'OUTBOUND', upstream: app.port, operation: 'a', collector, tracing });
    await get(proxy);
    assert.match(String(app.seen[0]?.['traceparent']), /-00$/);
    assert.equal(String(app.seen[0]?.['x-request-id']).charAt(14), '4');
    await get(proxy, '/', { 'x-client-trace-id': 'me' });
    assert.equal(String(app.seen[1]?.['x-request-id']).charAt(14), 'b');
    const [span] = await collector.waitFor(1);
    assert.equal(span?.attributes.get('guid:x-client-trace-id'), 'me');
  });

  it('marks failures, and reads custom tags', async (t) => {
    const collector = await startCollector(t);
    const app = await application(t);
    const tracing = {
      custom_tags: [
        { tag: 'lit', literal: { value: 'x' } },
        { tag: 'hdr', request_header: { name: 'X-Tag', default_value: 'none' } },
        { tag: 'fmt', value: '%RESPONSE_CODE%' },
        { tag: 'absent', metadata: { kind: { request: {} }, metadata_key: { key: 'n', path: [{ key: 'k' }] } } },
      ],
    };
    const proxy = await start(t, { direction: 'INBOUND', upstream: app.port, operation: 'a', collector, tracing });
    await get(proxy, '/503', { 'x-tag': 'mine' });
    const [span] = await collector.waitFor(1);
    assert.equal(span?.status, 2);
    assert.equal(span?.attributes.get('error'), true);
    assert.deepEqual(
      ['lit', 'hdr', 'fmt', 'absent'].map((tag) => span?.attributes.get(tag)),
      ['x', 'mine', '503', undefined],
    );
  });

  it('sends spans over HTTP through a cluster, or to the URL where there is none', async (t) => {
    const collector = await startCollector(t);
    const app = await application(t);
    for (const cluster of ['otel-http', 'nowhere']) {
      const provider = {
        name: 'envoy.tracers.opentelemetry',
        typed_config: {
          '@type': `${TRACE}.OpenTelemetryConfig`,
          service_name: cluster,
          http_service: {
            http_uri: { uri: `http://127.0.0.1:${collector.httpPort}/v1/traces`, cluster, timeout: '1s' },
          },
        },
      };
      const proxy = await start(t, { direction: 'INBOUND', upstream: app.port, operation: 'a', collector, provider });
      await get(proxy);
    }
    const spans = await collector.waitFor(2);
    assert.deepEqual(spans.map(({ serviceName }) => serviceName).sort(), ['nowhere', 'otel-http']);
    assert.deepEqual(new Set(collector.requests), new Set(['/v1/traces application/x-protobuf']));
  });

  it('speaks B3 and Zipkin JSON when the tracer is Zipkin', async (t) => {
    const collector = await startCollector(t);
    const app = await application(t);
    const provider = {
      name: 'envoy.tracers.zipkin',
      typed_config: {
        '@type': `${TRACE}.ZipkinConfig`,
        collector_cluster: 'otel-http',
        collector_endpoint: '/api/v2/spans',
        collector_endpoint_version: 'HTTP_JSON',
        trace_id_128bit: true,
      },
    };
    const proxy = await start(t, { direction: 'OUTBOUND', upstream: app.port, operation: 'a', collector, provider });
    await get(proxy, '/', { b3: '80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1' });
    const [span] = await collector.waitFor(1);
    assert.equal(span?.traceId, '80f198ee56343ba864fe8b2a57d3eff7');
    assert.equal(span?.parentSpanId, 'e457b5a2e4d86bd1');
    const seen = app.seen[0] as IncomingHttpHeaders;
    assert.equal(seen['x-b3-traceid'], span?.traceId);
    assert.equal(seen['x-b3-spanid'], span?.spanId);
    assert.equal(seen['x-b3-sampled'], '1');
    assert.equal(seen['b3'], undefined);
  });

  it('drops spans, counts them and serves on when the collector is down', async (t) => {
    const collector = await startCollector(t);
    const app = await application(t);
    const provider = {
      name: 'envoy.tracers.opentelemetry',
      typed_config: {
        '@type': `${TRACE}.OpenTelemetryConfig`,
        grpc_service: { envoy_grpc: { cluster_name: 'missing' } },
      },
    };
    const proxy = await start(t, { direction: 'INBOUND', upstream: app.port, operation: 'a', collector, provider });
    assert.equal((await get(proxy)).status, 200);
    await proxy.stop();
    assert.equal(proxy.value('tracing.spans_dropped'), 1);
    assert.match(proxy.warnings.join('\n'), /Cannot send 1 spans to cluster "missing": there is no cluster/);
  });
});

describe('access logs over OTLP', () => {
  it('carry the formatted body and attributes, the trace, and who speaks', async (t) => {
    const collector = await startCollector(t);
    const app = await application(t);
    const value = (text: string): Json => ({ string_value: text });
    const logger = {
      name: 'envoy.access_loggers.open_telemetry',
      filter: { status_code_filter: { comparison: { op: 'GE', value: { default_value: 500, runtime_key: 'x' } } } },
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig',
        common_config: {
          log_name: 'mine',
          grpc_service: { envoy_grpc: { cluster_name: 'otel' } },
          transport_api_version: 'V3',
        },
        body: value('%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE%'),
        attributes: { values: [{ key: 'agent', value: value('%REQ(USER-AGENT)%') }] },
        resource_attributes: { values: [{ key: 'team', value: value('a') }] },
      },
    };
    const listener = httpListener({
      routes: {
        virtual_hosts: [
          { name: 'all', domains: ['*'], routes: [{ match: { prefix: '/' }, route: { cluster: 'app' } }] },
        ],
      },
      manager: { access_log: [logger], tracing: { provider: GRPC } },
    });
    const proxy = await startTestProxy(t, [
      listener,
      staticCluster('app', [app.port]),
      staticCluster('otel', [collector.grpcPort], HTTP2),
    ]);
    await get(proxy, '/200');
    await get(proxy, '/503', { 'user-agent': 'me' });
    await collector.waitFor(1, 'logs');
    await collector.waitFor(2);
    assert.equal(collector.logs.length, 1);
    const [log] = collector.logs;
    assert.equal(log?.body, 'GET /503 503');
    assert.deepEqual([...(log?.attributes ?? [])], [['agent', 'me']]);
    assert.equal(log?.resource.get('log_name'), 'mine');
    assert.equal(log?.resource.get('team'), 'a');
    assert.ok(collector.spans.some(({ traceId }) => traceId === log?.traceId));
    assert.ok(Math.abs(Number((log?.timeNano ?? 0n) / 1_000_000n) - Date.now()) < 60_000);
  });
});
