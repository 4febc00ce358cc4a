/** The contract of listener filters: first bytes, before a chain is matched. */
import type { Counter, Histogram } from '../telemetry/statistics.ts';
import type { SocketAddress } from './connection_info.ts';
import type { HelloFingerprints } from './hello_fingerprints.ts';

/** more: not enough bytes yet. done: the next filter. reject: the connection is closed. */
export type ListenerVerdict = 'more' | 'done' | 'reject';

/**
 * Listener filters, in filters/listener/, are pure: all bytes seen so far (without what was consumed before) → verdict.
 * Asked first with no bytes, so that a filter that needs none decides at once and a server that speaks first is not
 * kept waiting. `facts` are changed with the verdict, never with 'more' (but for `wantedBytes`). The bytes are borrowed.
 */
export interface ListenerFilter {
  inspect(bytes: Buffer, facts: ConnectionFacts): ListenerVerdict;
  /** The client has sent its end and these bytes are all there will be. Default: done. */
  inspectEnd?(bytes: Buffer, facts: ConnectionFacts): 'done' | 'reject';
}

/** What listener filters find out, and filter-chain match asks for. */
export interface ConnectionFacts {
  transportProtocol: 'tls' | 'raw_buffer' | '';
  /** Lower-case. */
  serverName: string | undefined;
  applicationProtocols: readonly string[];
  fingerprints: HelloFingerprints | undefined;
  /** The destination: where the client believed to connect to, once a filter has restored it. */
  localAddress: SocketAddress;
  localAddressRestored: boolean;
  /** The client, as a PROXY header named it. */
  remoteAddress: SocketAddress;
  /** The peer of the socket. */
  readonly directRemoteAddress: SocketAddress;
  /** A filter that is done adds what nobody behind it gets to see (a PROXY header). */
  consumedBytes: number;
  /** With 'more': not asked again before there are so many bytes; 0: with the next ones. */
  wantedBytes: number;
  /** Becomes the connection's filter state. */
  filterState: Map<string, unknown> | undefined;
  /** Becomes the connection's dynamic metadata: of its access log and its network filters. */
  dynamicMetadata: Map<string, Record<string, unknown>> | undefined;
  /** What the kernel redirected; undefined where nothing was. One system call. */
  originalDestination(): SocketAddress | undefined;
}

/** What a listener filter may use; made once per configuration and thread. */
export interface ListenerFilterDeps {
  /** `listener.<address>`, before the listener's statistics. */
  readonly statPrefix: string;
  /** By its whole name (`tls_inspector.tls_found`). */
  counter(name: string): Counter;
  histogram(name: string): Histogram;
}

export interface ListenerFilterFactory<Config> {
  readonly typeUrls: readonly string[];
  /** @throws {ConfigError} with the field path. */
  parse(json: unknown): Config;
  create(config: Config, deps: ListenerFilterDeps): ListenerFilter;
}
