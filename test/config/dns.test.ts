/** What a cluster says about names, read; what cannot be done is refused by name. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { buildCluster } from '../../config/build/cluster.ts';
import type { Json } from '../../config/resources.ts';

const TYPE = 'type.googleapis.com/envoy.extensions';
const ASSIGNMENT = {
  cluster_name: 'a',
  endpoints: [
    { lb_endpoints: [{ endpoint: { address: { socket_address: { address: 'a.example', port_value: 80 } } } }] },
  ],
};
const cluster = (json: Json): Json => ({ name: 'a', type: 'STRICT_DNS', load_assignment: ASSIGNMENT, ...json });
const server = (address: string, port_value?: number): Json => ({
  socket_address: { address, ...(port_value !== undefined && { port_value }) },
});
const resolver = (type: string, json: Json = {}): Json => ({
  typed_dns_resolver_config: { name: 'x', typed_config: { '@type': `${TYPE}.network.dns_resolver.${type}`, ...json } },
});
const cares = (json: Json): Json => resolver('cares.v3.CaresDnsResolverConfig', json);

const SYSTEM = {
  kind: 'cares',
  servers: [],
  onlyWithoutOthers: false,
  searches: true,
  timeoutMs: undefined,
  tries: undefined,
};

describe('a cluster’s DNS', () => {
  const resolvers: readonly [string, Json, Json][] = [
    ['nothing', {}, SYSTEM],
    ['what istiod sends', cares({ udp_max_queries: 100 }), SYSTEM],
    [
      'c-ares with all that is executed',
      cares({
        resolvers: [server('10.0.0.1'), server('fd00::1', 5353)],
        use_resolvers_as_fallback: true,
        dns_resolver_options: { no_default_search_domain: true },
        query_timeout_seconds: 3,
        query_tries: 7,
      }),
      {
        kind: 'cares',
        servers: ['10.0.0.1:53', '[fd00::1]:5353'],
        onlyWithoutOthers: true,
        searches: false,
        timeoutMs: 3000,
        tries: 7,
      },
    ],
    [
      'getaddrinfo',
      resolver('getaddrinfo.v3.GetAddrInfoDnsResolverConfig', { num_retries: 2 }),
      { kind: 'getaddrinfo', retries: 2 },
    ],
    [
      'the typed one before the old one',
      { ...cares({ resolvers: [server('10.0.0.1')] }), dns_resolvers: [server('10.0.0.2')] },
      { ...SYSTEM, servers: ['10.0.0.1:53'] },
    ],
    [
      'dns_resolution_config before dns_resolvers',
      { dns_resolution_config: { resolvers: [server('10.0.0.1')] }, dns_resolvers: [server('10.0.0.2')] },
      { ...SYSTEM, servers: ['10.0.0.1:53'] },
    ],
    ['dns_resolvers', { dns_resolvers: [server('10.0.0.2')] }, { ...SYSTEM, servers: ['10.0.0.2:53'] }],
  ];
  for (const [says, json, wanted] of resolvers) {
    it(`has the resolver of ${says}`, () =>
      assert.deepEqual(buildCluster(cluster(json), 'test:1').dns.resolver, wanted));
  }

  it('has its times', () => {
    const { dns } = buildCluster(
      cluster({
        dns_refresh_rate: '30s',
        dns_failure_refresh_rate: { base_interval: '0.5s' },
        dns_jitter: '0.100s',
        respect_dns_ttl: true,
        dns_lookup_family: 'V6_ONLY',
      }),
      'test:1',
    );
    assert.deepEqual(
      { ...dns, resolver: undefined },
      {
        family: 'v6_only',
        respectTtl: true,
        refreshMs: 30_000,
        minRefreshMs: 0,
        failure: { baseMs: 500, maxMs: 5000 },
        jitterMs: 100,
        resolver: undefined,
      },
    );
  });

  for (const single of [true, false]) {
    it(`is read from a DnsCluster with all_addresses_in_single_endpoint ${single}`, () => {
      const { discovery, dns } = buildCluster(
        {
          name: 'a',
          load_assignment: ASSIGNMENT,
          cluster_type: {
            name: 'envoy.cluster.dns',
            typed_config: {
              '@type': `${TYPE}.clusters.dns.v3.DnsCluster`,
              all_addresses_in_single_endpoint: single,
              dns_min_refresh_rate: '2s',
              dns_lookup_family: 'UNSPECIFIED',
            },
          },
        },
        'test:1',
      );
      assert.equal(discovery.kind, single ? 'logical_dns' : 'strict_dns');
      assert.deepEqual([dns.family, dns.minRefreshMs, dns.refreshMs], ['auto', 2000, 5000]);
    });
  }

  const refused: readonly [Json, RegExp][] = [
    [
      cares({ dns_resolver_options: { use_tcp_for_dns_lookups: true } }),
      /dns_resolver_options\.use_tcp_for_dns_lookups: is not supported/,
    ],
    [{ use_tcp_for_dns_lookups: true }, /^use_tcp_for_dns_lookups: is not supported/],
    [cares({ filter_unroutable_families: true }), /typed_config\.filter_unroutable_families: is not supported/],
    [
      cares({ resolvers: [server('dns.example')] }),
      /resolvers\[0\]\.socket_address\.address: a resolver is named by its IP address, got "dns\.example"/,
    ],
    [cares({ resolvers: [{ pipe: { path: '/x' } }] }), /resolvers\[0\]\.socket_address: is required/],
    [cares({ query_timeout_seconds: 0 }), /query_timeout_seconds: must be 1 to/],
    [
      resolver('apple.v3.AppleDnsResolverConfig'),
      /DNS resolver envoy\.extensions\.network\.dns_resolver\.apple\.v3\.AppleDnsResolverConfig is not supported/,
    ],
    [{ dns_refresh_rate: '0s' }, /^dns_refresh_rate: must be at least 0\.001s/],
    [{ dns_failure_refresh_rate: { max_interval: '1s' } }, /^dns_failure_refresh_rate\.base_interval: is required/],
    [
      { dns_failure_refresh_rate: { base_interval: '2s', max_interval: '1s' } },
      /^dns_failure_refresh_rate\.max_interval: must not be below base_interval/,
    ],
  ];
  for (const [json, message] of refused) {
    it(`refuses ${JSON.stringify(json).slice(0, 120)}`, () =>
      assert.throws(() => buildCluster(cluster(json), 'test:1'), { message }));
  }
});
