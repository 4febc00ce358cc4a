/** The contract of network filters: the bytes of a connection, once its chain is chosen. */
import type { HeldMemory } from '../overload/heavy_streams.ts';
import type { LoadShedPoint } from '../overload/overload_config.ts';
import type { BuildContext, ParsedHttpFilter } from '../build_context.ts';
import type { MutableBody } from '../http/body.ts';
import type { Filter, FilterDeps, FilterResult } from '../http/filter.ts';
import type { StreamInfo } from '../http/stream_info.ts';
import type { ThreadServices } from '../thread_services.ts';
import type { ByteStream } from './byte_stream.ts';
import type { ConnectionInfo } from './connection_info.ts';

/**
 * Network filters, in filters/network/: metadata_exchange, rbac, tcp_proxy, istio.stats, the HTTP connection manager itself. Upstream (cluster) filters have the same form.
 *
 * continue: the next filter. buffer: what came is held for this filter, and it is asked again with all of it when more
 * comes (limited by the listener's per_connection_buffer_limit_bytes, reset beyond). stop: the filter has closed the
 * connection; the bytes go no further. A promise pauses reading until it settles; a rejection closes the connection.
 * `onNewConnection` answering buffer waits for the first bytes; filters behind it, the terminal one included, begin
 * when it is through. `onWrite` answers without a promise.
 */
export interface NetworkFilter<S = undefined> {
  newState?(): S;
  onNewConnection?(ctx: ConnectionContext, state: S): FilterResult;
  onData?(ctx: ConnectionContext, body: MutableBody, endStream: boolean, state: S): FilterResult;
  onWrite?(ctx: ConnectionContext, body: MutableBody, endStream: boolean, state: S): FilterResult;
  onDestroy?(ctx: ConnectionContext, state: S): void;
  /** Terminal filters only: serves the connection to its end. `newest` answers this filter of the newest version of the same chain. */
  takeOver?(stream: ByteStream, newest: () => NetworkFilter<S>, context: TerminalConnection): ConnectionOwner;
}

/** What a terminal filter shares with the filters before it and with the listener. */
export interface TerminalConnection {
  /** Of the connection as a whole: where a TCP proxy says what became of it. Made when first asked for. */
  readonly info: StreamInfo;
}

/** Who serves a connection to its end; the listener asks it to drain or close. */
export interface ConnectionOwner {
  /** Finish what is open, start nothing new: `Connection: close`, GOAWAY. */
  drain(): void;
  /** Ends now, with reset. */
  destroy(): void;
  /** Streams or tunnels in progress. */
  readonly activeCount: number;
  /** What `activeCount` counts, in words; default: one TCP connection. */
  describeActive?(): readonly ActiveWork[];
  /** Its streams, by what each keeps in memory. */
  addHeldMemory?(into: HeldMemory[]): void;
  /** Called once when the connection is gone. */
  onClosed: (() => void) | undefined;
}

export interface ActiveWork {
  readonly what: string;
  readonly startMs: number;
}

export interface ConnectionContext {
  readonly connection: ConnectionInfo;
  /** Byte counts, flags, details, upstream host and cluster of the connection; complete in onDestroy. */
  readonly info: StreamInfo;
  /** To the client, past all onWrite hooks. Borrowed. */
  write(bytes: Buffer, endStream: boolean): void;
  /** `details`: %CONNECTION_TERMINATION_DETAILS%. */
  close(how: 'flush' | 'reset', details: string): void;
  /** Aborted when the connection is over. */
  readonly signal: AbortSignal;
}

/** What a network filter may use; made once per configuration and thread. */
export interface NetworkFilterDeps {
  readonly services: ThreadServices;
  readonly direction: 'inbound' | 'outbound' | undefined;
  /** `listener.<address>`, before the listener's statistics. */
  readonly statPrefix: string;
  /** Asked at each response: whether it should be the connection's last. */
  drains(): boolean;
  /** Asked at each request: whether it is refused because there is too much to do. */
  shedsRequest(): boolean;
  /** Whether load is shed there, this time. */
  shedsAt(point: LoadShedPoint): boolean;
  readonly bufferLimitBytes: number;
  createHttpFilter(parsed: ParsedHttpFilter, deps: FilterDeps): Filter<unknown>;
}

export interface NetworkFilterFactory<Config, S = undefined> {
  readonly typeUrls: readonly string[];
  /** Terminal filters that take a new version over for connections already open (`newest`); others drain when their configuration changes. */
  readonly followsUpdates?: boolean;
  /** @throws {ConfigError} with the field path. */
  parse(json: unknown, build: BuildContext): Config;
  create(config: Config, deps: NetworkFilterDeps): NetworkFilter<S>;
}
