/** The cors filter through a running proxy: preflights, simple requests, levels of configuration. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.cors.v3.';
const scope = fileScope();
let proxy: TestProxy;
let upstream: RawUpstream;

const policy = (json: Json): Json => ({ 'envoy.filters.http.cors': { '@type': `${TYPE}CorsPolicy`, ...json } });

before(async () => {
  upstream = await RawUpstream.start(scope, answering());
  const route = (prefix: string, json: Json | undefined): Json => ({
    match: { prefix },
    route: { cluster: 'up' },
    ...(json !== undefined && { typed_per_filter_config: policy(json) }),
  });
  const origins = [{ exact: 'https://good.example' }, { suffix: '.good.example' }];
  proxy = await startTestProxy(scope, [
    httpListener({
      filters: [{ name: 'envoy.filters.http.cors', typed_config: { '@type': `${TYPE}Cors` } }],
      routes: {
        name: 'r',
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            typed_per_filter_config: policy({ allow_origin_string_match: origins, max_age: '600' }),
            routes: [
              route('/full', {
                allow_methods: 'GET,POST',
                allow_headers: 'x-a,x-b',
                expose_headers: 'x-c',
                allow_credentials: true,
                allow_private_network_access: true,
              }),
              route('/echo', { allow_methods: '*', allow_headers: '*' }),
              route('/ignore', { forward_not_matching_preflights: false }),
              route('/off', { filter_enabled: { default_value: { numerator: 0 } } }),
              route('/shadow', {
                filter_enabled: { default_value: { numerator: 0 } },
                shadow_enabled: { default_value: { numerator: 100 } },
              }),
              {
                match: { prefix: '/disabled' },
                route: { cluster: 'up' },
                typed_per_filter_config: {
                  'envoy.filters.http.cors': {
                    '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig',
                    disabled: true,
                  },
                },
              },
              route('/', undefined),
            ],
          },
        ],
      },
    }),
    staticCluster('up', [upstream.port]),
  ]);
});

/** The access-control fields of an answer, and whether the upstream was asked. */
async function ask(path: string, headers: Record<string, string>, method = 'GET') {
  const asked = upstream.all.length;
  const response = await fetch(`http://127.0.0.1:${proxy.port()}${path}`, { method, headers });
  await response.text();
  const fields = Object.fromEntries([...response.headers].filter(([name]) => name.startsWith('access-control-')));
  return { status: response.status, fields, forwarded: upstream.all.length > asked };
}

const good = { origin: 'https://good.example' };
const preflight = { ...good, 'access-control-request-method': 'POST', 'access-control-request-headers': 'x-a' };

test('cors names the origin and exposes headers when a simple request comes from an allowed origin', async () => {
  assert.deepEqual(await ask('/full', good), {
    status: 200,
    fields: {
      'access-control-allow-origin': 'https://good.example',
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': 'x-c',
    },
    forwarded: true,
  });
  assert.equal(
    (await ask('/x', { origin: 'https://a.good.example' })).fields['access-control-allow-origin'],
    'https://a.good.example',
  );
});

test('cors says nothing when the origin is not allowed, or there is none', async () => {
  for (const headers of [{ origin: 'https://bad.example' }, { origin: 'https://good.example.bad.example' }, {}]) {
    assert.deepEqual((await ask('/full', headers)).fields, {});
  }
});

test('cors answers a preflight itself when the origin is allowed', async () => {
  assert.deepEqual(await ask('/full', { ...preflight, 'access-control-request-private-network': 'true' }, 'OPTIONS'), {
    status: 200,
    fields: {
      'access-control-allow-origin': 'https://good.example',
      'access-control-allow-credentials': 'true',
      'access-control-allow-methods': 'GET,POST',
      'access-control-allow-headers': 'x-a,x-b',
      'access-control-max-age': '600',
      'access-control-allow-private-network': 'true',
    },
    forwarded: false,
  });
});

test('cors allows what was asked for when methods and headers are *', async () => {
  const { fields } = await ask('/echo', preflight, 'OPTIONS');
  assert.equal(fields['access-control-allow-methods'], 'POST');
  assert.equal(fields['access-control-allow-headers'], 'x-a');
});

test('cors forwards a preflight of another origin unless it is told not to', async () => {
  const bad = { ...preflight, origin: 'https://bad.example' };
  assert.equal((await ask('/full', bad, 'OPTIONS')).forwarded, true);
  assert.deepEqual(await ask('/ignore', bad, 'OPTIONS'), {
    status: 200,
    fields: { 'access-control-max-age': '600' },
    forwarded: false,
  });
});

test('cors does nothing when it is off, and only counts when it is a shadow', async () => {
  assert.deepEqual((await ask('/off', good)).fields, {});
  assert.deepEqual((await ask('/disabled', good)).fields, {});
  const counted = proxy.value('http.test.cors.origin_valid');
  assert.deepEqual((await ask('/shadow', good)).fields, {});
  assert.equal(proxy.value('http.test.cors.origin_valid'), counted + 1);
});
