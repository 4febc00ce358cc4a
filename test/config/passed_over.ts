/** Fields that nobody reads, and why that is harmless; every_field.test.ts fails for one that is missing or stale. */

const BY_TYPE = "The type of typed_config decides; the name is anybody's.";
const SUBSCRIBED =
  'Read where it is subscribed to: config/build/dependencies.ts takes it whole, config/xds/ executes it.';
const DOWNSTREAM = 'Of clients only; this is of hosts, where the same message serves.';
const SENT = 'Sent to the control plane as it stands.';
const WATCHED = 'All files are watched, and links in the folders above them with them.';
const STATISTICS_ONLY = "Statistics that nothing here keeps, none of them of Istio's; traffic is the same.";
const WASM = 'An option of the plugin when it was WebAssembly; Istio itself reads it no more.';
const LISTENING = 'How the kernel spreads or queues new connections; all of them are served either way.';
const STRICTER = 'Would let through what is refused here.';
const OWN_ERRORS = 'A malformed message ends its stream (RFC 9113 §8.1.1) or its HTTP/1 connection, whichever is set.';
const IMPLEMENTATION = "Which of Envoy's implementations runs.";
const WORKLOADS = "Beside peer metadata in headers, which are read: workloads by address come of ambient's own API.";
const HTTP_MANAGER = 'envoy.extensions.filters.network.http_connection_manager.v3';

export const PASSED_OVER: Readonly<Record<string, string>> = {
  'envoy.config.bootstrap.v3.Admin.ignore_global_conn_limit': 'Connections to the admin interface are never counted.',
  'envoy.config.bootstrap.v3.Admin.profile_path': 'Read by proxy/observation.ts.',
  'envoy.config.bootstrap.v3.Bootstrap.deferred_stat_options': 'Statistics are always made at their first use.',
  'envoy.config.bootstrap.v3.Bootstrap.flags_path': 'Read by proxy/drain_control.ts.',
  'envoy.config.bootstrap.v3.Bootstrap.grpc_async_client_manager_config': 'For how long idle clients are kept.',
  'envoy.config.bootstrap.v3.Bootstrap.inline_headers': 'How fast headers are found in memory.',
  'envoy.config.bootstrap.v3.Bootstrap.memory_allocator_manager': 'Of another allocator of memory.',
  'envoy.config.bootstrap.v3.Bootstrap.stats_eviction_interval':
    'Series that are no longer counted expire by themselves.',
  'envoy.config.bootstrap.v3.Bootstrap.stats_server_version_override': 'Read by proxy/observation.ts.',
  'envoy.config.bootstrap.v3.ClusterManager.enable_deferred_cluster_creation': 'Clusters are always made at first use.',
  'envoy.config.bootstrap.v3.Watchdog.max_kill_timeout_jitter': 'Beside kill_timeout, which is refused.',
  'envoy.config.bootstrap.v3.Watchdog.multikill_threshold': 'Beside multikill_timeout, which is refused.',
  'envoy.config.core.v3.Node.client_features': SENT,
  'envoy.config.core.v3.Node.dynamic_parameters': SENT,
  'envoy.config.core.v3.Node.extensions': SENT,
  'envoy.config.core.v3.Node.listening_addresses': SENT,
  'envoy.config.core.v3.Node.locality': SENT,
  'envoy.config.core.v3.Node.user_agent_build_version': SENT,
  'envoy.config.core.v3.Node.user_agent_name': 'Replaced by our own name, as Envoy does.',
  'envoy.config.core.v3.Node.user_agent_version': 'Replaced by our own version, as Envoy does.',

  'envoy.config.core.v3.ApiConfigSource.cluster_names': 'Of REST, which is refused.',
  'envoy.config.core.v3.ApiConfigSource.refresh_delay': 'Of REST, which is refused.',
  'envoy.config.core.v3.ApiConfigSource.request_timeout': 'Of REST, which is refused.',
  'envoy.config.core.v3.ApiConfigSource.set_node_on_first_message_only': 'The node always stands in the first message.',
  'envoy.config.core.v3.ConfigSource.ads': SUBSCRIBED,
  'envoy.config.core.v3.ConfigSource.api_config_source': SUBSCRIBED,
  'envoy.config.core.v3.ConfigSource.initial_fetch_timeout': SUBSCRIBED,
  'envoy.config.core.v3.ConfigSource.path': SUBSCRIBED,
  'envoy.config.core.v3.ConfigSource.resource_api_version': SUBSCRIBED,
  'envoy.config.core.v3.ConfigSource.self': SUBSCRIBED,
  'envoy.config.core.v3.PathConfigSource.path': SUBSCRIBED,
  'envoy.config.core.v3.SelfConfigSource.transport_api_version': 'There is no other version than v3.',
  'envoy.config.core.v3.ExtensionConfigSource.apply_default_config_without_warming': SUBSCRIBED,
  'envoy.config.core.v3.ExtensionConfigSource.config_source': SUBSCRIBED,
  [`${HTTP_MANAGER}.Rds.config_source`]: SUBSCRIBED,
  'envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig.sds_config': SUBSCRIBED,
  'envoy.config.core.v3.GrpcService.GoogleGrpc.per_stream_buffer_limit_bytes': 'Pushes have a limit of their own.',
  'envoy.config.core.v3.GrpcService.GoogleGrpc.stat_prefix': STATISTICS_ONLY,
  'envoy.config.core.v3.GrpcService.timeout': 'Of single calls; a stream to a config server has no end.',
  'envoy.config.ratelimit.v3.RateLimitServiceConfig.transport_api_version': 'There is no other version than v3.',

  'envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig.min_cluster_size':
    'Zone-aware routing needs local_cluster_name, which is refused.',
  'envoy.config.cluster.v3.Cluster.CommonLbConfig.ZoneAwareLbConfig.routing_enabled':
    'Zone-aware routing needs local_cluster_name, which is refused.',
  'envoy.config.cluster.v3.Cluster.CommonLbConfig.update_merge_window': 'Updates are always merged, in slices of 5 ms.',
  'envoy.config.cluster.v3.Cluster.CustomClusterType.name': BY_TYPE,
  'envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector.fallback_keys_subset':
    'Beside fallback_policy KEYS_SUBSET, which is refused.',
  'envoy.config.cluster.v3.Cluster.cleanup_interval': 'For how long unused hosts of ORIGINAL_DST are remembered.',
  'envoy.config.cluster.v3.Cluster.ignore_health_on_host_removal':
    'Hosts that are taken out leave at once, as with it.',
  'envoy.config.cluster.v3.Cluster.per_connection_buffer_limit_bytes': 'Memory per stream has limits of our own.',
  'envoy.config.cluster.v3.Cluster.preconnect_policy':
    'A connection is made when it is wanted: later, never otherwise.',
  'envoy.config.cluster.v3.Cluster.wait_for_warm_on_init': 'All clusters are waited for at the start.',
  'envoy.config.cluster.v3.Filter.name': BY_TYPE,
  'envoy.config.cluster.v3.OutlierDetection.successful_active_health_check_uneject_host':
    'An ejected host comes back when its time is over, as with false.',
  'envoy.config.cluster.v3.TrackClusterStats.per_endpoint_stats': 'Those of /clusters are kept; in metrics none.',
  'envoy.config.core.v3.HealthCheck.HttpHealthCheck.response_buffer_size': 'Of receive, which is refused.',
  'envoy.config.core.v3.HealthCheck.no_traffic_healthy_interval': 'Without traffic, checks come at interval: sooner.',
  'envoy.config.core.v3.HealthCheck.no_traffic_interval': 'Without traffic, checks come at interval: sooner.',
  'envoy.config.core.v3.HealthCheck.reuse_connection': 'Whether checks share a connection, not what they find.',
  'envoy.config.core.v3.HeaderValueOption.append': 'In health checks there is nothing to add to.',
  'envoy.config.core.v3.HeaderValueOption.append_action': 'In health checks there is nothing to add to.',
  'envoy.config.core.v3.HeaderValueOption.keep_empty_value': 'In health checks empty values are sent.',
  'envoy.config.core.v3.Pipe.mode': "Of an endpoint: the file is the server's.",
  'envoy.config.core.v3.SocketAddress.ipv4_compat': 'Of listeners; this is of hosts, where the same message serves.',
  'envoy.config.core.v3.TransportSocket.name': BY_TYPE,
  'envoy.config.core.v3.RuntimeDouble.runtime_key': 'Of load balancers, which are made once: the default holds.',
  'envoy.config.endpoint.v3.LocalityLbEndpoints.metadata': 'Of load-balancing extensions, which are refused.',
  'envoy.config.endpoint.v3.LocalityLbEndpoints.proximity': 'Of load-balancing extensions, which are refused.',

  'envoy.config.core.v3.Http1ProtocolOptions.accept_http_10': DOWNSTREAM,
  'envoy.config.core.v3.Http1ProtocolOptions.allow_absolute_url': DOWNSTREAM,
  'envoy.config.core.v3.Http1ProtocolOptions.allow_chunked_length': STRICTER,
  'envoy.config.core.v3.Http1ProtocolOptions.allow_custom_methods': 'Any token is a method (RFC 9110 §9.1).',
  'envoy.config.core.v3.Http1ProtocolOptions.enable_trailers': 'Trailers are always passed on.',
  'envoy.config.core.v3.Http1ProtocolOptions.ignore_http_11_upgrade': DOWNSTREAM,
  'envoy.config.core.v3.Http1ProtocolOptions.override_stream_error_on_invalid_http_message': OWN_ERRORS,
  'envoy.config.core.v3.Http1ProtocolOptions.send_fully_qualified_url': 'Of hosts only; this is of clients.',
  'envoy.config.core.v3.Http1ProtocolOptions.use_balsa_parser': IMPLEMENTATION,
  'envoy.config.core.v3.Http2ProtocolOptions.max_metadata_size': 'Of METADATA frames, which are refused.',
  'envoy.config.core.v3.Http2ProtocolOptions.override_stream_error_on_invalid_http_message': OWN_ERRORS,
  'envoy.config.core.v3.Http2ProtocolOptions.stream_error_on_invalid_http_messaging': OWN_ERRORS,
  'envoy.config.core.v3.Http2ProtocolOptions.use_oghttp2_codec': IMPLEMENTATION,
  'envoy.config.core.v3.HttpProtocolOptions.headers_with_underscores_action': DOWNSTREAM,
  'envoy.config.core.v3.HttpProtocolOptions.max_response_headers_kb': 'Of hosts only; this is of clients.',
  'envoy.config.core.v3.Metadata.typed_filter_metadata': 'For extensions; none of those here reads it.',

  'envoy.config.listener.v3.Listener.connection_balance_config': LISTENING,
  'envoy.config.listener.v3.Listener.enable_reuse_port': LISTENING,
  'envoy.config.listener.v3.Listener.max_connections_to_accept_per_socket_event': LISTENING,
  'envoy.config.listener.v3.Listener.reuse_port': LISTENING,
  'envoy.config.listener.v3.Listener.tcp_backlog_size': LISTENING,
  'envoy.config.listener.v3.Listener.tcp_fast_open_queue_length': LISTENING,
  'envoy.config.accesslog.v3.AccessLog.name': BY_TYPE,
  'envoy.config.trace.v3.Tracing.Http.name': BY_TYPE,
  [`${HTTP_MANAGER}.HttpConnectionManager.add_proxy_protocol_connection_state`]:
    'For extensions that look at a PROXY header again; none of those here does.',
  [`${HTTP_MANAGER}.HttpConnectionManager.delayed_close_timeout`]: 'How long a closed connection may linger.',
  [`${HTTP_MANAGER}.HttpConnectionManager.http3_protocol_options`]: 'Beside codec_type HTTP3, which is refused.',
  [`${HTTP_MANAGER}.HttpConnectionManager.stream_error_on_invalid_http_message`]: OWN_ERRORS,
  [`${HTTP_MANAGER}.HttpFilter.is_optional`]: 'Read where the type is not known.',

  'envoy.config.rbac.v3.RBAC.AuditLoggingOptions.audit_condition': 'Of audit loggers, which are refused.',
  'envoy.config.route.v3.RetryPolicy.RetryHostPredicate.name': BY_TYPE,
  'envoy.config.route.v3.RetryPolicy.RetryPriority.name': BY_TYPE,
  'envoy.config.route.v3.Route.stat_prefix': STATISTICS_ONLY,
  'envoy.config.route.v3.RouteAction.RequestMirrorPolicy.trace_sampled': 'What is mirrored has no span.',
  'envoy.config.route.v3.RouteAction.early_data_policy': 'TLS accepts no early data.',
  'envoy.config.route.v3.RouteConfiguration.metadata': 'For extensions; none of those here reads it.',
  'envoy.config.route.v3.RouteConfiguration.validate_clusters': 'A route to nowhere is a 503 with NC, when it is used.',
  'envoy.config.route.v3.ScopedRouteConfiguration.name': 'A scope is found by its key.',
  'envoy.config.route.v3.ScopedRouteConfiguration.on_demand':
    'Routes of scopes are always there before their requests.',

  'envoy.config.core.v3.DataSource.watched_directory': WATCHED,
  'envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext.watched_directory': WATCHED,
  'envoy.extensions.transport_sockets.tls.v3.TlsCertificate.watched_directory': WATCHED,
  'envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.disable_stateful_session_resumption':
    'Sessions live in tickets only: nothing is kept that could be resumed by id.',
  'envoy.extensions.transport_sockets.tls.v3.GenericSecret.secrets': 'Nobody here asks for generic secrets.',
  'envoy.extensions.transport_sockets.tls.v3.Secret.name': "A resource's name is known before it is read.",

  'envoy.extensions.filters.http.ext_authz.v3.ExtAuthz.charge_cluster_response_stats': STATISTICS_ONLY,
  'envoy.extensions.filters.http.fault.v3.HTTPFault.disable_downstream_cluster_stats': STATISTICS_ONLY,
  'envoy.extensions.filters.http.jwt_authn.v3.JwksAsyncFetch.fast_listener': 'Listeners never wait for key sets.',
  'envoy.extensions.filters.http.jwt_authn.v3.RemoteJwks.retry_policy':
    'A fetch that fails is tried again, backing off.',
  'envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.max_dynamic_descriptors':
    'Of descriptors without a value, which are refused.',
  'envoy.extensions.filters.http.router.v3.Router.dynamic_stats': STATISTICS_ONLY,
  'envoy.extensions.filters.http.router.v3.Router.suppress_grpc_request_failure_code_stats': STATISTICS_ONLY,
  'envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector.initial_read_buffer_size':
    'How much is read at first; max_client_hello_size holds.',
  'envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy.access_log': 'Passed through with a warning.',
  'envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy.commands': 'Passed through with a warning.',
  'envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy.emit_dynamic_metadata': 'Passed through with a warning.',
  'envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig.dns_cache_config':
    'Names are resolved as the cluster says that forwards them.',
  'envoy.tcp.metadataexchange.config.MetadataExchange.enable_discovery': WORKLOADS,
  'io.istio.http.peer_metadata.Config.DiscoveryMethod.baggage': WORKLOADS,
  'io.istio.http.peer_metadata.Config.DiscoveryMethod.workload_discovery': WORKLOADS,
  'io.istio.http.peer_metadata.Config.IstioHeaders.skip_external_clusters':
    'Of upstream_propagation, where it is read.',
  'envoy.type.matcher.v3.RegexMatcher.google_re2': "Regexes have RE2's semantics, and a limit of our own.",
  'stats.PluginConfig.debug': WASM,
  'stats.PluginConfig.disable_host_header_fallback': 'Of HTTP; connections have no Host.',
  'stats.PluginConfig.field_separator': WASM,
  'stats.PluginConfig.graceful_deletion_interval': 'Series that are no longer counted expire by themselves.',
  'stats.PluginConfig.max_peer_cache_size': WASM,
  'stats.PluginConfig.rotation_interval': 'Series that are no longer counted expire by themselves.',
  'stats.PluginConfig.stat_prefix': WASM,
  'stats.PluginConfig.value_separator': WASM,
};
