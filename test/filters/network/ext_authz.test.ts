/** The network ext_authz filter through a running proxy: who is asked about a connection, and what comes of it. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import filter from '../../../filters/network/ext_authz.ts';
import type { Json, Resource } from '../../../config/resources.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
import { staticCluster } from '../../support/envoy_resources.ts';
import { HTTP2 } from '../../support/ext_authz_cases.ts';
import { type GrpcAuthorizer, startGrpcAuthorizer } from '../../support/grpc_authorizer.ts';
import { RawClient, RawUpstream } from '../../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../../support/running_proxy.ts';
import { fileScope } from '../../support/scope.ts';
import { resource } from '../../support/static_source.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.network.';
const scope = fileScope();
let proxy: TestProxy;
let upstream: RawUpstream;
let authorizer: GrpcAuthorizer;
let answer: Json | undefined = {};

const SERVICE: Json = {
  stat_prefix: 'tcp.',
  transport_api_version: 'V3',
  grpc_service: { envoy_grpc: { cluster_name: 'grpc' }, timeout: '2s' },
};

function guarded(name: string, config: Json, before: readonly Json[] = []): Resource {
  return resource('listener', {
    name,
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    filter_chains: [
      {
        filters: [
          ...before,
          {
            name: 'envoy.filters.network.ext_authz',
            typed_config: { '@type': `${TYPE}ext_authz.v3.ExtAuthz`, ...config },
          },
          {
            name: 'envoy.filters.network.tcp_proxy',
            typed_config: { '@type': `${TYPE}tcp_proxy.v3.TcpProxy`, stat_prefix: name, cluster: 'up' },
          },
        ],
      },
    ],
  });
}

before(async () => {
  upstream = await RawUpstream.start(scope, (received, socket) => socket.end(`got ${received}`));
  authorizer = await startGrpcAuthorizer(scope, () => answer);
  const gate = {
    filter_enabled_metadata: {
      filter: 'envoy.filters.network.rbac',
      path: [{ key: 'istio_ext_authz_shadow_effective_policy_id' }],
      value: { string_match: { prefix: 'istio-ext-authz-p' } },
    },
  };
  const shadow = (port: number) => ({
    name: 'envoy.filters.network.rbac',
    typed_config: {
      '@type': `${TYPE}rbac.v3.RBAC`,
      stat_prefix: 'tcp.',
      shadow_rules_stat_prefix: 'istio_ext_authz_',
      shadow_rules: {
        action: 'DENY',
        policies: {
          'istio-ext-authz-p-x': {
            permissions: [{ destination_port_range: { start: port, end: 65536 } }],
            principals: [{ any: true }],
          },
        },
      },
    },
  });
  proxy = await startTestProxy(scope, [
    guarded('asked', SERVICE),
    guarded('open', { ...SERVICE, failure_mode_allow: true }),
    guarded('gated', { ...SERVICE, ...gate }, [shadow(1)]),
    guarded('ungated', { ...SERVICE, ...gate }, [shadow(65536)]),
    staticCluster('up', [upstream.port]),
    staticCluster('grpc', [authorizer.port], HTTP2),
  ]);
});

const talk = (t: Parameters<typeof RawUpstream.start>[0], name: string): Promise<string> =>
  new RawClient(t, proxy.port(name)).send('hello').toEnd();

test('an allowed connection passes, and what was asked names both ends', async (t) => {
  answer = {};
  assert.equal(await talk(t, 'asked'), 'got hello');
  const attributes = authorizer.asked.at(-1)?.['attributes'] as Record<string, { address: { socket_address: Json } }>;
  assert.equal(attributes['source']?.address.socket_address['address'], '127.0.0.1');
  assert.equal(attributes['destination']?.address.socket_address['port_value'], proxy.port('asked'));
  assert.equal(proxy.value('ext_authz.tcp.ok'), 1);
});

test('a denied connection, and one about which nobody answers, is closed before a byte passes', async (t) => {
  const before = upstream.received.length;
  answer = { status: { code: 7 } };
  assert.equal(await talk(t, 'asked'), '');
  answer = undefined;
  assert.equal(await talk(t, 'asked'), '');
  assert.equal(upstream.received.length, before);
  assert.equal(proxy.value('ext_authz.tcp.cx_closed'), 2);
});

test('failure_mode_allow lets through what nobody decided, not what was denied', async (t) => {
  answer = undefined;
  assert.equal(await talk(t, 'open'), 'got hello');
  answer = { status: { code: 7 } };
  assert.equal(await talk(t, 'open'), '');
});

test('only what shadow rules matched is asked about', async (t) => {
  answer = { status: { code: 7 } };
  const before = authorizer.asked.length;
  assert.equal(await talk(t, 'ungated'), 'got hello');
  assert.equal(authorizer.asked.length, before);
  assert.equal(await talk(t, 'gated'), '');
  assert.equal(authorizer.asked.length, before + 1);
});

test('network ext_authz refuses what it would have to skip', () => {
  const { grpc_service: _service, ...without } = SERVICE;
  assert.throws(() => filter.parse(without), ConfigError);
  assert.throws(() => filter.parse({ ...SERVICE, transport_api_version: 'AUTO' }), /must be V3/);
  assert.throws(() => filter.parse({ ...SERVICE, stat_prefix: '' }), /stat_prefix/);
});
