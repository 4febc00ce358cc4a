/** The configuration that Pillion and Envoy both read. */
import { type Handshakes, mutualTlsBootstrap } from './mutual_tls.ts';
import { policyFilters } from './policy.ts';
import { resilientCluster, resilientFilters, resilientRoute } from './resilience.ts';

export interface BootstrapOptions {
  readonly chain?: boolean;
  readonly routes?: number;
  /** Beside the one that is used. */
  readonly clusters?: number;
  /** Istio's text format to this file. */
  readonly accessLog?: string;
  /** Two sidecars in one process with mutual TLS between them: on kept connections, or a handshake each request. */
  readonly mutualTls?: Handshakes;
  /** The upstream speaks HTTP/2. */
  readonly http2?: boolean;
  /** tcp_proxy instead of the connection manager. */
  readonly tcp?: boolean;
  /** The policy chain before the router; with mutual TLS on the server's side. */
  readonly policy?: boolean;
  /** Retries, timeouts, breakers, ejection, health checks, rate limit, faults and mirrors, none of which fires. */
  readonly resilience?: boolean;
}

/** For a proxy at `port` before the upstream at `upstream`; JSON is YAML. */
export function bootstrap(
  port: number,
  upstream: number,
  {
    chain = false,
    routes = 0,
    clusters = 0,
    accessLog,
    http2 = false,
    tcp = false,
    mutualTls,
    policy = false,
    resilience = false,
  }: BootstrapOptions,
): string {
  if (mutualTls !== undefined) return mutualTlsBootstrap(port, upstream, mutualTls, policy ? policyFilters() : []);
  const type = (name: string): string => `type.googleapis.com/${name}`;
  const filter = (name: string, typeName: string, json: object = {}): object => ({
    name,
    typed_config: { '@type': type(typeName), ...json },
  });
  const routeList: object[] = [];
  for (let i = 0; i < routes; i++) routeList.push({ match: routeMatch(i, routes), route: { cluster: 'upstream' } });
  routeList.push({ match: { prefix: '/' }, ...(resilience ? resilientRoute() : { route: { cluster: 'upstream' } }) });
  const hcm = {
    stat_prefix: 'bench',
    ...(accessLog !== undefined && { access_log: [fileLog(accessLog)] }),
    http_filters: [
      ...(policy ? policyFilters() : []),
      ...(resilience ? resilientFilters() : []),
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
    overload_manager: { resource_monitors: [moreConnections()] },
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
        { ...cluster('upstream', upstream), ...(http2 && HTTP2), ...(resilience && resilientCluster()) },
        ...Array.from({ length: clusters }, (_, index) =>
          cluster(`outbound|80||service-${index}.default.svc.cluster.local`, upstream),
        ),
      ],
    },
  });
}

/** 70 % exact, 25 % prefix, 5 % regex or header; the last one is a prefix, so that hitting it means passing all. */
export function routeMatch(index: number, count: number): object {
  const kind = index % 20;
  if (index === count - 1 || (kind >= 14 && kind < 19)) return { prefix: `/prefix-${index}/` };
  if (kind < 14) return { path: `/exact-${index}` };
  return index % 40 === 19
    ? { safe_regex: { regex: `/regex-${index}/[a-z]+` } }
    : { prefix: '/', headers: [{ name: 'x-route', string_match: { exact: `route-${index}` } }] };
}

const HTTP2 = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

function cluster(name: string, port: number): object {
  const endpoint = { address: { socket_address: { address: '127.0.0.1', port_value: port } } };
  const load_assignment = { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint }] }] };
  return { name, type: 'STATIC', connect_timeout: '5s', load_assignment };
}

/** istio.md §3.2 */
export const ISTIO_FORMAT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n';

function fileLog(path: string): object {
  return {
    name: 'envoy.access_loggers.file',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
      path,
      log_format: { text_format_source: { inline_string: ISTIO_FORMAT } },
    },
  };
}

/** Where descriptors are few, Pillion of itself takes one connection for two of them: too few for `idle`. */
function moreConnections(): object {
  const type = 'envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig';
  return {
    name: 'envoy.resource_monitors.global_downstream_max_connections',
    typed_config: { '@type': `type.googleapis.com/${type}`, max_active_downstream_connections: 12_000 },
  };
}
