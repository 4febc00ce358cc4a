/** How a cluster's names are resolved, read. Durations in ms. */

export interface DnsOptions {
  readonly family: 'auto' | 'v4_only' | 'v6_only' | 'v4_preferred' | 'all';
  /** An answer is asked for again when its records' TTL is over, but for a TTL of 0. */
  readonly respectTtl: boolean;
  /** Default 5,000. */
  readonly refreshMs: number;
  /** Shorter TTLs count as this; default 0. */
  readonly minRefreshMs: number;
  /** After failures: from base, doubled up to max. undefined: from a second up to `refreshMs`. */
  readonly failure: { readonly baseMs: number; readonly maxMs: number } | undefined;
  /** Refreshes come later by up to as much; 0: spread over a tenth of the time. */
  readonly jitterMs: number;
  readonly resolver: DnsResolverOptions;
}

export type DnsResolverOptions =
  | {
      readonly kind: 'cares';
      /** `ip:port`; empty: what the system's resolv.conf names. */
      readonly servers: readonly string[];
      /** `servers` only where the system names none. */
      readonly onlyWithoutOthers: boolean;
      /** Names are tried with resolv.conf's search domains. */
      readonly searches: boolean;
      /** Of one question; undefined: 2,000. */
      readonly timeoutMs: number | undefined;
      /** undefined: 2. */
      readonly tries: number | undefined;
    }
  /** The C library's, with whatever nsswitch.conf says. `retries` after a temporary failure; undefined: no end. */
  | { readonly kind: 'getaddrinfo'; readonly retries: number | undefined };

export const SYSTEM_RESOLVER: DnsResolverOptions = {
  kind: 'cares',
  servers: [],
  onlyWithoutOthers: false,
  searches: true,
  timeoutMs: undefined,
  tries: undefined,
};
