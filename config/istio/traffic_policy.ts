/** The blocks of a traffic policy as fields of a cluster (istio/istio: pilot/pkg/networking/core/cluster_traffic_policy.go). */
import type { Json } from '../resources.ts';
import type { ConnectionPool, LoadBalancer, OutlierDetection, TrafficPolicy } from './destination_rule.ts';
import { any, seconds } from './envoy_json.ts';
import type { Keepalive, MeshConfig } from './mesh.ts';
import { isHttp, isHttp2, type Protocol } from './protocol.ts';

const UNLIMITED = 4294967295;

/** What a cluster says to HTTP, gathered from several blocks before it becomes HttpProtocolOptions. */
export interface HttpOptions {
  upstream: 'http2' | 'downstream' | undefined;
  common: Json;
  autoSni: boolean;
  autoSanValidation: boolean;
  http2: Json;
}

/** The upstream's protocol by the port's; HTTP/1 needs no options. */
export function httpOptions(protocol: Protocol): HttpOptions {
  const upstream = isHttp2(protocol) ? 'http2' : protocol === 'Auto' ? 'downstream' : undefined;
  return { upstream, common: {}, autoSni: false, autoSanValidation: false, http2: {} };
}

/** @returns undefined where the defaults of Envoy say the same. */
export function httpProtocolOptions(options: HttpOptions): Json | undefined {
  const { upstream, common, autoSni, autoSanValidation, http2 } = options;
  if (upstream === undefined && Object.keys(common).length === 0 && !autoSni && !autoSanValidation) return undefined;
  const type = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
  return {
    [type]: any(type, {
      ...(Object.keys(common).length > 0 && { common_http_protocol_options: common }),
      ...((autoSni || autoSanValidation) && {
        upstream_http_protocol_options: {
          ...(autoSni && { auto_sni: true }),
          ...(autoSanValidation && { auto_san_validation: true }),
        },
      }),
      ...(upstream === 'downstream'
        ? { use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: http2 } }
        : {
            explicit_http_config:
              upstream === 'http2' ? { http2_protocol_options: http2 } : { http_protocol_options: {} },
          }),
    }),
  };
}

/** Connection pool and circuit breakers; both directions. Fills `options`. */
export function connectionPoolFields(policy: Omit<TrafficPolicy, 'at'>, mesh: MeshConfig, options: HttpOptions): Json {
  const { tcp, http } = policy.connectionPool ?? ({} as Partial<ConnectionPool>);
  const budget = policy.retryBudget;
  addHttpLimits(policy.connectionPool, options);
  return {
    connect_timeout: seconds(tcp?.connectTimeout ?? mesh.connectTimeoutMs),
    circuit_breakers: {
      thresholds: [
        {
          max_connections: limit(tcp?.maxConnections),
          max_pending_requests: limit(http?.http1MaxPendingRequests),
          max_requests: limit(http?.http2MaxRequests),
          max_retries: limit(http?.maxRetries),
          ...(budget !== undefined && {
            retry_budget: {
              budget_percent: { value: budget.percent ?? 20 },
              min_retry_concurrency: budget.minRetryConcurrency ?? 3,
              ...(budget.budgetInterval !== undefined && { budget_interval: seconds(budget.budgetInterval) }),
            },
          }),
        },
      ],
    },
    ...keepaliveFields(tcp?.tcpKeepalive, mesh.tcpKeepalive),
  };
}

/** 0 counts as not given: Istio cannot tell them apart. */
function limit(value: number | undefined): number {
  return value === undefined || value <= 0 ? UNLIMITED : value;
}

function addHttpLimits(pool: ConnectionPool | undefined, options: HttpOptions): void {
  const { tcp, http } = pool ?? ({} as Partial<ConnectionPool>);
  const idle = http?.idleTimeout ?? tcp?.idleTimeout;
  const perConnection = http?.maxRequestsPerConnection ?? 0;
  options.common = {
    ...(idle !== undefined && { idle_timeout: seconds(idle) }),
    ...(tcp?.maxConnectionDuration !== undefined && { max_connection_duration: seconds(tcp.maxConnectionDuration) }),
    ...(perConnection > 0 && { max_requests_per_connection: perConnection }),
  };
  if (http?.useClientProtocol === true) options.upstream = 'downstream';
  const streams = http?.maxConcurrentStreams ?? 0;
  const ping = http?.http2KeepAlive;
  options.http2 = {
    ...(streams > 0 && { max_concurrent_streams: streams }),
    ...(ping !== undefined && {
      connection_keepalive: {
        ...(ping.interval !== undefined && { interval: seconds(ping.interval) }),
        ...(ping.timeout !== undefined && { timeout: seconds(ping.timeout) }),
      },
    }),
  };
}

function keepaliveFields(own: Keepalive | undefined, ofMesh: Keepalive | undefined): Json {
  const keepalive = own ?? ofMesh;
  if (keepalive === undefined) return {};
  return {
    upstream_connection_options: {
      tcp_keepalive: {
        ...(keepalive.probes !== undefined && { keepalive_probes: keepalive.probes }),
        ...(keepalive.time !== undefined && { keepalive_time: Math.floor(keepalive.time / 1000) }),
        ...(keepalive.interval !== undefined && { keepalive_interval: Math.floor(keepalive.interval / 1000) }),
      },
    },
  };
}

/** Outbound only: HTTP/1 ports may be asked to speak HTTP/2 upstream. */
export function upgradeToHttp2(
  policy: Omit<TrafficPolicy, 'at'>,
  protocol: Protocol,
  mesh: MeshConfig,
  options: HttpOptions,
): void {
  const wish = policy.connectionPool?.http?.h2UpgradePolicy;
  const upgrade = wish === 'UPGRADE' || (wish !== 'DO_NOT_UPGRADE' && isHttp(protocol) && mesh.h2Upgrade);
  if (upgrade && options.upstream === undefined) options.upstream = 'http2';
}

export function outlierFields(outlier: OutlierDetection | undefined): Json {
  if (outlier === undefined) return {};
  const enforcing = (count: number) => (count > 0 ? 100 : 0);
  const { consecutive5xxErrors: errors, consecutiveGatewayErrors: gateway } = outlier;
  const local = outlier.consecutiveLocalOriginFailures ?? 0;
  return {
    outlier_detection: {
      // Success rate needs more hosts and traffic than a service usually has: Istio never uses it.
      enforcing_success_rate: 0,
      ...(errors !== undefined && { consecutive_5xx: errors, enforcing_consecutive_5xx: enforcing(errors) }),
      ...(gateway !== undefined && {
        consecutive_gateway_failure: gateway,
        enforcing_consecutive_gateway_failure: enforcing(gateway),
      }),
      ...(outlier.interval !== undefined && { interval: seconds(outlier.interval) }),
      ...(outlier.baseEjectionTime !== undefined && { base_ejection_time: seconds(outlier.baseEjectionTime) }),
      ...((outlier.maxEjectionPercent ?? 0) > 0 && { max_ejection_percent: outlier.maxEjectionPercent }),
      ...(outlier.splitExternalLocalOriginErrors === true && {
        split_external_local_origin_errors: true,
        ...(local > 0 && { consecutive_local_origin_failure: local, enforcing_consecutive_local_origin_failure: 100 }),
        enforcing_local_origin_success_rate: 0,
      }),
    },
  };
}

/** Panic is off unless asked for: a few Pods that all fail must give 503, not traffic to all of them. */
export function commonLbFields(policy: Omit<TrafficPolicy, 'at'>): Json {
  const locality = policy.loadBalancer?.localityLbSetting;
  const on = locality !== undefined && locality.enabled !== false;
  const failsOver = locality?.failover !== undefined || locality?.failoverPriority !== undefined;
  const weighted = on && (locality.distribute !== undefined || (failsOver && policy.outlierDetection !== undefined));
  const panic = policy.outlierDetection?.minHealthPercent ?? 0;
  return {
    common_lb_config: {
      healthy_panic_threshold: panic > 0 ? { value: panic } : {},
      ...(weighted && { locality_weighted_lb_config: {} }),
    },
  };
}

/** The balancer of clusters that have endpoints. PASSTHROUGH is decided by the caller: it changes the cluster's type. */
export function loadBalancerFields(balancer: LoadBalancer | undefined): Json {
  const hash = balancer?.consistentHash;
  if (hash !== undefined) {
    if (hash.maglev !== undefined) {
      const size = hash.maglev.tableSize;
      return { lb_policy: 'MAGLEV', ...(size !== undefined && { maglev_lb_config: { table_size: String(size) } }) };
    }
    const size = hash.ringHash?.minimumRingSize ?? hash.minimumRingSize ?? 1024;
    return { lb_policy: 'RING_HASH', ring_hash_lb_config: { minimum_ring_size: String(size === 0 ? 1024 : size) } };
  }
  switch (balancer?.simple) {
    case 'RANDOM':
      return { lb_policy: 'RANDOM' };
    case 'ROUND_ROBIN':
      return { lb_policy: 'ROUND_ROBIN', ...slowStart('round_robin_lb_config', balancer) };
    default:
      return { lb_policy: 'LEAST_REQUEST', ...slowStart('least_request_lb_config', balancer) };
  }
}

function slowStart(field: string, balancer: LoadBalancer | undefined): Json {
  const warmup = balancer?.warmup;
  const window = warmup?.duration ?? balancer?.warmupDurationSecs;
  if (window === undefined) return {};
  return {
    [field]: {
      slow_start_config: {
        slow_start_window: seconds(window),
        ...(warmup !== undefined && {
          // istiod writes this key; nothing is configured under it.
          aggression: { default_value: warmup.aggression ?? 1, runtime_key: '(' },
          min_weight_percent: { value: warmup.minimumPercent ?? 10 },
        }),
      },
    },
  };
}
