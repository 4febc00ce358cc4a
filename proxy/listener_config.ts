/** A listener's configuration, read. Envoy: envoy.config.listener.v3.Listener. */
import type { Match } from './matching/matcher.ts';
import type { Cidr } from './net/cidr.ts';
import type { SocketAddress } from './net/connection_info.ts';
import type { Metadata } from './http/stream_info.ts';
import type { DownstreamTlsConfig } from './net/tls/tls_config.ts';
import type { AccessLogConfig } from './telemetry/access_log_config.ts';

export interface ListenerConfig {
  readonly name: string;
  readonly statPrefix: string;
  readonly metadata: Metadata | undefined;
  /** All addresses it listens at; the first is the main one. */
  readonly addresses: readonly ListenerAddress[];
  /** Whether it opens a port of its own (bind_to_port, default true). */
  readonly bindToPort: boolean;
  /** Connections go on at the listener of the address that the client had dialled, where there is one. */
  readonly useOriginalDst: boolean;
  /** Takes connections to addresses that are not the machine's (TPROXY); their local address is what was dialled. */
  readonly transparent: boolean;
  readonly direction: 'inbound' | 'outbound' | undefined;
  readonly listenerFilters: readonly ListenerFilterConfig[];
  /** Default 15,000; 0: none. */
  readonly listenerFiltersTimeoutMs: number;
  /** When the time is over: go on with what was found out, instead of closing. */
  readonly continueOnListenerFiltersTimeout: boolean;
  readonly filterChains: readonly FilterChainConfig[];
  readonly defaultFilterChain: FilterChainConfig | undefined;
  /** Finds the chain's name instead of the chains' own matches; undefined: those count. */
  readonly chainMatcher: Match<ChainMatchData, string> | undefined;
  /** For connections: each, when it ends. */
  readonly accessLogs: readonly AccessLogConfig[];
  /** Default 1 MiB. */
  /** Its connections and requests are taken whatever the load (bypass_overload_manager). */
  readonly bypassOverload: boolean;
  readonly bufferLimitBytes: number;
  readonly drainType: 'default' | 'modify_only';
  /** What was put right on the way in; sentences for the operator. */
  readonly warnings: readonly string[];
  readonly origin: string;
}

export interface ListenerAddress {
  /** IP literal, or a unix socket's path with port 0. */
  readonly ip: string;
  readonly port: number;
  /** An IPv6 wildcard takes IPv4 connections too. Default false. */
  readonly ipv4Compat?: boolean;
}

export interface ListenerFilterConfig {
  readonly name: string;
  readonly typeUrl: string;
  readonly config: unknown;
  /** Connections that the filter leaves alone. */
  readonly disabled: ListenerFilterPredicate | undefined;
}

/** Envoy: ListenerFilterChainMatchPredicate. Ports are the destination's, `end` excluded. */
export type ListenerFilterPredicate =
  | { readonly kind: 'any' }
  | { readonly kind: 'and' | 'or'; readonly rules: readonly ListenerFilterPredicate[] }
  | { readonly kind: 'not'; readonly rule: ListenerFilterPredicate }
  | { readonly kind: 'port'; readonly start: number; readonly end: number };

/** What is known of a connection when its chain is chosen. */
export interface ChainQuery {
  readonly localAddress: SocketAddress;
  readonly remoteAddress: SocketAddress;
  readonly directRemoteAddress: SocketAddress;
  readonly serverName: string | undefined;
  /** '' counts as raw_buffer. */
  readonly transportProtocol: string;
  /** What the client offered, in its order. */
  readonly applicationProtocols: readonly string[];
}

/** With what listener filters have left. */
export interface ChainMatchData extends ChainQuery {
  readonly filterState?: ReadonlyMap<string, unknown> | undefined;
  readonly dynamicMetadata?: ReadonlyMap<string, Record<string, unknown>> | undefined;
}

export interface FilterChainConfig {
  readonly name: string;
  readonly metadata: Metadata | undefined;
  readonly match: FilterChainMatch;
  /** undefined: raw. */
  readonly transportSocket: TransportSocketConfig | undefined;
  /** Default 0: none. */
  readonly transportSocketConnectTimeoutMs: number;
  readonly networkFilters: readonly NetworkFilterConfig[];
}

export interface TransportSocketConfig {
  readonly typeUrl: string;
  readonly json: unknown;
  readonly tls: DownstreamTlsConfig;
}

export type SourceType = 'any' | 'same_ip_or_loopback' | 'external';

/** Empty lists and undefined match everything. Envoy: FilterChainMatch. */
export interface FilterChainMatch {
  readonly destinationPort: number | undefined;
  readonly destinationPrefixes: readonly Cidr[];
  /** Lower-case; `*.example.com` for every name below it. */
  readonly serverNames: readonly string[];
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
  readonly directSourcePrefixes: readonly Cidr[];
  readonly sourceType: SourceType;
  readonly sourcePrefixes: readonly Cidr[];
  readonly sourcePorts: readonly number[];
}

export interface NetworkFilterConfig {
  readonly name: string;
  readonly typeUrl: string;
  readonly config: unknown;
  /** Differs when connections that began with another version may not go on with this one. */
  readonly fingerprint: string;
}
