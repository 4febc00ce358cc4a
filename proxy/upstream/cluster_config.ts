/** A cluster's configuration, read. Envoy: envoy.config.cluster.v3.Cluster. */
import type { SlowStart } from '../load_balancers/live_hosts.ts';
import type { LoadBalancerConfig } from '../load_balancers/load_balancer.ts';
import type { Http2Config } from '../http/http2_config.ts';
import type { Metadata } from '../http/stream_info.ts';
import type { ProxyHeaderConfig } from '../net/proxy_header.ts';
import type { SocketOptions } from '../net/socket_options.ts';
import type { UpstreamTlsConfig } from '../net/tls/tls_config.ts';
import type { BreakerLimits } from './circuit_breakers.ts';
import type { DnsOptions } from './dns_options.ts';
import type { HealthCheckConfig } from './health_check.ts';
import type { LoadAssignment } from './load_assignment.ts';
import type { ConfiguredHealth } from './host.ts';
import type { OutlierConfig } from './outlier_config.ts';
import type { SubsetConfig } from './subsets.ts';

/** Durations in ms. */
export interface ClusterConfig {
  readonly name: string;
  /** Default: the name. */
  readonly altStatName: string;
  readonly discovery: Discovery;
  /** Default 5,000. */
  readonly connectTimeoutMs: number;
  readonly loadBalancer: LoadBalancerConfig;
  /** Default 50; 0: never. */
  readonly panicThresholdPercent: number;
  /** In panic: 503 instead of any host. */
  readonly failOnPanic: boolean;
  readonly localityWeighted: boolean;
  /** What a host may be that a session asks for. Default unknown, healthy and degraded: a session outlives a bad moment. */
  readonly sessionHealth: ReadonlySet<ConfiguredHealth>;
  readonly slowStart: Omit<SlowStart, 'nowMs' | 'random'> | undefined;
  readonly subsets: SubsetConfig | undefined;
  readonly outlier: OutlierConfig | undefined;
  readonly healthChecks: readonly HealthCheckConfig[];
  readonly breakers: {
    readonly default: BreakerLimits;
    readonly high: BreakerLimits;
    /** Not just defaults. */
    readonly configured: boolean;
  };
  readonly http: UpstreamHttp;
  readonly dns: DnsOptions;
  readonly metadata: Metadata | undefined;
  /** The cluster filter istio.metadata_exchange: connections with ALPN istio-peer-exchange begin with a frame each way. */
  readonly exchangesMetadata: boolean;
  readonly socket: SocketOptions;
  /** undefined: raw. */
  readonly transportSocket: TransportSocket | undefined;
  /** The first whose match fits the endpoint's envoy.transport_socket_match metadata replaces transportSocket. */
  readonly transportSocketMatches: readonly TransportSocketMatch[];
  readonly inlineAssignment: LoadAssignment | undefined;
  readonly origin: string;
}

export type Discovery =
  | { readonly kind: 'static' | 'strict_dns' | 'logical_dns' | 'dynamic_forward_proxy' }
  /** `header` names the destination instead, where the request has it; `port` replaces that of the destination. */
  | { readonly kind: 'original_dst'; readonly header: string | undefined; readonly port: number | undefined }
  | { readonly kind: 'eds'; readonly serviceName: string }
  /** Names of other clusters, the preferred first. */
  | { readonly kind: 'aggregate'; readonly members: readonly string[] };

export interface UpstreamHttp {
  readonly protocol: 'http1' | 'http2' | 'downstream' | 'auto';
  /** Default 3,600,000; 0: none. */
  readonly idleTimeoutMs: number;
  /** 0: no limit. */
  readonly maxRequestsPerConnection: number;
  /** Default 100. */
  readonly maxHeadersCount: number;
  /** Of a stream; 0: for ever. */
  readonly maxStreamDurationMs: number;
  /** 0: none. */
  readonly maxConnectionDurationMs: number;
  readonly http2: Http2Config;
  /** auto_sni: the server name is the request's host. */
  readonly autoSni: boolean;
  /** auto_san_validation: the certificate must name the request's host. */
  readonly autoSanValidation: boolean;
}

/** What cannot be executed is refused when a connection is wanted, never sent in the clear. */
export interface TransportSocket {
  readonly kind: 'raw' | 'tls';
  readonly json: unknown;
  /** Of kind tls. */
  readonly tls?: UpstreamTlsConfig;
  /** A PROXY header goes first, before TLS too. */
  readonly proxyHeader?: ProxyHeaderConfig;
}

export interface TransportSocketMatch {
  readonly name: string;
  readonly match: Readonly<Record<string, unknown>>;
  readonly socket: TransportSocket;
}

/** Whether the control thread has nothing to do for it: no names to look up, no health to judge, no breakers to show. */
export function isPlain({ discovery: { kind }, outlier, healthChecks, breakers }: ClusterConfig): boolean {
  const hasNames = kind === 'strict_dns' || kind === 'logical_dns';
  return !hasNames && outlier === undefined && healthChecks.length === 0 && !breakers.configured;
}
