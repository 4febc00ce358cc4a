/** The ext_authz filter through a running proxy: over HTTP and over gRPC, bodies, failures, what the upstream sees. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import filter from '../../filters/ext_authz.ts';
import type { Json } from '../../config/resources.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import {
  authorizerAnswer,
  EXT_AUTHZ_CASES,
  extAuthzResources,
  GRPC_SERVICE,
  HTTP_SERVICE,
  HTTP2,
} from '../support/ext_authz_cases.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { type GrpcAuthorizer, startGrpcAuthorizer } from '../support/grpc_authorizer.ts';
import { exchangeThrough } from '../support/http1_exchange.ts';
import { answering, RawClient, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { REFUSED_PORT } from '../support/free_port.ts';

const scope = fileScope();
let proxy: TestProxy;
let upstream: RawUpstream;
let authorizer: RawUpstream;
let grpc: GrpcAuthorizer;
let grpcAnswer: (request: Json) => Json | Buffer | undefined = () => ({});
let hanging: RawUpstream;

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.';
const RBAC = 'envoy.filters.http.rbac';
/** As istiod gates an authorizer: only what shadow rules matched is its affair. */
const gated = (config: Json) =>
  httpListener({
    name: 'gated',
    filters: [
      {
        name: RBAC,
        typed_config: {
          '@type': `${TYPE}rbac.v3.RBAC`,
          shadow_rules: {
            action: 'DENY',
            policies: {
              'istio-ext-authz-p-ns[a]-policy[b]-rule[0]': {
                permissions: [{ url_path: { path: { prefix: '/deny' } } }],
                principals: [{ any: true }],
              },
            },
          },
          shadow_rules_stat_prefix: 'istio_ext_authz_',
        },
      },
      {
        name: 'envoy.filters.http.ext_authz',
        typed_config: {
          '@type': `${TYPE}ext_authz.v3.ExtAuthz`,
          ...config,
          filter_enabled_metadata: {
            filter: RBAC,
            path: [{ key: 'istio_ext_authz_shadow_effective_policy_id' }],
            value: { string_match: { prefix: 'istio-ext-authz-p' } },
          },
        },
      },
    ],
    routes: routeConfig([
      { match: { prefix: '/', headers: [{ name: 'x-user', present_match: true }] }, direct_response: { status: 202 } },
      { match: { prefix: '/' }, route: { cluster: 'up' } },
    ]),
  });

before(async () => {
  upstream = await RawUpstream.start(scope, answering());
  authorizer = await RawUpstream.start(scope, (received, socket) => {
    const answer = authorizerAnswer(received);
    if (answer !== undefined) socket.end(answer.replace('\r\n', '\r\nconnection: close\r\n'));
  });
  hanging = await RawUpstream.start(scope, () => {});
  grpc = await startGrpcAuthorizer(scope, (request) => grpcAnswer(request));
  const slow = {
    http_service: { server_uri: { uri: 'http://a', cluster: 'hanging', timeout: '0.05s' } },
  };
  const plain = (name: string, config: Json) =>
    httpListener({
      name,
      filters: [
        { name: 'envoy.filters.http.ext_authz', typed_config: { '@type': `${TYPE}ext_authz.v3.ExtAuthz`, ...config } },
      ],
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]),
    });
  proxy = await startTestProxy(scope, [
    ...extAuthzResources({ up: upstream.port, authz: authorizer.port, grpc: grpc.port, closed: REFUSED_PORT }),
    gated({ ...HTTP_SERVICE, clear_route_cache: true }),
    plain('slow', slow),
    plain('nowhere', { http_service: { server_uri: { uri: 'http://a', cluster: 'missing', timeout: '1s' } } }),
    plain('grpc-body', { ...GRPC_SERVICE, with_request_body: { max_request_bytes: 100, pack_as_bytes: true } }),
    staticCluster('hanging', [hanging.port]),
    staticCluster('unused', [grpc.port], HTTP2),
  ]);
});

for (const { says, listener, request, status } of EXT_AUTHZ_CASES) {
  test(`${listener}: ${says}: ${status}`, async () => {
    const { response, forwarded } = await exchangeThrough(scope, proxy.port(listener), upstream, request);
    assert.match(response[0] ?? '', new RegExp(`^HTTP/1.1 ${status} `));
    assert.equal(forwarded.length > 0, status === 200);
    assert.doesNotMatch(response.join('\n'), /x-secret/);
    assert.doesNotMatch(forwarded.join('\n'), /x-gone|x-secret|root/);
    if (request.includes('abc'))
      assert.equal(forwarded.at(-1), status === 200 ? /abc\w*$/.exec(request)?.[0] : undefined);
  });
}

const get = (path: string, fields = ''): string => `GET ${path} HTTP/1.1\r\nhost: shop.example\r\n${fields}\r\n`;
const through = (listener: string, request: string) => exchangeThrough(scope, proxy.port(listener), upstream, request);

test('gRPC: what is asked holds the request and the connection', async () => {
  grpcAnswer = () => ({ ok_response: {} });
  await through('grpc', get('/a?b=c', 'x-a: 1\r\nx-a: 2\r\ncookie: d\r\n'));
  const attributes = grpc.asked.at(-1)?.['attributes'] as Record<string, Record<string, unknown>>;
  const http = (attributes['request'] as { http: Record<string, unknown> }).http;
  assert.deepEqual(
    { ...http, id: '', headers: undefined },
    {
      id: '',
      method: 'GET',
      path: '/a?b=c',
      host: 'shop.example',
      scheme: 'http',
      size: '-1',
      protocol: 'HTTP/1.1',
      headers: undefined,
    },
  );
  const headers = http['headers'] as Record<string, string>;
  assert.equal(headers['x-a'], '1,2');
  assert.equal(headers[':path'], '/a?b=c');
  assert.equal(headers['cookie'], 'd');
  assert.match(String(http['id']), /^[0-9a-f-]{36}$/);
  assert.deepEqual(attributes['context_extensions'], { k: 'v' });
  const address = (side: string) => (attributes[side] as { address: { socket_address: Json } }).address.socket_address;
  assert.equal(address('source')['address'], '127.0.0.1');
  assert.equal(address('destination')['port_value'], proxy.port('grpc'));
  assert.match(String((attributes['request'] as { time: string }).time), /^20\d\d-/);
});

test('gRPC: an answer changes headers, query and response', async () => {
  const option = (key: string, value: string, more: Json = {}) => ({ header: { key, value }, ...more });
  grpcAnswer = () => ({
    ok_response: {
      headers: [
        option('x-user', 'me'),
        option('x-more', 'b', { append: true }),
        option('x-there', 'new', { append_action: 'OVERWRITE_IF_EXISTS' }),
      ],
      headers_to_remove: ['x-gone', 'host', ':path'],
      response_headers_to_add: [option('x-ok', 'fine')],
      query_parameters_to_set: [
        { key: 'b', value: 'é&' },
        { key: 'z', value: '1' },
      ],
      query_parameters_to_remove: ['q'],
    },
    dynamic_metadata: { a: 1 },
  });
  const { response, forwarded } = await through(
    'grpc',
    get('/a?b=c&q=1', 'x-gone: 1\r\nx-user: root\r\nx-more: a\r\n'),
  );
  assert.equal(forwarded[0], 'GET /a?b=%C3%A9%26&z=1 HTTP/1.1');
  assert.ok(forwarded.includes('host: shop.example'));
  assert.deepEqual(
    forwarded.filter((line) => /^x-(user|more|gone|there)/.test(line)),
    ['x-more: a', 'x-more: b', 'x-user: me'],
  );
  assert.ok(response.includes('x-ok: fine'));
});

test('gRPC: a denial has its own status, headers and body', async () => {
  grpcAnswer = () => ({
    status: { code: 7 },
    denied_response: {
      status: { code: 'Unauthorized' },
      headers: [{ header: { key: 'x-why', value: 'no' } }],
      body: 'go',
    },
  });
  const { response, forwarded } = await through('grpc', get('/a'));
  assert.deepEqual(forwarded, []);
  assert.match(response[0] ?? '', /^HTTP\/1.1 401 /);
  assert.ok(response.includes('x-why: no'));
  assert.ok(response.includes('x-flags: UAEX'));
  assert.ok(response.includes('x-details: ext_authz_denied'));
  assert.equal(response.at(-1), 'go');
  grpcAnswer = () => ({ status: { code: 7 } });
  assert.match((await through('grpc', get('/a'))).response[0] ?? '', / 403 /);
});

test('gRPC: what cannot be read, a failed call, and a header that would split the head deny', async () => {
  const status = async (answer: typeof grpcAnswer): Promise<string> => {
    grpcAnswer = answer;
    const { response, forwarded } = await through('grpc', get('/a'));
    assert.deepEqual(forwarded, []);
    return response[0] ?? '';
  };
  assert.match(await status(() => undefined), / 403 /);
  assert.match(await status(() => Buffer.from([0xff, 0xff, 0xff])), / 403 /);
  const split = { ok_response: { headers: [{ header: { key: 'x-a', value: 'b\r\nx-admin: 1' } }] } };
  assert.match(await status(() => split), / 500 /);
  const name = { ok_response: { headers: [{ header: { key: 'x a', value: 'b' } }] } };
  assert.match(await status(() => name), / 500 /);
});

test('gRPC: a body is asked with, as bytes, and forwarded whole', async () => {
  grpcAnswer = () => ({ ok_response: {} });
  const body = 'a\u0000\u00ff';
  const { forwarded } = await through('grpc-body', `POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\n${body}`);
  assert.equal(forwarded.at(-1), body);
  const asked = grpc.asked.at(-1) as { attributes: { request: { http: Json } } };
  assert.equal(asked.attributes.request.http['raw_body'], Buffer.from(body, 'latin1').toString('base64'));
});

test('only what shadow rules matched is asked about, and the route is chosen anew', async () => {
  const asked = authorizer.received.length;
  assert.match((await through('gated', get('/a'))).response[0] ?? '', / 200 /);
  assert.equal(authorizer.received.length, asked);
  assert.match((await through('gated', get('/deny'))).response[0] ?? '', / 403 /);
  assert.equal(authorizer.received.length, asked + 1);
  assert.match((await through('gated', get('/deny2'))).response[0] ?? '', / 403 /);
});

test('nobody in time, and no cluster, deny', async () => {
  assert.match((await through('slow', get('/a'))).response[0] ?? '', / 403 /);
  assert.match((await through('nowhere', get('/a'))).response[0] ?? '', / 403 /);
  assert.ok(proxy.value('http.test.ext_authz.error') >= 2);
});

test('a client that leaves while it is asked about leaves nothing behind', async (t) => {
  const before = hanging.sockets.length;
  const client = new RawClient(t, proxy.port('slow'));
  client.send(get('/a'));
  while (hanging.sockets.length === before) await new Promise(setImmediate);
  client.socket.destroy();
  assert.deepEqual(proxy.errors, []);
});

test('ext_authz refuses what it would have to skip', () => {
  const wrong: readonly (readonly [Json, RegExp])[] = [
    [{}, /http_service or grpc_service/],
    [{ ...HTTP_SERVICE, http_service: { server_uri: { uri: 'http://a', cluster: 'c' } } }, /timeout: is required/],
    [{ ...GRPC_SERVICE, grpc_service: { google_grpc: {} } }, /envoy_grpc/],
    [{ grpc_service: { envoy_grpc: { cluster_name: 'c' } } }, /transport_api_version/],
    [{ ...HTTP_SERVICE, decoder_header_mutation_rules: {} }, /decoder_header_mutation_rules/],
    [{ ...HTTP_SERVICE, with_request_body: {} }, /max_request_bytes/],
    [{ ...HTTP_SERVICE, status_on_error: { code: 'Maybe' } }, /an HTTP status/],
    [{ ...HTTP_SERVICE, filter_enabled_metadata: { filter: 'a', path: [{ key: 'b' }], value: {} } }, /string_match/],
  ];
  for (const [config, message] of wrong) {
    assert.throws(
      () => filter.parse(config),
      (error: unknown) => error instanceof ConfigError && message.test(error.message),
      JSON.stringify(config),
    );
  }
  assert.throws(() => filter.parseRoute({}), ConfigError);
});
