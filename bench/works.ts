/** What is measured: for each work the configuration of every peer and the request that wrk sends. */

export interface Work {
  readonly name: string;
  readonly says: string;
  readonly path: string;
  readonly headers: readonly string[];
  readonly connections: number;
  /** Envoy bootstrap (JSON is YAML) for a proxy at `port` before the upstream at `upstream`. */
  envoy(port: number, upstream: number): string;
  /** Peers that take part; `pillion` and `envoy` read the same configuration. */
  readonly peers: readonly string[];
}

const ALL = ['pillion', 'envoy', 'haproxy', 'nginx'];

export const works: readonly Work[] = [
  {
    name: 'small',
    says: '64-byte answers, router only, keep-alive, 50 connections',
    path: '/small',
    headers: [],
    connections: 50,
    envoy: (port, upstream) => bootstrap(port, upstream, {}),
    peers: ALL,
  },
  {
    name: 'chain',
    says: 'the same; Pillion with cors, istio.stats, request ids: the whole default chain; Envoy router only',
    path: '/small',
    headers: [],
    connections: 50,
    envoy: (port, upstream) => bootstrap(port, upstream, { chain: true }),
    peers: ['pillion-chain', 'envoy', 'haproxy'],
  },
  {
    name: 'large',
    says: '1 MB answers, router only, 20 connections',
    path: '/large',
    headers: [],
    connections: 20,
    envoy: (port, upstream) => bootstrap(port, upstream, {}),
    peers: ALL,
  },
  {
    name: 'tcp-large',
    says: '1 MB answers as bytes of TCP connections, 20 connections',
    path: '/large',
    headers: [],
    connections: 20,
    envoy: (port, upstream) => bootstrap(port, upstream, { tcp: true }),
    peers: ['pillion', 'envoy'],
  },
  ...[10, 10_000].flatMap((count) =>
    (['last', 'miss'] as const).map(
      (which): Work => ({
        name: `routes-${count}-${which}`,
        says: `${count} routes (70 % exact, 25 % prefix, 5 % regex or header), ${which === 'last' ? 'the last one hit' : 'none hit: a direct answer behind them'}`,
        path: which === 'last' ? `/prefix-${count - 1}/x` : '/nothing/like/it',
        headers: [],
        connections: 50,
        envoy: (port, upstream) => bootstrap(port, upstream, { routes: count }),
        peers: count === 10 ? ['pillion', 'envoy'] : ['pillion', 'envoy'],
      }),
    ),
  ),
];

interface BootstrapOptions {
  readonly chain?: boolean;
  readonly routes?: number;
  /** tcp_proxy instead of the connection manager. */
  readonly tcp?: boolean;
}

function bootstrap(
  port: number,
  upstream: number,
  { chain = false, routes = 0, tcp = false }: BootstrapOptions,
): string {
  const type = (name: string): string => `type.googleapis.com/${name}`;
  const filter = (name: string, typeName: string, json: object = {}): object => ({
    name,
    typed_config: { '@type': type(typeName), ...json },
  });
  const routeList: object[] = [];
  for (let i = 0; i < routes; i++) routeList.push({ match: routeMatch(i, routes), route: { cluster: 'upstream' } });
  routeList.push({ match: { prefix: '/' }, route: { cluster: 'upstream' } });
  const hcm = {
    stat_prefix: 'bench',
    http_filters: [
      ...(chain
        ? [
            filter('envoy.filters.http.cors', 'envoy.extensions.filters.http.cors.v3.Cors'),
            filter('istio.stats', 'stats.PluginConfig'),
          ]
        : []),
      filter('envoy.filters.http.router', 'envoy.extensions.filters.http.router.v3.Router'),
    ],
    route_config: { name: 'bench', virtual_hosts: [{ name: 'all', domains: ['*'], routes: routeList }] },
  };
  return JSON.stringify({
    static_resources: {
      listeners: [
        {
          name: 'bench',
          address: { socket_address: { address: '127.0.0.1', port_value: port } },
          filter_chains: [
            {
              filters: [
                tcp
                  ? filter(
                      'envoy.filters.network.tcp_proxy',
                      'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
                      {
                        stat_prefix: 'bench',
                        cluster: 'upstream',
                      },
                    )
                  : filter(
                      'envoy.filters.network.http_connection_manager',
                      'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
                      hcm,
                    ),
              ],
            },
          ],
        },
      ],
      clusters: [
        {
          name: 'upstream',
          type: 'STATIC',
          connect_timeout: '5s',
          load_assignment: {
            cluster_name: 'upstream',
            endpoints: [
              {
                lb_endpoints: [
                  {
                    endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: upstream } } },
                  },
                ],
              },
            ],
          },
        },
      ],
    },
  });
}

/** 70 % exact, 25 % prefix, 5 % regex or header; the last one is a prefix, so that hitting it means passing all. */
function routeMatch(index: number, count: number): object {
  const kind = index % 20;
  if (index === count - 1 || (kind >= 14 && kind < 19)) return { prefix: `/prefix-${index}/` };
  if (kind < 14) return { path: `/exact-${index}` };
  return index % 40 === 19
    ? { safe_regex: { regex: `/regex-${index}/[a-z]+` } }
    : { prefix: '/', headers: [{ name: 'x-route', string_match: { exact: `route-${index}` } }] };
}
