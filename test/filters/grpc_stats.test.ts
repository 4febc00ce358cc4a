/** Messages of gRPC streams, counted as their bytes pass; what istio.stats and its overrides make of them. */
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { before, test } from 'node:test';
import filter from '../../filters/grpc_stats.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { GrpcMessageCounter } from '../../proxy/http/grpc_message_counter.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const scope = fileScope();
let proxy: TestProxy;

function message(text: string): Buffer {
  const bytes = Buffer.from(text);
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return Buffer.concat([prefix, bytes]);
}

test('messages are counted wherever the bytes are cut', () => {
  const bytes = Buffer.concat([message('a'), message(''), message('x'.repeat(300)), message('end')]);
  for (let size = 1; size <= bytes.length; size++) {
    const counter = new GrpcMessageCounter();
    for (let at = 0; at < bytes.length; at += size) counter.add(bytes.subarray(at, at + size));
    assert.equal(counter.count, 4, `pieces of ${size}`);
  }
});

before(async () => {
  const server = createServer((request, response) => {
    request.resume().on('end', () => {
      response.writeHead(200, {
        'content-type': 'application/grpc',
        'grpc-status': request.url?.includes('Bad') ? '3' : '0',
      });
      response.end(Buffer.concat([message('one'), message('two'), message('three')]));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  scope.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const address = server.address();
  const port = typeof address === 'object' && address !== null ? address.port : 0;
  const filters = [
    {
      name: 'envoy.filters.http.grpc_stats',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig',
        emit_filter_state: true,
        individual_method_stats_allowlist: { services: [{ name: 'shop.Hats', method_names: ['List'] }] },
      },
    },
    { name: 'istio.stats', typed_config: { '@type': 'type.googleapis.com/stats.PluginConfig' } },
  ];
  proxy = await startTestProxy(scope, [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'web' } }]), filters }),
    staticCluster('web', [port]),
  ]);
  const call = (path: string, type: string): Promise<unknown> =>
    fetch(`http://127.0.0.1:${proxy.port()}${path}`, {
      method: 'POST',
      headers: { 'content-type': type },
      body: Buffer.concat([message('a'), message('b')]),
    }).then((response) => response.arrayBuffer());
  await call('/shop.Hats/List', 'application/grpc');
  await call('/shop.Hats/Bad', 'application/grpc+proto');
  await call('/shop.Hats/List', 'text/plain');
});

test('grpc_stats counts calls and messages, one by one where the method is listed', () => {
  const value = (name: string): number => proxy.value(`cluster.web.grpc.${name}`);
  assert.equal(value('shop.Hats.List.total'), 1);
  assert.equal(value('shop.Hats.List.success'), 1);
  assert.equal(value('shop.Hats.List.request_message_count'), 2);
  assert.equal(value('shop.Hats.List.response_message_count'), 3);
  assert.equal(value('total'), 1);
  assert.equal(value('failure'), 1);
});

test('istio.stats reports messages of gRPC streams, without a code', async () => {
  const text = await (await fetch(`http://127.0.0.1:${proxy.port('admin')}/stats/prometheus`)).text();
  const [line, ...more] = text.split('\n').filter((item) => item.startsWith('istio_request_messages_total{'));
  assert.equal(more.length, 0);
  assert.match(line ?? '', / 4$/);
  assert.match(line ?? '', /request_protocol="grpc"/);
  assert.doesNotMatch(line ?? '', /response_code=|grpc_response_status=/);
  assert.match(text, /istio_response_messages_total\{[^}]*\} 6\n/);
});

test('grpc_stats refuses two ways of choosing methods', () => {
  assert.throws(
    () => filter.parse({ stats_for_all_methods: true, individual_method_stats_allowlist: {} }),
    ConfigError,
  );
});
