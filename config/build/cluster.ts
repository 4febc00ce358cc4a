/** envoy.config.cluster.v3.Cluster → ClusterConfig. */
import { isIP } from 'node:net';
import type { LoadBalancerConfig } from '../../proxy/load_balancers/load_balancer.ts';
import { parseHttp2Options } from '../../proxy/http/http2_config.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { type ConfiguredHealth, DEFAULT_SESSION_HEALTH } from '../../proxy/upstream/host.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { BreakerLimits } from '../../proxy/upstream/circuit_breakers.ts';
import type { ClusterConfig, Discovery, TransportSocket, UpstreamHttp } from '../../proxy/upstream/cluster_config.ts';
import type { LoadAssignment } from '../../proxy/upstream/load_assignment.ts';
import type { Json } from '../resources.ts';
import { buildLoadAssignment, healthStatus } from './endpoints.ts';
import { parseMetadata } from './route_configuration.ts';
import { buildDns, DNS_CLUSTER } from './dns.ts';
import { typedConfig } from './extensions.ts';
import { buildHealthChecks } from './health_checks.ts';
import { buildSlowStart, buildSubsets, isLocalityWeighted } from './load_balancing.ts';
import { buildOutlierDetection } from './outlier_detection.ts';
import { buildUpstreamTls } from './tls.ts';
import { buildProxyHeaderConfig } from './proxy_header.ts';
import { buildSocketOptions } from './socket_options.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';
import { checkHeaderCase } from '../../proxy/http/header_case.ts';

const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
const TYPE = 'type.googleapis.com/';
const FORWARD_PROXY = `${TYPE}envoy.extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig`;
const AGGREGATE = `${TYPE}envoy.extensions.clusters.aggregate.v3.ClusterConfig`;
const DEFAULT_IDLE_MS = 3_600_000;

/** @throws {ConfigError} with the field's path. */
export function buildCluster(json: Json, origin: string): ClusterConfig {
  const fields = new Fields(json);
  refuseUnexecuted(fields, 'Cluster');
  refuseUnexecuted(fields.message('common_lb_config'), 'CommonLbConfig');
  refuseUnexecuted(fields.message('track_cluster_stats'), 'TrackClusterStats');
  const name = fields.requiredString('name');
  const discovery = buildDiscovery(fields, name);
  const assignment = fields.raw('load_assignment');
  const inlineAssignment =
    assignment === undefined ? undefined : buildLoadAssignment(assignment, fields.at('load_assignment'));
  checkAddresses(discovery, inlineAssignment);
  return {
    name,
    altStatName: (fields.string('alt_stat_name') || name).replace(/;$/, ''),
    discovery,
    connectTimeoutMs: positive(fields, 'connect_timeout') ?? 5000,
    loadBalancer: buildLoadBalancer(fields),
    panicThresholdPercent: percentOf(fields.message('common_lb_config'), 'healthy_panic_threshold') ?? 50,
    failOnPanic:
      fields.message('common_lb_config')?.message('zone_aware_lb_config')?.boolean('fail_traffic_on_panic') ?? false,
    localityWeighted: isLocalityWeighted(fields),
    sessionHealth: buildSessionHealth(fields.message('common_lb_config')?.message('override_host_status')),
    slowStart: buildSlowStart(fields),
    subsets: buildSubsets(fields.message('lb_subset_config')),
    healthChecks: buildHealthChecks(fields.messages('health_checks')),
    outlier: buildOutlierDetection(fields.message('outlier_detection')),
    breakers: buildBreakers(fields.message('circuit_breakers')),
    http: buildHttp(fields),
    dns: buildDns(fields, dnsExtension(fields)),
    metadata: parseMetadata(fields.message('metadata')),
    exchangesMetadata: buildFilters(fields),
    socket: buildSocketOptions(fields),
    transportSocket: fields.has('transport_socket')
      ? buildSocket(fields.requiredMessage('transport_socket'), origin)
      : undefined,
    transportSocketMatches: fields.messages('transport_socket_matches').map((entry) => ({
      name: entry.requiredString('name'),
      match: entry.message('match')?.json ?? {},
      socket: buildSocket(entry.requiredMessage('transport_socket'), origin),
    })),
    inlineAssignment,
    origin,
  };
}

/** CommonLbConfig.override_host_status, with Envoy's default. */
function buildSessionHealth(fields: Fields | undefined): ReadonlySet<ConfiguredHealth> {
  if (fields === undefined) return DEFAULT_SESSION_HEALTH;
  const statuses = fields.strings('statuses');
  return new Set(statuses.map((status, index) => healthStatus(fields, `statuses[${index}]`, status)));
}

/** envoy.config.cluster.v3.Filter. @returns whether metadata are exchanged: the one filter there is. */
function buildFilters(fields: Fields): boolean {
  const filters = fields.messages('filters');
  for (const filter of filters) {
    if (filter.has('config_discovery'))
      filter.fail('config_discovery', 'filters of clusters by ECDS are not supported');
    const { typeUrl } = typedConfig(filter.raw('typed_config') ?? {}, filter.at('typed_config'));
    if (typeUrl === `${TYPE}envoy.tcp.metadataexchange.config.MetadataExchange`) continue;
    filter.fail('typed_config', `cluster filter ${typeUrl.replace(TYPE, '')} is not supported`);
  }
  return filters.length > 0;
}

function positive(fields: Fields, name: string): number | undefined {
  const value = fields.durationMs(name);
  if (value !== undefined && value <= 0) return fields.fail(name, `must be greater than 0s, got ${value / 1000}s`);
  return value;
}

function buildDiscovery(fields: Fields, name: string): Discovery {
  const custom = fields.message('cluster_type');
  if (custom !== undefined) {
    const { typeUrl } = typedConfig(custom.raw('typed_config') ?? {}, custom.at('typed_config'));
    if (typeUrl === FORWARD_PROXY) return { kind: 'dynamic_forward_proxy' };
    if (typeUrl === AGGREGATE) return { kind: 'aggregate', members: aggregateMembers(fields, name) };
    const dns = dnsExtension(fields);
    if (dns !== undefined) {
      return { kind: dns.boolean('all_addresses_in_single_endpoint') === true ? 'logical_dns' : 'strict_dns' };
    }
    return custom.fail('typed_config', `cluster type ${typeUrl.replace(TYPE, '')} is not supported`);
  }
  switch (fields.oneOf('type', ['STATIC', 'STRICT_DNS', 'LOGICAL_DNS', 'EDS', 'ORIGINAL_DST'], 'STATIC')) {
    case 'STATIC':
      return { kind: 'static' };
    case 'STRICT_DNS':
      return { kind: 'strict_dns' };
    case 'LOGICAL_DNS':
      return { kind: 'logical_dns' };
    case 'ORIGINAL_DST':
      return buildOriginalDestination(fields.message('original_dst_lb_config'));
    default:
      return { kind: 'eds', serviceName: fields.message('eds_cluster_config')?.string('service_name') || name };
  }
}

/** envoy.extensions.clusters.aggregate.v3.ClusterConfig. @throws {ConfigError} */
function aggregateMembers(cluster: Fields, name: string): readonly string[] {
  const custom = cluster.requiredMessage('cluster_type');
  const { json } = typedConfig(custom.raw('typed_config') ?? {}, custom.at('typed_config'));
  const config = new Fields(json, custom.at('typed_config'));
  const members = config.strings('clusters');
  if (members.length === 0) config.fail('clusters', 'at least one is required');
  if (members.includes(name)) config.fail('clusters', `the cluster "${name}" cannot be a member of itself`);
  if (buildLoadBalancer(cluster).policy !== 'cluster_provided') {
    cluster.fail('lb_policy', 'must be CLUSTER_PROVIDED: the members of an aggregate cluster balance');
  }
  return members;
}

/** Where a cluster's type says by itself how names are resolved: DnsCluster, or a dynamic forward proxy's DnsCacheConfig. */
function dnsExtension(fields: Fields): Fields | undefined {
  const custom = fields.message('cluster_type');
  if (custom === undefined) return undefined;
  const { typeUrl, json } = typedConfig(custom.raw('typed_config') ?? {}, custom.at('typed_config'));
  const config = new Fields(json, custom.at('typed_config'));
  if (typeUrl === DNS_CLUSTER) return config;
  return typeUrl === FORWARD_PROXY ? config.message('dns_cache_config') : undefined;
}

/** envoy.config.cluster.v3.Cluster.OriginalDstLbConfig. */
function buildOriginalDestination(fields: Fields | undefined): Discovery {
  if (fields?.has('metadata_key')) fields.fail('metadata_key', 'is not supported: use use_http_header');
  const header = fields?.string('http_header_name') || 'x-envoy-original-dst-host';
  return {
    kind: 'original_dst',
    header: fields?.boolean('use_http_header') === true ? header.toLowerCase() : undefined,
    port: fields?.integer('upstream_port_override', 1, 65535),
  };
}

/** Names resolve only where DNS is asked for (Envoy: "malformed IP address"). */
function checkAddresses(discovery: Discovery, assignment: LoadAssignment | undefined): void {
  if (assignment === undefined) {
    if (discovery.kind === 'strict_dns' || discovery.kind === 'logical_dns') {
      throw new ConfigError(
        'load_assignment',
        `is required for ${discovery.kind.toUpperCase()}: it names what to resolve`,
      );
    }
    return;
  }
  if (discovery.kind !== 'static' && discovery.kind !== 'eds') return;
  const bad = assignment.endpoints.find((endpoint) => endpoint.port !== 0 && isIP(endpoint.ip) === 0);
  if (bad !== undefined) {
    throw new ConfigError('load_assignment', `"${bad.ip}" is not an IP address: use type STRICT_DNS for host names`);
  }
}

function buildLoadBalancer(fields: Fields): LoadBalancerConfig {
  const policy = fields.message('load_balancing_policy');
  if (policy !== undefined) return buildTypedPolicy(policy);
  switch (
    fields.oneOf(
      'lb_policy',
      [
        'ROUND_ROBIN',
        'LEAST_REQUEST',
        'RING_HASH',
        'RANDOM',
        'MAGLEV',
        'CLUSTER_PROVIDED',
        'LOAD_BALANCING_POLICY_CONFIG',
      ],
      'ROUND_ROBIN',
    )
  ) {
    case 'ROUND_ROBIN':
      return { policy: 'round_robin' };
    case 'LEAST_REQUEST':
      return leastRequest(fields.message('least_request_lb_config'));
    case 'RING_HASH':
      return ringHash(fields.message('ring_hash_lb_config'), consistentHashing(fields.message('common_lb_config')));
    case 'RANDOM':
      return { policy: 'random' };
    case 'MAGLEV':
      return maglev(fields.message('maglev_lb_config'), consistentHashing(fields.message('common_lb_config')));
    case 'CLUSTER_PROVIDED':
      return { policy: 'cluster_provided' };
    default:
      return fields.fail('load_balancing_policy', 'is required with LOAD_BALANCING_POLICY_CONFIG');
  }
}

function buildTypedPolicy(policy: Fields): LoadBalancerConfig {
  const POLICIES = `${TYPE}envoy.extensions.load_balancing_policies`;
  for (const entry of policy.messages('policies')) {
    const extension = entry.requiredMessage('typed_extension_config');
    const at = extension.at('typed_config');
    const { typeUrl, json } = typedConfig(extension.raw('typed_config') ?? {}, at);
    const config = new Fields(json, at);
    switch (typeUrl) {
      case `${POLICIES}.round_robin.v3.RoundRobin`:
        return { policy: 'round_robin' };
      case `${POLICIES}.least_request.v3.LeastRequest`:
        return leastRequest(config);
      case `${POLICIES}.random.v3.Random`:
        return { policy: 'random' };
      case `${POLICIES}.ring_hash.v3.RingHash`:
        return ringHash(config, consistentHashing(config));
      case `${POLICIES}.maglev.v3.Maglev`:
        return maglev(config, consistentHashing(config));
      case `${POLICIES}.cluster_provided.v3.ClusterProvided`:
        return { policy: 'cluster_provided' };
    }
  }
  return policy.fail('policies', 'none of the policies is supported');
}

function leastRequest(config: Fields | undefined): LoadBalancerConfig {
  return {
    policy: 'least_request',
    choiceCount: config?.integer('choice_count', 2) ?? 2,
    activeRequestBias: config?.message('active_request_bias')?.number('default_value', 0) ?? 1,
  };
}

function ringHash(config: Fields | undefined, useHostnameForHashing: boolean): LoadBalancerConfig {
  const minimumRingSize = config?.integer('minimum_ring_size', 1, 8_388_608) ?? 1024;
  const maximumRingSize = config?.integer('maximum_ring_size', 1, 8_388_608) ?? 8_388_608;
  if (minimumRingSize > maximumRingSize) {
    throw new ConfigError(
      'ring_hash_lb_config',
      `minimum_ring_size ${minimumRingSize} is above maximum_ring_size ${maximumRingSize}`,
    );
  }
  return {
    policy: 'ring_hash',
    minimumRingSize,
    maximumRingSize,
    hashFunction:
      config?.oneOf('hash_function', ['DEFAULT_HASH', 'XX_HASH', 'MURMUR_HASH_2'], 'XX_HASH') === 'MURMUR_HASH_2'
        ? config.fail('hash_function', 'MURMUR_HASH_2 is not supported: XX_HASH is')
        : 'xx_hash',
    useHostnameForHashing,
  };
}

function maglev(config: Fields | undefined, useHostnameForHashing: boolean): LoadBalancerConfig {
  const tableSize = config?.integer('table_size', 1, 5_000_011) ?? 65_537;
  if (!isPrime(tableSize)) config?.fail('table_size', `must be a prime number, got ${tableSize}`);
  return { policy: 'maglev', tableSize, useHostnameForHashing };
}

/** ConsistentHashingLbConfig: whether host names are hashed instead of addresses. */
function consistentHashing(fields: Fields | undefined): boolean {
  const config = fields?.message('consistent_hashing_lb_config');
  if (config?.has('hash_balance_factor')) config.fail('hash_balance_factor', 'bounded loads are not supported');
  return config?.boolean('use_hostname_for_hashing') ?? false;
}

function isPrime(value: number): boolean {
  if (value < 2) return false;
  for (let factor = 2; factor * factor <= value; factor++) if (value % factor === 0) return false;
  return true;
}

const DEFAULT_LIMITS: BreakerLimits = {
  maxConnections: 1024,
  maxPendingRequests: 1024,
  maxRequests: 1024,
  maxRetries: 3,
};

/** One for all clusters: thousands have none of their own. */
const NO_BREAKERS = { default: DEFAULT_LIMITS, high: DEFAULT_LIMITS, configured: false };

function buildBreakers(fields: Fields | undefined): ClusterConfig['breakers'] {
  if (fields === undefined) return NO_BREAKERS;
  const found = { default: DEFAULT_LIMITS, high: DEFAULT_LIMITS, configured: true };
  refuseUnexecuted(fields, 'CircuitBreakers');
  for (const threshold of fields.messages('thresholds')) {
    refuseUnexecuted(threshold, 'CircuitBreakerThresholds');
    const priority = threshold.oneOf('priority', ['DEFAULT', 'HIGH'], 'DEFAULT') === 'HIGH' ? 'high' : 'default';
    found[priority] = {
      maxConnections: threshold.integer('max_connections') ?? DEFAULT_LIMITS.maxConnections,
      maxPendingRequests: threshold.integer('max_pending_requests') ?? DEFAULT_LIMITS.maxPendingRequests,
      maxRequests: threshold.integer('max_requests') ?? DEFAULT_LIMITS.maxRequests,
      maxRetries: threshold.integer('max_retries') ?? DEFAULT_LIMITS.maxRetries,
      trackRemaining: threshold.boolean('track_remaining') ?? false,
      retryBudget: buildRetryBudget(threshold.message('retry_budget')),
    };
  }
  return found;
}

function buildRetryBudget(fields: Fields | undefined): BreakerLimits['retryBudget'] {
  if (fields === undefined) return undefined;
  return {
    percent: percentOf(fields, 'budget_percent') ?? 20,
    minConcurrency: fields.integer('min_retry_concurrency') ?? 3,
  };
}

/** envoy.type.v3.Percent: an empty one is 0. */
export function percentOf(fields: Fields | undefined, name: string): number | undefined {
  const percent = fields?.message(name);
  return percent === undefined ? undefined : (percent.number('value', 0, 100) ?? 0);
}

function buildHttp(fields: Fields): UpstreamHttp {
  const options = fields.message('typed_extension_protocol_options')?.message(HTTP_OPTIONS);
  refuseUnexecuted(options, 'UpstreamHttpOptions');
  refuseHttp1(fields, options);
  const common = options?.message('common_http_protocol_options') ?? fields.message('common_http_protocol_options');
  const maxHeadersCount = common?.integer('max_headers_count', 1) ?? 100;
  const maxHeaderListBytes = (common?.integer('max_response_headers_kb', 1, 8192) ?? 60) * 1024;
  return {
    protocol: buildProtocol(fields, options),
    idleTimeoutMs: common?.durationMs('idle_timeout') ?? DEFAULT_IDLE_MS,
    maxRequestsPerConnection:
      common?.integer('max_requests_per_connection') ?? fields.integer('max_requests_per_connection') ?? 0,
    maxStreamDurationMs: common?.durationMs('max_stream_duration') ?? 0,
    maxHeadersCount,
    maxConnectionDurationMs: common?.durationMs('max_connection_duration') ?? 0,
    http2: parseHttp2Options(http2Fields(fields, options), { maxHeaderListBytes, maxHeaderCount: maxHeadersCount }),
    ...buildAutoTls((options ?? fields).message('upstream_http_protocol_options')),
  };
}

/** Where the cluster says how it speaks HTTP/2. */
function http2Fields(fields: Fields, options: Fields | undefined): Fields | undefined {
  return (options === undefined ? fields : protocols(options))?.message('http2_protocol_options');
}

/** The oneof of HttpProtocolOptions. */
function protocols(options: Fields): Fields | undefined {
  return (
    options.message('explicit_http_config') ??
    options.message('use_downstream_protocol_config') ??
    options.message('auto_config')
  );
}

function refuseHttp1(fields: Fields, options: Fields | undefined): void {
  refuseUnexecuted(options?.message('use_downstream_protocol_config'), 'UseDownstreamHttpConfig');
  refuseUnexecuted(options?.message('auto_config'), 'AutoHttpConfig');
  const http1 = (options === undefined ? fields : protocols(options))?.message('http_protocol_options');
  refuseUnexecuted(http1, 'UpstreamHttp1');
  checkHeaderCase(http1);
}

/** envoy.config.core.v3.UpstreamHttpProtocolOptions. */
function buildAutoTls(options: Fields | undefined): Pick<UpstreamHttp, 'autoSni' | 'autoSanValidation'> {
  if (options?.string('override_auto_sni_header')) options.fail('override_auto_sni_header', 'is not supported');
  return {
    autoSni: options?.boolean('auto_sni') ?? false,
    autoSanValidation: options?.boolean('auto_san_validation') ?? false,
  };
}

function buildProtocol(fields: Fields, options: Fields | undefined): UpstreamHttp['protocol'] {
  if (options === undefined) {
    const selection = fields.oneOf(
      'protocol_selection',
      ['USE_CONFIGURED_PROTOCOL', 'USE_DOWNSTREAM_PROTOCOL'],
      'USE_CONFIGURED_PROTOCOL',
    );
    if (selection === 'USE_DOWNSTREAM_PROTOCOL') return 'downstream';
    return fields.has('http2_protocol_options') ? 'http2' : 'http1';
  }
  if (options.has('use_downstream_protocol_config')) return 'downstream';
  if (options.has('auto_config')) return 'auto';
  const explicit = options.message('explicit_http_config');
  if (explicit === undefined) {
    return options.fail(
      'explicit_http_config',
      'one of explicit_http_config, use_downstream_protocol_config, auto_config is required',
    );
  }
  if (explicit.has('http3_protocol_options')) explicit.fail('http3_protocol_options', 'HTTP/3 is not supported');
  return explicit.has('http2_protocol_options') ? 'http2' : 'http1';
}

function buildSocket(socket: Fields, origin: string): TransportSocket {
  if (!socket.has('typed_config')) {
    if (socket.string('name') === 'envoy.transport_sockets.raw_buffer') return { kind: 'raw', json: {} };
    return socket.fail('typed_config', 'is required');
  }
  const { typeUrl, json } = typedConfig(socket.raw('typed_config'), socket.at('typed_config'));
  if (typeUrl === `${TYPE}envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer`) return { kind: 'raw', json };
  if (typeUrl === `${TYPE}envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext`) {
    return { kind: 'tls', json, tls: buildUpstreamTls(json, socket.at('typed_config'), origin) };
  }
  if (typeUrl === `${TYPE}envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport`) {
    return buildProxyHeader(new Fields(json, socket.at('typed_config')), json, origin);
  }
  return socket.fail('typed_config', `transport socket ${typeUrl.replace(TYPE, '')} is not supported`);
}

/** envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport: a header before another socket's bytes. */
function buildProxyHeader(fields: Fields, json: unknown, origin: string): TransportSocket {
  const inner = buildSocket(fields.requiredMessage('transport_socket'), origin);
  if (inner.proxyHeader !== undefined)
    fields.fail('transport_socket', 'one PROXY header inside another is not supported');
  return { ...inner, json, proxyHeader: buildProxyHeaderConfig(fields.messageOrEmpty('config')) };
}
