/** A TCP proxy's configuration, read. Envoy: envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy. */
import type { Metadata } from '../http/stream_info.ts';
import type { Formatter } from '../http/formatter.ts';
import type { HeaderMutations } from '../router/header_mutations.ts';
import type { AccessLogConfig } from '../telemetry/access_log_config.ts';

/** Durations in ms. */
export interface TcpProxyConfig {
  readonly statPrefix: string;
  /** At least one; with shares of the sum of weights. */
  readonly clusters: readonly TcpDestination[];
  readonly totalWeight: number;
  /** Default 3,600,000; 0: none. Without a byte in either direction. */
  readonly idleTimeoutMs: number;
  /** 0: none. */
  readonly maxConnectionDurationMs: number;
  /** Up to so many per cent more, at random. */
  readonly maxDurationJitterPercent: number;
  /** Default 1. */
  readonly maxConnectAttempts: number;
  /** Before another attempt; 0: at once. */
  readonly backoffBaseMs: number;
  readonly backoffMaxMs: number;
  /** By which a hashing balancer places the connection; undefined: at random. */
  readonly hashPolicy: TcpHashPolicy | undefined;
  readonly tunnel: TunnelConfig | undefined;
  readonly accessLogs: readonly AccessLogConfig[];
  /** Also when the upstream is connected (flush_access_log_on_connected). */
  readonly logOnConnected: boolean;
}

export interface TcpDestination {
  readonly cluster: string;
  readonly weight: number;
  readonly metadataMatch: Metadata | undefined;
}

export type TcpHashPolicy = { readonly kind: 'source_ip' } | { readonly kind: 'filter_state'; readonly key: string };

/** The connection's bytes inside a CONNECT or POST request. Envoy: TcpProxy.TunnelingConfig. */
export interface TunnelConfig {
  /** The request's authority. */
  readonly hostname: Formatter;
  readonly method: 'CONNECT' | 'POST';
  /** Of POST; default `/`. */
  readonly path: string;
  readonly headers: HeaderMutations | undefined;
}
