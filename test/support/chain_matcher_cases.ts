/** Listeners whose filter chains a tree of matchers chooses, and which chain each client gets: asked of us, and of us and Envoy. */
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig } from './envoy_resources.ts';
import { extension, list, on } from './matcher_cases.ts';
import { downstreamTls, MeshCa } from './mesh_ca.ts';
import { resource } from './static_source.ts';
import { askOverTls } from './tls_peers.ts';

const NETWORK = 'envoy.extensions.matching.common_inputs.network.v3.';
export const input = (name: string, more: Json = {}): Json => extension(NETWORK + name, more);
export const toChain = (value: string): Json => ({ action: extension('google.protobuf.StringValue', { value }) });
const regex = (text: string): Json => ({ safe_regex: { google_re2: {}, regex: text } });
const own = new MeshCa().issue('spiffe://cluster.local/ns/shop/sa/web');
const tls = downstreamTls({ own, alpn: ['h2', 'http/1.1', 'istio'] });
const INSPECTOR: Json = {
  name: 'envoy.filters.listener.tls_inspector',
  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector' },
};

/** A chain answers with its own status. */
export function chain(name: string, status: number, more: Json = {}): Json {
  const { json } = httpListener({ routes: routeConfig([{ match: { prefix: '/' }, direct_response: { status } }]) });
  const [only] = json['filter_chains'] as Json[];
  return { ...only, name, ...more };
}

/** Chains a (201) and b (202), and d (209) for what no matcher takes. */
export function matchedListener(name: string, matcher: Json, overTls: boolean, more: Json = {}): Resource {
  const socket = overTls ? { transport_socket: tls } : {};
  return resource('listener', {
    name,
    stat_prefix: 'chosen',
    address: { socket_address: { address: '127.0.0.1', port_value: 0 } },
    filter_chains: [chain('a', 201, socket), chain('b', 202, socket)],
    filter_chain_matcher: matcher,
    ...(overTls && { listener_filters: [INSPECTOR] }),
    ...more,
  });
}

const source = (text: string): Json => on(input('SourceIPInput'), { exact: text });
const byDefault = { default_filter_chain: chain('d', 209) };

/** Over plain connections: what one client gets; undefined: it is closed. */
export const PLAIN: readonly (readonly [name: string, matcher: Json, more: Json, status: number | undefined])[] = [
  ['source address', list([source('127.0.0.1'), toChain('b')]), {}, 202],
  ['nothing matches', list([source('127.0.0.2'), toChain('a')]), {}, undefined],
  ['nothing matches, default chain', list([source('127.0.0.2'), toChain('a')]), byDefault, 209],
  ['a name that no chain has', list([source('127.0.0.1'), toChain('zzz')]), byDefault, undefined],
  ['the default chain by name', list([source('127.0.0.1'), toChain('d')]), byDefault, undefined],
  ['an empty matcher', {}, {}, undefined],
  ['only a fallback', { on_no_match: toChain('a') }, {}, 201],
  ['source type', list([on(input('SourceTypeInput'), { exact: 'local' }), toChain('b')]), {}, 202],
  ['transport', list([on(input('TransportProtocolInput'), { exact: 'raw_buffer' }), toChain('b')]), {}, 202],
  ['no server name', list([on(input('ServerNameInput'), regex('.*')), toChain('a')]), byDefault, 209],
  ['no protocols', list([on(input('ApplicationProtocolInput'), regex('.*')), toChain('a')]), byDefault, 209],
  ['port', list([on(input('DestinationPortInput'), regex('[0-9]{4,5}')), toChain('b')]), {}, 202],
  [
    'ranges',
    {
      matcher_tree: {
        input: input('DirectSourceIPInput'),
        custom_match: extension('xds.type.matcher.v3.IPMatcher', {
          range_matchers: [
            {
              ranges: [{ address_prefix: '127.0.0.0', prefix_len: 8 }],
              on_match: { matcher: list([source('127.0.0.1'), toChain('b')]) },
            },
          ],
        }),
      },
    },
    {},
    202,
  ],
];

const names = (...entries: readonly (readonly [string, string])[]): Json => ({
  matcher_tree: {
    input: input('ServerNameInput'),
    custom_match: extension('xds.type.matcher.v3.ServerNameMatcher', {
      domain_matchers: entries.map(([domain, to]) => ({ domains: [domain], on_match: toChain(to) })),
    }),
  },
});

/** Over TLS, by CLIENTS. */
export const OVER_TLS: readonly (readonly [name: string, matcher: Json, statuses: readonly (number | undefined)[]])[] =
  [
    [
      'transport protocol',
      list([on(input('TransportProtocolInput'), { exact: 'tls' }), toChain('b')]),
      [202, 202, 202],
    ],
    [
      'server name',
      list([on(input('ServerNameInput'), { exact: 'shop.example' }), toChain('b')]),
      [202, 202, undefined],
    ],
    ['server names', names(['shop.example', 'a'], ['*.example', 'b'], ['*', 'b']), [201, 201, undefined]],
    [
      'application protocols',
      list(
        [on(input('ApplicationProtocolInput'), { exact: "'http/1.1'" }), toChain('b')],
        [on(input('ApplicationProtocolInput'), { exact: "'istio','http/1.1'" }), toChain('a')],
      ),
      [202, 201, undefined],
    ],
  ];
const CLIENTS = [
  { servername: 'shop.example', ALPNProtocols: ['http/1.1'] },
  { servername: 'SHOP.example', ALPNProtocols: ['istio', 'http/1.1'] },
  {},
];

export function chainListeners(): Resource[] {
  return [
    ...PLAIN.map(([name, matcher, more]) => matchedListener(name, matcher, false, more)),
    ...OVER_TLS.map(([name, matcher]) => matchedListener(`TLS ${name}`, matcher, true)),
  ];
}

/** undefined: the connection was closed instead. */
export async function plainStatus(port: number): Promise<number | undefined> {
  const answer = await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined);
  return answer?.status;
}

export async function tlsStatuses(port: number): Promise<(number | undefined)[]> {
  const statuses: (number | undefined)[] = [];
  for (const client of CLIENTS) {
    const { text } = await askOverTls(port, client);
    const found = /^HTTP\/1.1 (\d+)/.exec(text)?.[1];
    statuses.push(found === undefined ? undefined : Number(found));
  }
  return statuses;
}
