/**
 * Fields of Envoy's messages that Pillion does not execute and that would change what happens: refused by name wherever
 * the message is read. What is in neither this table nor read by anybody stands, with its reason, in
 * test/config/passed_over.ts; a test walks all fields of the protos.
 */
import type { Fields } from './resource_fields.ts';

/** The sentence; with a value: refused when the field has it, where it is the default that is harmless. */
type Refusal = string | { readonly when: unknown; readonly sentence: string };

const NO = 'is not supported';
const NO_SERVER_REPORTS = 'load reports to a server are not supported';
const RETRIES = 'is not supported: a call is made once';

/** Message, field. The last label of a message's name stands for it; what it is part of, where it is nested. */
export const UNEXECUTED = {
  Cluster: {
    transport_socket_matcher: 'is not supported: use transport_socket_matches',
    close_connections_on_host_health_failure: NO,
    lrs_server: NO_SERVER_REPORTS,
    lrs_report_endpoint_metrics: NO_SERVER_REPORTS,
    track_timeout_budgets: 'statistics of timeout budgets are not kept',
    upstream_config: 'other upstreams than HTTP and TCP are not supported',
    connection_pool_per_downstream_connection: 'is not supported: connections to hosts are shared',
  },
  TrackClusterStats: {
    timeout_budgets: 'statistics of timeout budgets are not kept',
    request_response_sizes: 'statistics of sizes are not kept: istio.stats has them',
  },
  CommonLbConfig: {
    ignore_new_hosts_until_first_hc: NO,
    close_connections_on_host_set_change: NO,
  },
  LbSubsetConfig: { locality_weight_aware: NO },
  CircuitBreakers: { per_host_thresholds: 'limits of one host are not supported: use thresholds' },
  CircuitBreakerThresholds: { max_connection_pools: NO },
  UpstreamConnectionOptions: { set_local_interface_name_on_upstream_connections: NO },
  BindConfig: {
    freebind: NO,
    additional_source_addresses: 'is not read any more: use extra_source_addresses',
    local_address_selector: NO,
  },
  UpstreamHttpOptions: {
    http_filters: 'filters of a cluster are not supported: name them in the connection manager',
    header_validation_config: NO,
    outlier_detection: 'is not supported: use outlier_detection of the cluster',
    hash_policy: 'is not supported: use hash_policy of routes',
    request_mirror_policies: 'is not supported: use request_mirror_policies of routes',
    retry_policy: 'is not supported: use retry_policy of routes',
  },
  AutoHttpConfig: {
    http3_protocol_options: 'HTTP/3 is not supported',
    alternate_protocols_cache_options: 'HTTP/3 is not supported',
  },
  UseDownstreamHttpConfig: { http3_protocol_options: 'HTTP/3 is not supported' },
  UpstreamHttp1: {
    send_fully_qualified_url: NO,
    default_host_for_http_10: 'is for connection managers',
  },
  DownstreamHttp1: {
    allow_absolute_url: { when: false, sentence: 'absolute URLs are always understood (RFC 9112 §3.2.2)' },
  },
  HeaderKeyFormat: { proper_case_words: 'is not supported: names are written as they came' },
  ClusterLoadAssignment: { named_endpoints: NO },
  LoadAssignmentPolicy: {
    drop_overloads: 'shares of requests to drop are not supported',
    endpoint_stale_after: 'is not supported: endpoints stay until they are replaced',
    weighted_priority_health: NO,
  },
  LocalityLbEndpoints: {
    load_balancer_endpoints: 'is not supported: use lb_endpoints',
    leds_cluster_locality_config: 'endpoints by LEDS are not supported: use lb_endpoints',
  },
  HealthCheck: {
    alt_port: NO,
    unhealthy_edge_interval: 'is not supported: use interval and unhealthy_interval',
    healthy_edge_interval: 'is not supported: use interval and unhealthy_interval',
    event_log_path: 'checks are in the log and in statistics only',
    event_logger: 'checks are in the log and in statistics only',
    event_service: 'checks are in the log and in statistics only',
    always_log_health_check_success: 'checks that succeed are in statistics only',
  },
  HttpHealthCheck: { request_headers_to_remove: NO, codec_client_type: NO },
  TcpHealthCheck: { proxy_protocol_config: NO },
  GrpcHealthCheck: { initial_metadata: NO },
  HeaderValue: { raw_value: 'is not supported: use value' },

  SocketAddress: {
    protocol: { when: 'UDP', sentence: 'UDP is not supported' },
    named_port: 'names of ports are not supported: use port_value',
    resolver_name: 'resolvers by name are not supported',
    network_namespace_filepath: 'other network namespaces are not supported',
  },
  AdditionalAddress: { socket_options: 'options of sockets by number are not supported' },
  EndpointHealthCheck: {
    port_value: 'another port for checks is not supported',
    hostname: 'is not supported: use host of the health check',
    address: 'another address for checks is not supported',
    disable_active_health_check: NO,
  },
  ApiConfigSource: {
    config_validators: 'are not supported',
    rate_limit_settings: 'is not supported: what is wanted is asked for when it changes',
  },
  /** envoy_grpc of a config server. */
  ConfigServer: {
    authority: NO,
    retry_policy: RETRIES,
    skip_envoy_headers: NO,
    max_receive_message_length: 'is not supported: a push may have 256 MiB',
  },
  GoogleGrpc: {
    channel_credentials_plugin: 'is not supported: use ssl_credentials',
    call_credentials_plugin: 'is not supported: use access_token',
    credentials_factory_name: 'is not supported: use ssl_credentials',
    config: NO,
    channel_args: NO,
  },
  Pipe: { mode: 'is not supported: the umask of the process holds' },
  ConfigSource: { authorities: 'authorities are not supported: use ads_config' },
  PathConfigSource: { watched_directory: 'is not supported: the folder of path is watched' },
  Listener: {
    deprecated_v1: 'is not read any more: use bind_to_port',
    enable_mptcp: 'multipath TCP is not supported',
    ignore_global_conn_limit: 'is not supported: use bypass_overload_manager',
  },
  FilterChain: {
    use_proxy_proto: 'is not read any more: use the listener filter envoy.filters.listener.proxy_protocol',
  },

  HttpConnectionManager: {
    add_user_agent: NO,
    http1_safe_max_connection_duration: NO,
    scheme_header_transformation: NO,
    stream_flush_timeout: 'is not supported: use stream_idle_timeout',
    access_log_flush_interval: 'logging while a request lasts is not supported',
    flush_access_log_on_new_request: 'logging while a request lasts is not supported',
    original_ip_detection_extensions: 'is not supported: use use_remote_address and xff_num_trusted_hops',
    early_header_mutation_extensions: 'is not supported: use envoy.filters.http.header_mutation',
    forward_client_cert_matcher: 'is not supported: use forward_client_cert_details',
    represent_ipv4_remote_address_as_ipv4_mapped_ipv6: NO,
    path_normalization_options: 'is not supported: use normalize_path and merge_slashes',
    proxy_status_config: 'the header proxy-status is not supported',
    typed_header_validation_config: NO,
    append_local_overload: NO,
  },
  HcmAccessLogOptions: {
    access_log_flush_interval: 'logging while a request lasts is not supported',
    flush_access_log_on_new_request: 'logging while a request lasts is not supported',
    flush_log_on_tunnel_successfully_established: 'logging while a request lasts is not supported',
  },
  Tracing: {
    operation: NO,
    upstream_operation: NO,
    verbose: 'spans with a log of their request are not supported',
    spawn_upstream_span: 'a span of its own for the upstream is not supported',
  },
  UuidRequestId: { pack_trace_reason: { when: false, sentence: 'the reason always stands in the request id' } },

  RouteConfiguration: {
    internal_only_headers: 'is not supported: name them in request_headers_to_remove',
    cluster_specifier_plugins: NO,
    vhost_header: NO,
    ignore_path_parameters_in_path_matching: NO,
  },
  VirtualHost: {
    virtual_clusters: 'statistics of virtual clusters are not kept',
    cors: 'is not read any more: use typed_per_filter_config with envoy.filters.http.cors',
    retry_policy_typed_config: 'is not supported: use retry_policy',
    request_body_buffer_limit: 'is not supported: use per_request_buffer_limit_bytes',
  },
  Route: {
    filter_action: 'is not supported: use route, redirect or direct_response',
    non_forwarding_action: 'is for gRPC servers: use route, redirect or direct_response',
    tracing: 'is not supported: the tracing of the connection manager holds for all routes',
    request_body_buffer_limit: 'is not supported: use per_request_buffer_limit_bytes',
  },
  RouteMatch: {
    tls_context: 'is not supported: use envoy.filters.http.rbac',
    dynamic_metadata: 'is not supported: copy what decides into a header and match that',
    filter_state: NO,
  },
  RouteAction: {
    path_rewrite: 'is not supported: use regex_rewrite or path_rewrite_policy',
    host_rewrite: 'is not supported: use host_rewrite_literal, host_rewrite_header or host_rewrite_path_regex',
    append_x_forwarded_host: NO,
    flush_timeout: 'is not supported: use idle_timeout',
    retry_policy_typed_config: 'is not supported: use retry_policy',
    cors: 'is not read any more: use typed_per_filter_config with envoy.filters.http.cors',
    grpc_timeout_offset: 'is not supported: use max_stream_duration.grpc_timeout_header_max',
    internal_redirect_policy: 'redirects of services are passed on, not followed',
    internal_redirect_action: 'redirects of services are passed on, not followed',
    max_internal_redirects: 'redirects of services are passed on, not followed',
  },
  DirectResponseAction: { body_format: 'is not supported: use body' },
  MaxStreamDuration: { grpc_timeout_header_offset: NO },
  Decorator: { propagate: { when: false, sentence: 'is not supported: the operation is always told' } },
  HashPolicyHeader: { regex_rewrite: NO },
  StringMatcher: { custom: 'matchers by extension are not supported' },

  OnDemandCds: { resources_locator: 'xdstp names are not supported' },
  ExtAuthz: {
    validate_mutations: NO,
    bootstrap_metadata_labels_key: NO,
    encode_raw_headers: NO,
    enable_dynamic_metadata_ingestion: { when: false, sentence: 'is not supported: what the service says is taken' },
    filter_metadata: NO,
    emit_filter_state_stats: NO,
    max_denied_response_body_bytes: NO,
    enforce_response_header_limits: NO,
  },
  ExtAuthzHttpService: { retry_policy: RETRIES },
  NetworkExtAuthz: {
    include_peer_certificate: NO,
    bootstrap_metadata_labels_key: NO,
    send_tls_alert_on_denial: NO,
    typed_metadata_context_namespaces: NO,
  },
  GrpcService: { retry_policy: RETRIES },
  EnvoyGrpc: { retry_policy: RETRIES, max_receive_message_length: NO, skip_envoy_headers: NO },
  HTTPFault: {
    delay_percent_runtime: 'is not supported: give percentage',
    abort_percent_runtime: 'is not supported: give percentage',
    delay_duration_runtime: 'is not supported: give fixed_delay',
    abort_http_status_runtime: 'is not supported: give http_status',
    max_active_faults_runtime: 'is not supported: give max_active_faults',
    response_rate_limit_percent_runtime: 'is not supported: give percentage',
    abort_grpc_status_runtime: 'is not supported: give grpc_status',
    filter_metadata: NO,
  },
  HeaderMutations: { query_parameter_mutations: NO },
  StatsPluginConfig: { reporter: NO },
  LocalRateLimit: { local_cluster_rate_limit: NO, vh_rate_limits: NO },
  PeerMetadata: { shared_with_upstream: NO, additional_labels: NO },
  RateLimit: { stat_prefix: NO },
  RateLimitGrpcService: {
    timeout: 'is not read: use the timeout of the filter',
    initial_metadata: NO,
    retry_policy: RETRIES,
  },
  RateLimitPolicy: {
    disable_key: NO,
    hits_addend: 'is not supported: a request counts once',
    apply_on_stream_done: 'is not supported: limits are asked for before a request goes on',
  },
  RateLimitPerRoute: { vh_rate_limits: NO },
  Router: {
    start_child_span: NO,
    upstream_log: 'logs of single attempts are not supported',
    upstream_log_options: 'logs of single attempts are not supported',
    respect_expected_rq_timeout: NO,
    strict_check_headers: NO,
    upstream_http_filters: 'filters of a cluster are not supported: name them in the connection manager',
  },
  TcpProxy: {
    downstream_idle_timeout: 'is not supported: use idle_timeout',
    upstream_idle_timeout: 'is not supported: use idle_timeout',
  },
  TcpTunneling: { request_id_extension: NO, request_id_header: NO, request_id_metadata_key: NO },

  DownstreamTls: {
    full_scan_certs_on_sni_mismatch: NO,
    prefer_client_ciphers: "is not supported: the server's order of ciphers holds",
  },
} as const satisfies Readonly<Record<string, Readonly<Record<string, Refusal>>>>;

/** undefined: the message is not there. @throws {ConfigError} for the first field of it that is not executed. */
export function refuseUnexecuted(fields: Fields | undefined, message: keyof typeof UNEXECUTED): void {
  if (fields === undefined) return;
  const table: Readonly<Record<string, Refusal>> = UNEXECUTED[message];
  for (const name of Object.keys(fields.json)) {
    const refusal = Object.hasOwn(table, name) ? table[name] : undefined;
    if (refusal === undefined) continue;
    if (typeof refusal !== 'string') {
      if (fields.raw(name) === refusal.when) fields.fail(name, refusal.sentence);
    } else if (!isDefault(fields.raw(name))) fields.fail(name, refusal);
  }
}

/** What means the same as the field's absence. */
function isDefault(value: unknown): boolean {
  if (value === undefined || value === false || value === '' || value === 0 || value === '0') return true;
  return Array.isArray(value) && value.length === 0;
}
