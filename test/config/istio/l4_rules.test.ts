/** tls and tcp rules of VirtualServices, and ports that are not HTTP: which chains a sidecar's listeners get. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ConfigError } from '../../../proxy/config_error.ts';
import { Compiled, dig, digList, istio, SIDECAR } from './compiled.ts';

const entry = (name: string, host: string, spec: string): string =>
  istio('ServiceEntry', name, `hosts: ["${host}"]\nlocation: MESH_INTERNAL\n${spec}`);
const DB = entry(
  'db',
  'db.internal',
  'addresses: [10.9.9.9]\nresolution: STATIC\nports: [{ number: 5432, name: tcp, protocol: TCP }]\nendpoints: [{ address: 10.1.1.1 }]',
);
const OLD = entry(
  'old',
  'old.internal',
  'resolution: STATIC\nports: [{ number: 1111, name: tcp, protocol: TCP }]\nendpoints: [{ address: 10.1.1.2 }]',
);
const TLS = entry('tls', 'tls.internal', 'resolution: DNS\nports: [{ number: 443, name: tls, protocol: TLS }]');

/** `match → cluster or weights`, one a chain; `default` for the last. */
function chains(yaml: string, listener: string, labels: Record<string, string> = {}): string[] {
  const compiled = new Compiled(yaml, {
    mode: SIDECAR,
    mesh: { defaultProviders: { metrics: [] } },
    proxy: { name: 'p', namespace: 'default', labels, serviceAccount: 'p', ips: ['10.0.0.1'] },
  });
  const json = compiled.json('listener', listener);
  const show = (chain: unknown, name?: string): string => {
    const match = dig(chain, 'filter_chain_match') ?? {};
    const proxy = dig(digList(chain, 'filters').at(-1), 'typed_config');
    const clusters = digList(proxy, 'weighted_clusters', 'clusters').map(
      (item) => `${dig(item, 'name')}=${dig(item, 'weight')}`,
    );
    const to = clusters.length > 0 ? clusters.join(',') : (dig(proxy, 'cluster') ?? 'http');
    return `${name ?? JSON.stringify(match)} → ${to}`;
  };
  const fallback = dig(json, 'default_filter_chain');
  return [
    ...digList(json, 'filter_chains').map((chain) => show(chain)),
    ...(fallback === undefined ? [] : [show(fallback, 'default')]),
  ];
}

const rule = (spec: string): string => istio('VirtualService', 'rule', spec);

const cases: readonly (readonly [says: string, yaml: string, listener: string, wanted: readonly string[]])[] = [
  ['its own cluster when nothing is said', DB, '10.9.9.9_5432', ['{} → outbound|5432||db.internal']],
  [
    'the weights of a rule, without those that are 0',
    DB +
      OLD +
      rule(
        'hosts: [db.internal]\ntcp: [{ route: [{ destination: { host: db.internal }, weight: 90 }, { destination: { host: old.internal }, weight: 10 }, { destination: { host: tls.internal }, weight: 0 }] }]',
      ),
    '10.9.9.9_5432',
    ['{} → outbound|5432||db.internal=90,outbound|1111||old.internal=10'],
  ],
  [
    'a subset',
    DB +
      rule('hosts: [db.internal]\ntcp: [{ route: [{ destination: { host: db.internal, subset: v2 } }] }]') +
      istio('DestinationRule', 'db', 'host: db.internal\nsubsets: [{ name: v2, labels: { v: "2" } }]'),
    '10.9.9.9_5432',
    ['{} → outbound|5432|v2|db.internal'],
  ],
  [
    'its own cluster when a rule is for another port',
    DB +
      rule('hosts: [db.internal]\ntcp: [{ match: [{ port: 1 }], route: [{ destination: { host: old.internal } }] }]'),
    '10.9.9.9_5432',
    ['{} → outbound|5432||db.internal'],
  ],
  [
    'its own cluster when a rule is for other clients',
    DB +
      rule(
        'hosts: [db.internal]\ntcp: [{ match: [{ sourceLabels: { app: x } }], route: [{ destination: { host: old.internal } }] }]',
      ),
    '10.9.9.9_5432',
    ['{} → outbound|5432||db.internal'],
  ],
  [
    'a range of a rule before its own cluster',
    DB +
      OLD +
      rule(
        'hosts: [db.internal]\ntcp: [{ match: [{ destinationSubnets: [10.9.0.0/16] }], route: [{ destination: { host: old.internal } }] }]',
      ),
    '10.9.9.9_5432',
    [
      '{"prefix_ranges":[{"address_prefix":"10.9.0.0","prefix_len":16}]} → outbound|1111||old.internal',
      '{} → outbound|5432||db.internal',
    ],
  ],
  [
    'nowhere when a rule names a host that is none',
    DB + rule('hosts: [db.internal]\ntcp: [{ route: [{ destination: { host: nobody.internal } }] }]'),
    '10.9.9.9_5432',
    ['{} → BlackHoleCluster'],
  ],
  [
    'by its host when it is TLS without an address',
    TLS,
    '0.0.0.0_443',
    ['{"server_names":["tls.internal"]} → outbound|443||tls.internal', 'default → PassthroughCluster'],
  ],
  [
    'by the server names of a rule when it is TLS',
    TLS +
      DB +
      rule(
        'hosts: [tls.internal]\ntls: [{ match: [{ sniHosts: [a.internal, "*.b.internal"] }], route: [{ destination: { host: db.internal } }] }]',
      ),
    '0.0.0.0_443',
    ['{"server_names":["a.internal","*.b.internal"]} → outbound|5432||db.internal', 'default → PassthroughCluster'],
  ],
  [
    'with the older service when two without an address share a port',
    OLD +
      entry(
        'young',
        'young.internal',
        'resolution: STATIC\nports: [{ number: 1111, name: tcp, protocol: TCP }]\nendpoints: [{ address: 10.1.1.3 }]',
      ),
    '0.0.0.0_1111',
    ['{} → outbound|1111||old.internal'],
  ],
  [
    'as HTTP or as bytes when its protocol is not declared',
    entry(
      'any',
      'any.internal',
      'addresses: [10.9.9.8]\nresolution: STATIC\nports: [{ number: 9999, name: x }]\nendpoints: [{ address: 10.1.1.4 }]',
    ),
    '10.9.9.8_9999',
    [
      '{"transport_protocol":"raw_buffer","application_protocols":["http/1.1","h2c"]} → http',
      'default → outbound|9999||any.internal',
    ],
  ],
];

for (const [says, yaml, listener, wanted] of cases) {
  test(`a port that is not HTTP goes ${says}`, () => {
    assert.deepEqual(chains(yaml, listener), wanted);
  });
}

test('a rule for clients with labels is theirs', () => {
  const yaml =
    DB +
    OLD +
    rule(
      'hosts: [db.internal]\ntcp: [{ match: [{ sourceLabels: { app: x } }], route: [{ destination: { host: old.internal } }] }]',
    );
  assert.deepEqual(chains(yaml, '10.9.9.9_5432', { app: 'x' }), ['{} → outbound|1111||old.internal']);
});

test('TLS of a wildcard whose names are resolved goes where its server name says', () => {
  const wild = entry(
    'wild',
    '*.wild.example',
    'resolution: DYNAMIC_DNS\nports: [{ number: 443, name: tls, protocol: TLS }]',
  );
  const compiled = new Compiled(wild, { mode: SIDECAR });
  const filters = digList(digList(compiled.json('listener', '0.0.0.0_443'), 'filter_chains')[0], 'filters');
  assert.deepEqual(
    filters.map((filter) => dig(filter, 'name')),
    ['istio.stats', 'envoy.filters.network.sni_dynamic_forward_proxy', 'envoy.filters.network.tcp_proxy'],
  );
  assert.equal(dig(filters[1], 'typed_config', 'port_value'), 443);
});

test("a DestinationRule's TCP settings reach the proxy", () => {
  const yaml =
    DB +
    istio(
      'DestinationRule',
      'db',
      'host: db.internal\ntrafficPolicy: { connectionPool: { tcp: { idleTimeout: 30s, maxConnectionDuration: 1h } }, loadBalancer: { consistentHash: { useSourceIp: true } } }',
    );
  const compiled = new Compiled(yaml, { mode: SIDECAR });
  const proxy = digList(digList(compiled.json('listener', '10.9.9.9_5432'), 'filter_chains')[0], 'filters').at(-1);
  assert.equal(dig(proxy, 'typed_config', 'idle_timeout'), '30s');
  assert.equal(dig(proxy, 'typed_config', 'max_downstream_connection_duration'), '3600s');
  assert.deepEqual(dig(proxy, 'typed_config', 'hash_policy'), [{ source_ip: {} }]);
});

for (const [says, spec, place, complaint] of [
  [
    'a tls rule has no match',
    'tls: [{ route: [{ destination: { host: a.b } }] }]',
    'spec.tls[0].match',
    /at least one match is required/,
  ],
  [
    'a tls match names no server',
    'tls: [{ match: [{ port: 443 }], route: [{ destination: { host: a.b } }] }]',
    'spec.tls[0].match[0].sniHosts',
    /at least one host is required/,
  ],
  [
    'a server name has a wildcard within',
    'tls: [{ match: [{ sniHosts: ["a.*.b"] }], route: [{ destination: { host: a.b } }] }]',
    'spec.tls[0].match[0].sniHosts[0]',
    /one that begins with "\*\."/,
  ],
  [
    'a rule leads nowhere',
    'tcp: [{ match: [{ port: 1 }] }]',
    'spec.tcp[0].route',
    /at least one destination is required/,
  ],
  [
    'a destination has no host',
    'tcp: [{ route: [{ destination: { subset: v1 } }] }]',
    'spec.tcp[0].route[0].destination.host',
    /a host is required/,
  ],
  [
    'all weights are 0',
    'tcp: [{ route: [{ destination: { host: a.b } }, { destination: { host: c.d } }] }]',
    'spec.tcp[0].route',
    /must not all be 0/,
  ],
  [
    'a range is none',
    'tcp: [{ match: [{ destinationSubnets: ["10.0.0.0/40"] }], route: [{ destination: { host: a.b } }] }]',
    'spec.tcp[0].match[0].destinationSubnets[0]',
    /a range such as "10\.0\.0\.0\/8"/,
  ],
] as const) {
  test(`a VirtualService is refused with its place when ${says}`, () => {
    assert.throws(
      () => new Compiled(rule(`hosts: [a.b]\n${spec}`)),
      (error: Error) => {
        assert.ok(error instanceof ConfigError);
        assert.equal(error.path, place);
        assert.match(error.message, complaint);
        return true;
      },
    );
  });
}
