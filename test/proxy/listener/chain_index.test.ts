import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildChainMatch } from '../../../config/build/filter_chain_match.ts';
import type { ChainQuery } from '../../../proxy/listener_config.ts';
import { ChainIndex } from '../../../proxy/listener/chain_index.ts';
import { socketAddress } from '../../../proxy/net/connection_info.ts';
import { Fields } from '../../../proxy/resource_fields.ts';

type Match = Readonly<Record<string, unknown>>;
const cidr = (address_prefix: string, prefix_len: number) => ({ address_prefix, prefix_len });

interface Asked {
  readonly to?: string;
  readonly port?: number;
  readonly from?: string;
  readonly fromPort?: number;
  readonly direct?: string;
  readonly sni?: string;
  readonly transport?: string;
  readonly alpn?: readonly string[];
}

function find(chains: Readonly<Record<string, Match>>, asked: Asked): string | undefined {
  const index = new ChainIndex<string>();
  for (const [name, match] of Object.entries(chains)) index.add(buildChainMatch(new Fields(match)), name);
  const from = socketAddress(asked.from ?? '192.0.2.7', asked.fromPort ?? 40_000);
  const query: ChainQuery = {
    localAddress: socketAddress(asked.to ?? '10.1.2.3', asked.port ?? 80),
    remoteAddress: from,
    directRemoteAddress: asked.direct === undefined ? from : socketAddress(asked.direct, 1),
    serverName: asked.sni,
    transportProtocol: asked.transport ?? '',
    applicationProtocols: asked.alpn ?? [],
  };
  return index.find(query);
}

const ports = {
  any: {},
  http: { destination_port: 80 },
  tlsOn443: { destination_port: 443, transport_protocol: 'tls' },
};
const networks = {
  host: { prefix_ranges: [cidr('10.1.2.3', 32)] },
  net16: { prefix_ranges: [cidr('10.1.0.0', 16)] },
  net8: { prefix_ranges: [cidr('10.99.0.1', 8)] },
  v6: { prefix_ranges: [cidr('2001:db8::', 32)] },
  rest: {},
};
const names = {
  exact: { server_names: ['www.example.com'] },
  wild: { server_names: ['*.example.com'] },
  com: { server_names: ['*.com'] },
  none: {},
};
const protocols = {
  mtls: { transport_protocol: 'tls', application_protocols: ['istio', 'istio-h2'] },
  tls: { transport_protocol: 'tls' },
  plain: { transport_protocol: 'raw_buffer', application_protocols: ['http/1.1', 'h2c'] },
  raw: { transport_protocol: 'raw_buffer' },
};
const sources = {
  local: { source_type: 'SAME_IP_OR_LOOPBACK' },
  outside: { source_type: 'EXTERNAL' },
  port7: { source_type: 'EXTERNAL', source_ports: [7] },
  net: { source_type: 'EXTERNAL', source_prefix_ranges: [cidr('192.0.2.0', 24)] },
  balancer: { direct_source_prefix_ranges: [cidr('198.51.100.0', 24)] },
};

const cases: readonly (readonly [string, Readonly<Record<string, Match>>, Asked, string | undefined])[] = [
  ['names the port', ports, { port: 80 }, 'http'],
  ['names no port when none names this one', ports, { port: 81 }, 'any'],
  ['is none when the port is named and the rest does not fit', ports, { port: 443 }, undefined],
  ['has the longest prefix', networks, {}, 'host'],
  ['has the next longest prefix', networks, { to: '10.1.9.9' }, 'net16'],
  ['has a prefix with host bits set', networks, { to: '10.2.0.1' }, 'net8'],
  ['has an IPv6 prefix', networks, { to: '2001:db8::5' }, 'v6'],
  ['has no prefix when none holds the address', networks, { to: '203.0.113.1' }, 'rest'],
  ['names the server', names, { sni: 'www.example.com' }, 'exact'],
  ['names the closest wildcard', names, { sni: 'a.b.example.com' }, 'wild'],
  ['names a wider wildcard', names, { sni: 'example.com' }, 'com'],
  ['names no server when none fits', names, { sni: 'example.org' }, 'none'],
  ['names no server when the client names none', names, {}, 'none'],
  ['names one of the offered protocols', protocols, { transport: 'tls', alpn: ['h2', 'istio-h2'] }, 'mtls'],
  ['names only the transport', protocols, { transport: 'tls', alpn: ['h2'] }, 'tls'],
  ['names raw_buffer when nobody inspected', protocols, {}, 'raw'],
  ['names what the HTTP inspector found', protocols, { alpn: ['h2c'] }, 'plain'],
  ['is for loopback', sources, { from: '127.0.0.1' }, 'local'],
  ['is for the own address', sources, { from: '10.1.2.3' }, 'local'],
  ['is for outside', sources, { from: '203.0.113.9' }, 'outside'],
  ['names the source port', sources, { from: '203.0.113.9', fromPort: 7 }, 'port7'],
  ['names the source network', sources, {}, 'net'],
  ['names the peer of the socket', sources, { direct: '198.51.100.9' }, 'balancer'],
  [
    'is none because a more specific name was chosen first',
    { name: { server_names: ['a.b'], transport_protocol: 'tls' }, any: {} },
    { sni: 'a.b' },
    undefined,
  ],
  [
    'is chosen by destination before server name',
    { address: { prefix_ranges: [cidr('10.1.2.3', 32)] }, name: { server_names: ['a.b'] } },
    { sni: 'a.b' },
    'address',
  ],
  [
    'is chosen by server name before protocol',
    { name: { server_names: ['a.b'] }, protocol: { application_protocols: ['h2'] } },
    { sni: 'a.b', alpn: ['h2'] },
    'name',
  ],
  ['has no prefix when the connection came by a unix socket', networks, { to: '/run/x.sock', port: 0 }, 'rest'],
];

for (const [says, chains, asked, wanted] of cases) {
  test(`the filter chain ${says}`, () => {
    assert.equal(find(chains, asked), wanted);
    // The order in which chains are written says nothing.
    assert.equal(find(Object.fromEntries(Object.entries(chains).reverse()), asked), wanted);
  });
}

test('a chain is told which other has its rule, be it one of several', () => {
  const index = new ChainIndex<string>();
  const add = (name: string, match: Match) => index.add(buildChainMatch(new Fields(match)), name);
  assert.equal(add('a', { server_names: ['x.y', '*.z'] }), undefined);
  assert.equal(add('b', { server_names: ['q', '*.Z'] }), 'a');
  assert.equal(add('c', { server_names: ['*.x.y'] }), undefined);
});

for (const [says, match, path] of [
  ['a wildcard in the middle of a name', { server_names: ['a', 'w*.example.com'] }, 'server_names[1]'],
  ['a bare wildcard', { server_names: ['*'] }, 'server_names[0]'],
  [
    'a prefix that its family does not have',
    { prefix_ranges: [cidr('10.0.0.0', 33)] },
    'prefix_ranges[0].address_prefix',
  ],
  ['an address that is none', { source_prefix_ranges: [cidr('ten', 8)] }, 'source_prefix_ranges[0].address_prefix'],
  ['a port that is none', { source_ports: [0] }, 'source_ports[0]'],
  ['an unknown source type', { source_type: 'INSIDE' }, 'source_type'],
  ['a suffix', { address_suffix: '1.2.3.4' }, 'address_suffix'],
] as const) {
  test(`a chain match is refused with its field when it holds ${says}`, () => {
    assert.throws(() => buildChainMatch(new Fields(match)), { name: 'ConfigError', path });
  });
}
