/** The rate-limit filter against a service that speaks Envoy's protocol: what is asked, what answers do, and what happens without any. */
import assert from 'node:assert/strict';
import { fromBinary, fromJson, toBinary, toJson, type JsonValue } from '@bufbuild/protobuf';
import { Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js';
import { before, test } from 'node:test';
import filter from '../../filters/ratelimit.ts';
import { descriptors } from '../../config/envoy/descriptors.ts';
import type { Json } from '../../config/resources.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { eventually } from '../support/eventually.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit';
const scope = fileScope();
const asked: Json[] = [];
let proxy: TestProxy;
let upstream: RawUpstream;

/** Answers by the user in the first descriptor. */
function answer(user: string): Json | undefined {
  switch (user) {
    case 'over':
      return {
        overall_code: 'OVER_LIMIT',
        response_headers_to_add: [{ key: 'x-why', value: 'too many' }],
        statuses: [
          { code: 'OVER_LIMIT', current_limit: { requests_per_unit: 10, unit: 'MINUTE' }, duration_until_reset: '30s' },
        ],
      };
    case 'down':
      return undefined;
    default:
      return {
        overall_code: 'OK',
        request_headers_to_add: [{ key: 'x-limited-by', value: 'service' }],
        statuses: [
          {
            code: 'OK',
            current_limit: { requests_per_unit: 10, unit: 'MINUTE' },
            limit_remaining: 7,
            duration_until_reset: '41s',
          },
        ],
      };
  }
}

async function startService(): Promise<number> {
  const registry = descriptors();
  const typed = (name: string) => {
    const found = registry.getMessage(`envoy.service.ratelimit.v3.${name}`);
    if (found === undefined) throw new Error(`no descriptor of ${name}`);
    return found;
  };
  const server = new Server();
  const same = (bytes: Buffer): Buffer => bytes;
  server.addService(
    {
      Should: {
        path: '/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit',
        requestStream: false,
        responseStream: false,
        requestSerialize: same,
        requestDeserialize: same,
        responseSerialize: same,
        responseDeserialize: same,
      },
    },
    {
      Should(call: ServerUnaryCall<Buffer, Buffer>, done: sendUnaryData<Buffer>) {
        const request = toJson(typed('RateLimitRequest'), fromBinary(typed('RateLimitRequest'), call.request), {
          useProtoFieldName: true,
          registry,
        }) as { descriptors: { entries: { key: string; value: string }[] }[] };
        asked.push(request as unknown as Json);
        const user = request.descriptors[0]?.entries.find(({ key }) => key === 'user')?.value ?? '';
        if (user === 'slow') return;
        const reply = answer(user);
        if (reply === undefined) return done({ code: status.UNAVAILABLE, details: 'not now' });
        done(
          null,
          Buffer.from(
            toBinary(
              typed('RateLimitResponse'),
              fromJson(typed('RateLimitResponse'), reply as JsonValue, { registry }),
            ),
          ),
        );
      },
    },
  );
  scope.after(() => server.forceShutdown());
  return new Promise((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(error),
    );
  });
}

before(async () => {
  upstream = await RawUpstream.start(scope, answering());
  const service = await startService();
  const listener = (name: string, more: Json, cluster = 'limits') =>
    httpListener({
      name,
      filters: [
        {
          name: 'envoy.filters.http.ratelimit',
          typed_config: {
            '@type': TYPE,
            domain: 'shop',
            timeout: '1s',
            enable_x_ratelimit_headers: 'DRAFT_VERSION_03',
            rate_limit_service: {
              transport_api_version: 'V3',
              grpc_service: { envoy_grpc: { cluster_name: cluster } },
            },
            ...more,
          },
        },
      ],
      routes: {
        name: 'r',
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            rate_limits: [
              {
                actions: [
                  { generic_key: { descriptor_value: 'all' } },
                  { request_headers: { header_name: 'x-user', descriptor_key: 'user' } },
                ],
              },
            ],
            routes: [{ match: { prefix: '/' }, route: { cluster: 'up' } }],
          },
        ],
      },
    });
  proxy = await startTestProxy(scope, [
    listener('open', {}),
    listener('closed', { failure_mode_deny: true }),
    listener('gone', { failure_mode_deny: true }, 'nowhere'),
    staticCluster('up', [upstream.port]),
    staticCluster('nowhere', [1]),
    staticCluster('limits', [service], {
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
    }),
  ]);
});

async function ask(listener: string, user?: string) {
  const response = await fetch(`http://127.0.0.1:${proxy.port(listener)}/`, {
    headers: user === undefined ? {} : { 'x-user': user },
  });
  return { status: response.status, text: await response.text(), headers: response.headers };
}

test('the service is asked for the domain with the descriptors, and its words reach both sides', async () => {
  const { status: code, headers } = await ask('open', 'ann');
  assert.equal(code, 200);
  assert.deepEqual(asked.at(-1), {
    domain: 'shop',
    descriptors: [
      {
        entries: [
          { key: 'generic_key', value: 'all' },
          { key: 'user', value: 'ann' },
        ],
      },
    ],
  });
  assert.equal(headers.get('x-ratelimit-limit'), '10');
  assert.equal(headers.get('x-ratelimit-remaining'), '7');
  assert.equal(headers.get('x-ratelimit-reset'), '41');
  assert.match(upstream.all, /x-limited-by: service/);
});

test('over the limit is 429 with RL and what the service says', async () => {
  const { status: code, headers } = await ask('open', 'over');
  assert.equal(code, 429);
  assert.equal(headers.get('x-envoy-ratelimited'), 'true');
  assert.equal(headers.get('x-why'), 'too many');
  assert.equal(proxy.value('http.test.ratelimit.over_limit'), 1);
});

test('a request without a descriptor is not asked about', async () => {
  const count = asked.length;
  assert.equal((await ask('open')).status, 200);
  assert.equal(asked.length, count);
});

test('a service that fails, is slow or is not there: pass, or 500 where that is asked for', async () => {
  for (const user of ['down', 'slow']) {
    assert.equal((await ask('open', user)).status, 200);
    assert.equal((await ask('closed', user)).status, 500);
  }
  assert.equal((await ask('gone', 'ann')).status, 500);
  assert.equal(proxy.value('http.test.ratelimit.error'), 5);
  assert.equal(proxy.value('http.test.ratelimit.failure_mode_allowed'), 2);
  assert.deepEqual(proxy.errors, []);
});

test('a client that leaves while the service is asked leaves nothing behind', async () => {
  const abort = new AbortController();
  const before = asked.length;
  const left = fetch(`http://127.0.0.1:${proxy.port('open')}/`, {
    headers: { 'x-user': 'slow' },
    signal: abort.signal,
  });
  await eventually('the service is asked', () => asked.length > before);
  abort.abort();
  await assert.rejects(left);
  await eventually('nothing is left', () => proxy.value('http.test.downstream_rq_active') === 0);
  assert.deepEqual(proxy.errors, []);
});

test('what is not executed is refused with its field', () => {
  const service = { grpc_service: { envoy_grpc: { cluster_name: 'c' } } };
  for (const [json, path] of [
    [{ domain: 'd' }, 'rate_limit_service'],
    [{ rate_limit_service: service }, 'domain'],
    [
      { domain: 'd', rate_limit_service: { grpc_service: { google_grpc: {} } } },
      'rate_limit_service.grpc_service.google_grpc',
    ],
    [{ domain: 'd', rate_limit_service: service, filter_enforced: {} }, 'filter_enforced'],
  ] as const) {
    assert.throws(
      () => filter.parse(json),
      (error) => error instanceof ConfigError && error.path === path,
    );
  }
});
