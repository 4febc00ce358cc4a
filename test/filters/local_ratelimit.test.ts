/** Local rate limits: one bucket for all threads, per route, per descriptor, and what answers say. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import filter from '../../filters/local_ratelimit.ts';
import type { Json } from '../../config/resources.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const NAME = 'envoy.filters.http.local_ratelimit';
const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit';
const ALWAYS = { default_value: { numerator: 100 } };
const scope = fileScope();
let proxy: TestProxy;

const limit = (more: Json): Json => ({
  '@type': TYPE,
  stat_prefix: 'limit',
  filter_enabled: ALWAYS,
  filter_enforced: ALWAYS,
  ...more,
});
const bucket = (max_tokens: number, fill_interval = '60s', tokens_per_fill = 1): Json => ({
  max_tokens,
  tokens_per_fill,
  fill_interval,
});

const ROUTES: Readonly<Record<string, Json>> = {
  ten: limit({ token_bucket: bucket(10), enable_x_ratelimit_headers: 'DRAFT_VERSION_03' }),
  other: limit({ token_bucket: bucket(10), enable_x_ratelimit_headers: 'DRAFT_VERSION_03' }),
  refilled: limit({ token_bucket: bucket(1, '0.3s') }),
  status: limit({
    token_bucket: bucket(1),
    status: { code: 503 },
    response_headers_to_add: [{ header: { key: 'x-limited', value: 'yes' } }],
  }),
  grpc: limit({ token_bucket: bucket(1), rate_limited_as_resource_exhausted: true }),
  shadow: limit({ stat_prefix: 'shadow', token_bucket: bucket(1), filter_enforced: { default_value: {} } }),
  off: limit({ token_bucket: bucket(1), filter_enabled: undefined }),
  descriptors: limit({
    token_bucket: bucket(1000),
    descriptors: [
      { entries: [{ key: 'user', value: 'jason' }], token_bucket: bucket(2) },
      {
        entries: [
          { key: 'user', value: 'ann' },
          { key: 'plan', value: 'free' },
        ],
        token_bucket: bucket(1),
      },
    ],
  }),
  connection: limit({ token_bucket: bucket(2), local_rate_limit_per_downstream_connection: true }),
};

before(async () => {
  const upstream = await RawUpstream.start(scope, answering());
  proxy = await startTestProxy(
    scope,
    [
      httpListener({
        filters: [{ name: NAME, typed_config: { '@type': TYPE, stat_prefix: 'chain' } }],
        routes: {
          name: 'r',
          virtual_hosts: [
            {
              name: 'v',
              domains: ['*'],
              routes: Object.entries(ROUTES).map(([name, config]) => ({
                name,
                match: { prefix: `/${name}` },
                route: {
                  cluster: 'up',
                  rate_limits: [
                    {
                      actions: [
                        { request_headers: { header_name: 'x-user', descriptor_key: 'user' } },
                        { request_headers: { header_name: 'x-plan', descriptor_key: 'plan', skip_if_absent: true } },
                      ],
                    },
                  ],
                },
                typed_per_filter_config: { [NAME]: config },
              })),
            },
          ],
        },
      }),
      staticCluster('up', [upstream.port]),
    ],
    { concurrency: 2 },
  );
});

async function ask(path: string, headers: Record<string, string> = {}) {
  const response = await fetch(`http://127.0.0.1:${proxy.port()}/${path}`, {
    headers: { connection: 'close', ...headers },
  });
  return { status: response.status, text: await response.text(), headers: response.headers };
}

async function statuses(path: string, count: number, headers: Record<string, string> = {}): Promise<number[]> {
  const all: number[] = [];
  for (let i = 0; i < count; i++) all.push((await ask(path, headers)).status);
  return all;
}

test('a bucket is one for all threads: exactly so many requests pass', async () => {
  const all = await Promise.all(Array.from({ length: 40 }, () => ask('ten')));
  assert.equal(all.filter(({ status }) => status === 200).length, 10);
  assert.equal(all.filter(({ status }) => status === 429).length, 30);
  assert.equal(all.find(({ status }) => status === 429)?.text, 'local_rate_limited');
  assert.equal(proxy.value('limit.http_local_rate_limit.rate_limited'), 30);
});

test('another route with the same limit has a bucket of its own, and says what is left', async () => {
  const { status, headers } = await ask('other');
  assert.equal(status, 200);
  assert.equal(headers.get('x-ratelimit-limit'), '10');
  assert.equal(headers.get('x-ratelimit-remaining'), '9');
  assert.match(headers.get('x-ratelimit-reset') ?? '', /^(?:59|60)$/);
});

test('a bucket fills again, and not beyond its size', async () => {
  const one = async (): Promise<number> => (await ask('refilled')).status;
  assert.equal(await one(), 200);
  for (let round = 0; round < 2; round++) {
    await eventually('it is empty', async () => (await one()) === 429);
    await eventually('it is filled', async () => (await one()) === 200);
  }
});

test('status, headers and gRPC status are those that are configured', async () => {
  await ask('status');
  const limited = await ask('status');
  assert.deepEqual([limited.status, limited.headers.get('x-limited')], [503, 'yes']);
  const grpc = { 'content-type': 'application/grpc' };
  await ask('grpc', grpc);
  assert.equal((await ask('grpc', grpc)).headers.get('grpc-status'), '8');
});

test('what is not enforced is counted and passes; what is not enabled is not counted', async () => {
  assert.deepEqual(await statuses('shadow', 3), [200, 200, 200]);
  assert.equal(proxy.value('shadow.http_local_rate_limit.rate_limited'), 2);
  assert.equal(proxy.value('shadow.http_local_rate_limit.enforced'), 0);
  assert.deepEqual(await statuses('off', 3), [200, 200, 200]);
});

test('descriptors have buckets of their own', async () => {
  assert.deepEqual(await statuses('descriptors', 3, { 'x-user': 'jason' }), [200, 200, 429]);
  assert.deepEqual(await statuses('descriptors', 2, { 'x-user': 'ann', 'x-plan': 'free' }), [200, 429]);
  assert.deepEqual(await statuses('descriptors', 3, { 'x-user': 'ann' }), [200, 200, 200]);
  assert.deepEqual(await statuses('descriptors', 3), [200, 200, 200]);
});

test('a bucket per connection is new with each connection', async () => {
  assert.deepEqual(await statuses('connection', 5), [200, 200, 200, 200, 200]);
});

test('what makes no sense is refused with its field', () => {
  for (const [json, path] of [
    [{}, 'stat_prefix'],
    [{ stat_prefix: 'a', token_bucket: {} }, 'token_bucket.max_tokens'],
    [{ stat_prefix: 'a', token_bucket: { max_tokens: 0, fill_interval: '1s' } }, 'token_bucket.max_tokens'],
    [{ stat_prefix: 'a', token_bucket: { max_tokens: -1, fill_interval: '1s' } }, 'token_bucket.max_tokens'],
    [{ stat_prefix: 'a', token_bucket: { max_tokens: 1, fill_interval: '0.01s' } }, 'token_bucket.fill_interval'],
    [{ stat_prefix: 'a', rate_limits: [{ actions: [{ extension: {} }] }] }, 'rate_limits[0].actions[0].extension'],
  ] as const) {
    assert.throws(
      () => filter.parse(json),
      (error) => error instanceof ConfigError && error.path === path,
    );
  }
});
