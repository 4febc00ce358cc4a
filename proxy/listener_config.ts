/** A listener's configuration, read. Envoy: envoy.config.listener.v3.Listener. */

export interface ListenerConfig {
  readonly name: string;
  readonly statPrefix: string;
  /** All addresses it listens at; the first is the main one. */
  readonly addresses: readonly ListenerAddress[];
  /** Whether it opens a port of its own (bind_to_port, default true). */
  readonly bindToPort: boolean;
  readonly direction: 'inbound' | 'outbound' | undefined;
  readonly filterChains: readonly FilterChainConfig[];
  readonly defaultFilterChain: FilterChainConfig | undefined;
  /** Default 1 MiB. */
  readonly bufferLimitBytes: number;
  readonly drainType: 'default' | 'modify_only';
  readonly origin: string;
}

export interface ListenerAddress {
  /** IP literal, or a unix socket's path with port 0. */
  readonly ip: string;
  readonly port: number;
}

export interface FilterChainConfig {
  readonly name: string;
  readonly match: FilterChainMatch;
  /** undefined: raw. A TLS socket is kept as it stands and never executed as plaintext. */
  readonly transportSocket: { readonly typeUrl: string; readonly json: unknown } | undefined;
  readonly networkFilters: readonly NetworkFilterConfig[];
}

/** Empty lists and undefined match everything. Envoy: FilterChainMatch. */
export interface FilterChainMatch {
  readonly destinationPort: number | undefined;
  readonly transportProtocol: string;
  readonly applicationProtocols: readonly string[];
  readonly serverNames: readonly string[];
}

export interface NetworkFilterConfig {
  readonly name: string;
  readonly typeUrl: string;
  readonly config: unknown;
}
