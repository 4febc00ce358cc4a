/** A bootstrap in the shape that Istio's pilot-agent writes for its Envoy (istio/istio tools/packaging/common), with the fields that matter. */
import type { Json } from '../../config/resources.ts';
import { routeConfig } from './envoy_resources.ts';

export interface AgentBootstrapOptions {
  readonly adminPort: number;
  /** `…/XDS`. */
  readonly xdsSocket: string;
  /** The agent's own port: readiness. */
  readonly agentPort: number;
  readonly protocol?: 'DELTA_GRPC' | 'GRPC';
}

const HTTP2: Json = {
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
    explicit_http_config: { http2_protocol_options: {} },
  },
};

function cluster(name: string, address: Json, more: Json = {}): Json {
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    lb_policy: 'ROUND_ROBIN',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
    ...more,
  };
}

const local = (port: number): Json => ({
  socket_address: { protocol: 'TCP', address: '127.0.0.1', port_value: port },
});

/** Without a name, as the template has them. */
function listener(statPrefix: string, prefix: string, to: string): Json {
  return {
    address: local(0),
    filter_chains: [
      {
        filters: [
          {
            name: 'envoy.filters.network.http_connection_manager',
            typed_config: {
              '@type':
                'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
              codec_type: 'AUTO',
              stat_prefix: statPrefix,
              route_config: routeConfig([{ match: { prefix }, route: { cluster: to } }], 'backend'),
              http_filters: [
                {
                  name: 'envoy.filters.http.router',
                  typed_config: { '@type': 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router' },
                },
              ],
            },
          },
        ],
      },
    ],
  };
}

export function agentBootstrap({
  adminPort,
  xdsSocket,
  agentPort,
  protocol = 'DELTA_GRPC',
}: AgentBootstrapOptions): Json {
  const ads = { ads: {}, initial_fetch_timeout: '0s', resource_api_version: 'V3' };
  return {
    node: {
      id: 'sidecar~10.1.2.3~web-0.shop~shop.svc.cluster.local',
      cluster: 'web.shop',
      locality: { region: 'eu', zone: 'west' },
      metadata: {
        NAMESPACE: 'shop',
        LABELS: { app: 'web' },
        ENVOY_STATUS_PORT: 15021,
        PROXY_CONFIG: { concurrency: 2 },
      },
    },
    layered_runtime: {
      layers: [
        {
          name: 'global config',
          static_layer: {
            'envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst': true,
            'envoy.reloadable_features.http_reject_path_with_fragment': false,
            'overload.global_downstream_max_connections': '2147483647',
            're2.max_program_size.error_level': '32768',
          },
        },
        { name: 'admin', admin_layer: {} },
      ],
    },
    bootstrap_extensions: [
      {
        name: 'envoy.bootstrap.internal_listener',
        typed_config: {
          '@type': 'type.googleapis.com/udpa.type.v1.TypedStruct',
          type_url: 'type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener',
          value: { buffer_size_kb: 64 },
        },
      },
    ],
    stats_config: {
      use_all_default_tags: false,
      stats_tags: [
        { tag_name: 'cluster_name', regex: '^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)' },
        { tag_name: 'response_code', regex: '_rq(_(\\d{3}))$' },
      ],
      stats_matcher: {
        inclusion_list: {
          patterns: [
            { prefix: 'reporter=' },
            { prefix: 'cluster_manager' },
            { prefix: 'listener_manager' },
            { prefix: 'server' },
            { prefix: 'cluster.xds-grpc' },
            { suffix: 'rbac.allowed' },
            { suffix: 'downstream_cx_active' },
            { safe_regex: { regex: 'vhost\\..*\\.route\\..*' } },
            { prefix: 'component' },
            { prefix: 'istio' },
          ],
        },
      },
    },
    admin: {
      access_log: [
        {
          name: 'envoy.access_loggers.file',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog',
            path: '/dev/null',
          },
        },
      ],
      profile_path: '/var/lib/istio/data/envoy.prof',
      address: local(adminPort),
    },
    dynamic_resources: {
      lds_config: ads,
      cds_config: ads,
      ads_config: {
        api_type: protocol,
        set_node_on_first_message_only: true,
        transport_api_version: 'V3',
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds-grpc' } }],
      },
    },
    static_resources: {
      clusters: [
        cluster('prometheus_stats', local(adminPort)),
        cluster('agent', local(agentPort)),
        cluster(
          'sds-grpc',
          { pipe: { path: './var/run/secrets/workload-spiffe-uds/socket' } },
          {
            typed_extension_protocol_options: HTTP2,
          },
        ),
        cluster(
          'xds-grpc',
          { pipe: { path: xdsSocket } },
          {
            typed_extension_protocol_options: HTTP2,
            upstream_connection_options: { tcp_keepalive: { keepalive_time: 300 } },
            max_requests_per_connection: 1,
            circuit_breakers: { thresholds: [{ priority: 'DEFAULT', max_connections: 100000, max_requests: 100000 }] },
          },
        ),
      ],
      listeners: [
        listener('stats', '/stats/prometheus', 'prometheus_stats'),
        listener('agent', '/healthz/ready', 'agent'),
      ],
    },
  };
}
