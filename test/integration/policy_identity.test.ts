/** Who a client has proved to be decides: policies from YAML over mutual TLS, on HTTP and on TCP. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { authorizationFilters } from '../../config/istio/authorization_filters.ts';
import { parseAuthorizationPolicy } from '../../config/istio/authorization_policy.ts';
import { ExtensionProviders } from '../../config/istio/extension_providers.ts';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { kubeObjects } from '../support/kube_objects.ts';
import { downstreamTls, type KeyPair, MeshCa } from '../support/mesh_ca.ts';
import { RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';
import { askOverTls } from '../support/tls_peers.ts';

const scope = fileScope();
const ca = new MeshCa();
const identity = (namespace: string, account: string, domain = 'cluster.local'): KeyPair =>
  ca.issue(`spiffe://${domain}/ns/${namespace}/sa/${account}`);
const server = identity('shop', 'server');
const PEERS = {
  web: identity('shop', 'web'),
  dot: identity('shop', 'aXb'),
  ops: identity('ops', 'web'),
  suffix: identity('shop', 'evil-x'),
  alias: identity('shop', 'web', 'old.example'),
};
let proxy: TestProxy;
let upstream: RawUpstream;

/** Each on an HTTP and on a TCP listener. */
const POLICIES: Readonly<Record<string, string>> = {
  principal: '{ rules: [{ from: [{ source: { principals: [cluster.local/ns/shop/sa/web] } }] }] }',
  account: '{ rules: [{ from: [{ source: { serviceAccounts: ["shop/a.b"] } }] }] }',
  namespace: '{ rules: [{ from: [{ source: { namespaces: [shop] } }] }] }',
  suffix: '{ action: DENY, rules: [{ from: [{ source: { principals: ["*-x"] } }] }] }',
  domain: '{ rules: [{ from: [{ source: { trustDomains: [old.example] } }] }] }',
};

function listeners(name: string, spec: string): Resource[] {
  const yaml = `apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: { name: a, namespace: shop }\nspec: ${spec}\n`;
  const policies = kubeObjects(yaml).map((object) =>
    parseAuthorizationPolicy(object, { object, path: [], allowUnknown: false }),
  );
  const input = {
    policies,
    providers: new ExtensionProviders([], () => false),
    trustDomains: ['cluster.local', 'old.example'],
  };
  const transport_socket = downstreamTls({ own: server, roots: ca.pem, prefix: 'spiffe://' });
  const http = httpListener({
    name: `http-${name}`,
    filters: authorizationFilters(input, false).others,
    routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]),
  });
  const [chain] = http.json['filter_chains'] as Json[];
  const proxyFilter = {
    name: 'envoy.filters.network.tcp_proxy',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
      stat_prefix: name,
      cluster: 'up',
    },
  };
  return [
    resource('listener', { ...http.json, filter_chains: [{ ...chain, transport_socket }] }),
    resource('listener', {
      name: `tcp-${name}`,
      address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
      filter_chains: [{ filters: [...authorizationFilters(input, true).others, proxyFilter], transport_socket }],
    }),
  ];
}

before(async () => {
  upstream = await RawUpstream.start(scope, (received, socket) => {
    if (received.endsWith('\r\n\r\n'))
      socket.end('HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok');
  });
  proxy = await startTestProxy(scope, [
    ...Object.entries(POLICIES).flatMap(([name, spec]) => listeners(name, spec)),
    staticCluster('up', [upstream.port]),
  ]);
});

/** Whom each policy lets in. */
const WANTED: Readonly<Record<string, readonly (keyof typeof PEERS)[]>> = {
  // Of an alias of the trust domain too.
  principal: ['web', 'alias'],
  // A dot is a dot: aXb is not a.b (attacks.md row 46).
  account: [],
  namespace: ['web', 'dot', 'suffix', 'alias'],
  // A suffix holds on TCP as on HTTP (CVE-2020-16844).
  suffix: ['web', 'dot', 'ops', 'alias'],
  domain: ['alias'],
};

for (const [name, wanted] of Object.entries(WANTED)) {
  test(`${name}: ${wanted.length === 0 ? 'nobody' : wanted.join(', ')} and nobody else, over HTTP and TCP`, async () => {
    for (const [peer, pair] of Object.entries(PEERS)) {
      const forwarded = upstream.received.length;
      for (const kind of ['http', 'tcp']) {
        const { text } = await askOverTls(proxy.port(`${kind}-${name}`), {
          cert: pair.chain,
          key: pair.key,
          rejectUnauthorized: false,
        });
        const allowed = (wanted as readonly string[]).includes(peer);
        assert.equal(text.includes('200 OK'), allowed, `${peer} over ${kind}: ${text}`);
        if (!allowed) assert.equal(text.includes('RBAC: access denied'), kind === 'http', text);
      }
      if (!(wanted as readonly string[]).includes(peer)) assert.equal(upstream.received.length, forwarded);
    }
  });
}
