/** The contracts of network filters (bytes of a connection) and listener filters (first bytes, before a chain is matched). */
import type { BuildContext, ParsedHttpFilter } from '../build_context.ts';
import type { MutableBody } from '../http/body.ts';
import type { Filter, FilterDeps, FilterResult } from '../http/filter.ts';
import type { ThreadServices } from '../thread_services.ts';
import type { ByteStream } from './byte_stream.ts';
import type { ConnectionInfo } from './connection_info.ts';

/** Network filters, in filters/network/: metadata_exchange, rbac, tcp_proxy, istio.stats, the HTTP connection manager itself. Upstream (cluster) filters have the same form. */
export interface NetworkFilter<S = undefined> {
  newState?(): S;
  onNewConnection?(ctx: ConnectionContext, state: S): FilterResult;
  onData?(ctx: ConnectionContext, body: MutableBody, endStream: boolean, state: S): FilterResult;
  onWrite?(ctx: ConnectionContext, body: MutableBody, endStream: boolean, state: S): FilterResult;
  onDestroy?(ctx: ConnectionContext, state: S): void;
  /** Terminal filters only: serves the connection to its end. `newest` answers this filter of the newest version of the same chain. */
  takeOver?(stream: ByteStream, newest: () => NetworkFilter<S>): ConnectionOwner;
}

/** Who serves a connection to its end; the listener asks it to drain or close. */
export interface ConnectionOwner {
  /** Finish what is open, start nothing new: `Connection: close`, GOAWAY. */
  drain(): void;
  /** Ends now, with reset. */
  destroy(): void;
  /** Streams or tunnels in progress. */
  readonly activeCount: number;
  /** Called once when the connection is gone. */
  onClosed: (() => void) | undefined;
}

export interface ConnectionContext {
  readonly connection: ConnectionInfo;
  write(bytes: Buffer, endStream: boolean): void;
  close(how: 'flush' | 'reset', details: string): void;
  readonly signal: AbortSignal;
}

/** What a network filter may use; made once per configuration and thread. */
export interface NetworkFilterDeps {
  readonly services: ThreadServices;
  readonly direction: 'inbound' | 'outbound' | undefined;
  readonly bufferLimitBytes: number;
  createHttpFilter(parsed: ParsedHttpFilter, deps: FilterDeps): Filter<unknown>;
}

export interface NetworkFilterFactory<Config, S = undefined> {
  readonly typeUrls: readonly string[];
  /** @throws {ConfigError} with the field path. */
  parse(json: unknown, build: BuildContext): Config;
  create(config: Config, deps: NetworkFilterDeps): NetworkFilter<S>;
}

/** Listener filters, in filters/listener/, are pure: bytes seen so far → verdict or 'more'. */
export interface ListenerFilter {
  inspect(bytes: Buffer, facts: ConnectionFacts): 'more' | 'done' | 'reject';
}

/** What listener filters find out, and filter-chain match asks for. */
export interface ConnectionFacts {
  transportProtocol: 'tls' | 'raw_buffer' | '';
  serverName: string | undefined;
  applicationProtocols: readonly string[];
}
