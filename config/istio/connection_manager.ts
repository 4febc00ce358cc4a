/** The HTTP connection manager as Istio configures it for a sidecar (istio/istio: pilot/pkg/networking/core/networkfilter.go). */
import type { Json } from '../resources.ts';
import type { CompileContext } from './context.ts';
import { any, extension } from './envoy_json.ts';
import type { MeshConfig } from './mesh.ts';
import { ALPN_FILTER, httpMetadataExchange } from './peer_exchange.ts';

export interface ConnectionManagerOptions {
  readonly direction: 'inbound' | 'outbound';
  readonly statPrefix: string;
  /** `rds` or `route_config`. */
  readonly routes: Json;
  readonly accessLog: 'TEXT' | 'JSON' | undefined;
  /** Default false: only where clients name the proxy (https_proxy). */
  readonly takesConnect?: boolean;
  /** Default false: the port is declared as gRPC-Web. */
  readonly grpcWeb?: boolean;
  /** Security filters, which come before all that act on a request. Default none. */
  readonly policyFilters?: readonly Json[];
}

const GRPC_WEB = extension('envoy.filters.http.grpc_web', 'envoy.extensions.filters.http.grpc_web.v3.GrpcWeb');
const GRPC_STATS = extension(
  'envoy.filters.http.grpc_stats',
  'envoy.extensions.filters.http.grpc_stats.v3.FilterConfig',
  { emit_filter_state: true, stats_for_all_methods: false },
);

export function connectionManager(
  { mesh, telemetry, hasIdentity }: Pick<CompileContext, 'mesh' | 'telemetry' | 'hasIdentity'>,
  options: ConnectionManagerOptions,
): Json {
  const { direction } = options;
  const inbound = direction === 'inbound';
  const logs = telemetry.accessLogs(direction, 'http', options.accessLog);
  const tracing = telemetry.tracing(direction);
  return extension(
    'envoy.filters.network.http_connection_manager',
    'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    {
      stat_prefix: options.statPrefix,
      ...options.routes,
      http_filters: [
        ...(hasIdentity ? [httpMetadataExchange(direction)] : []),
        ...(options.policyFilters ?? []),
        ...(options.grpcWeb === true ? [GRPC_WEB] : []),
        GRPC_STATS,
        ...(hasIdentity && !inbound ? [ALPN_FILTER] : []),
        ...httpFilters(telemetry.stats(direction)),
      ],
      ...(tracing !== undefined && { tracing }),
      ...(inbound && { server_name: 'istio-envoy' }),
      stream_idle_timeout: '0s',
      ...(logs.length > 0 && { access_log: logs }),
      use_remote_address: false,
      ...(inbound && {
        forward_client_cert_details: 'APPEND_FORWARD',
        set_current_client_cert_details: { subject: true, dns: true, uri: true },
      }),
      proxy_100_continue: true,
      generate_request_id: true,
      upgrade_configs: [
        { upgrade_type: 'websocket' },
        ...(options.takesConnect === true ? [{ upgrade_type: 'CONNECT' }] : []),
      ],
      ...normalization(mesh),
      request_id_extension: {
        typed_config: any('envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig', {
          use_request_id_for_trace_sampling: telemetry.samplesByRequestId(direction),
        }),
      },
    },
  );
}

function httpFilters(stats: Json | undefined): Json[] {
  return [
    extension('envoy.filters.http.fault', 'envoy.extensions.filters.http.fault.v3.HTTPFault'),
    extension('envoy.filters.http.cors', 'envoy.extensions.filters.http.cors.v3.Cors'),
    ...(stats === undefined ? [] : [stats]),
    extension('envoy.filters.http.router', 'envoy.extensions.filters.http.router.v3.Router'),
  ];
}

function normalization(mesh: MeshConfig): Json {
  switch (mesh.pathNormalization) {
    case 'NONE':
      return { normalize_path: false };
    case 'BASE':
      return { normalize_path: true, path_with_escaped_slashes_action: 'KEEP_UNCHANGED' };
    case 'MERGE_SLASHES':
      return { normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: 'KEEP_UNCHANGED' };
    case 'DECODE_AND_MERGE_SLASHES':
      return { normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: 'UNESCAPE_AND_FORWARD' };
    default:
      return mesh.pathNormalization satisfies never;
  }
}
