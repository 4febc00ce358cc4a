/**
 * One accepted connection, from accept to close:
 *
 *   inspecting ─► handshaking ─► served ─► closed
 *        └───────────┴── refused: reset ───►┘
 */
import type { ConnectionFacts } from '../net/listener_filter.ts';
import { StreamInfo } from '../http/stream_info.ts';
import type { ListenerConfig } from '../listener_config.ts';
import type { ByteStream } from '../net/byte_stream.ts';
import { Deadline, type DeadlineList } from '../net/deadlines.ts';
import type { ActiveWork, ConnectionOwner, NetworkFilter } from '../net/network_filter.ts';
import type { SocketStream } from '../net/socket_stream.ts';
import type { HeldMemory } from '../overload/heavy_streams.ts';
import type { AccessLog } from '../telemetry/access_log.ts';
import type { ThreadServices } from '../thread_services.ts';
import type { FilterChain, FilterChains } from './filter_chain.ts';
import { FilteredConnection } from './filtered_connection.ts';
import { Inspection, type InspectionFailure, type LiveListenerFilter } from './inspection.ts';
import type { ListenerStatistics } from './statistics.ts';

/** What one version of a listener's configuration is made into. */
export interface ListenerVersion {
  /** Grows with each version of the listener. */
  readonly serial: number;
  readonly config: ListenerConfig;
  readonly filters: readonly LiveListenerFilter[];
  /** Of the listener filters together; undefined: none. */
  readonly timeout: DeadlineList | undefined;
  readonly chains: FilterChains;
  readonly accessLogs: readonly AccessLog[];
}

/** The listener, as its connections see it. */
export interface ListenerHost {
  readonly services: ThreadServices;
  readonly statistics: ListenerStatistics;
  /** The newest. */
  version(): ListenerVersion;
  /** Where the connection goes on when its destination belongs to another listener. */
  handOver(stream: SocketStream): ((stream: SocketStream) => void) | undefined;
  /** Told, in a sentence, of clients that were refused. */
  complain(message: string): void;
  /** @returns whether it knew the connection. */
  forget(open: ListenerConnection): boolean;
}

export class ListenerConnection {
  readonly stream: SocketStream;
  readonly #host: ListenerHost;
  readonly #mayHandOver: boolean;
  #chain: FilterChain | undefined = undefined;
  #owner: ConnectionOwner | undefined = undefined;
  /** Ends what comes before an owner: the inspection or the handshake. */
  #abort: (() => void) | undefined = undefined;

  constructor(stream: SocketStream, host: ListenerHost, mayHandOver: boolean) {
    this.stream = stream;
    this.#host = host;
    this.#mayHandOver = mayHandOver;
  }

  get activeCount(): number {
    return this.#owner?.activeCount ?? 0;
  }

  describeActive(): readonly ActiveWork[] {
    return this.#owner?.describeActive?.() ?? [{ what: 'TCP connection', startMs: this.stream.info.startMs }];
  }

  addHeldMemory(into: HeldMemory[]): void {
    this.#owner?.addHeldMemory?.(into);
  }

  /** Of the chain it is served by; undefined before. */
  get chainKey(): string | undefined {
    return this.#owner === undefined ? undefined : this.#chain?.key;
  }

  /** Before it is served there is nothing to drain: it gets the newest chains, or is refused. */
  drain(): void {
    this.#owner?.drain();
  }

  destroy(): void {
    if (this.#owner !== undefined) {
      this.#owner.destroy();
      return;
    }
    this.#abort?.();
    this.stream.close('reset');
  }

  /** Runs the listener filters and all that follows. */
  inspect(): void {
    const { statistics } = this.#host;
    const { filters, timeout, config } = this.#host.version();
    statistics.preCxActive.inc();
    const inspection = new Inspection(
      this.stream,
      {
        filters,
        timeout,
        continueOnTimeout: config.continueOnListenerFiltersTimeout,
        onTimeout: () => statistics.preCxTimeout.inc(),
      },
      {
        passed: (bytes, ended) => {
          statistics.preCxActive.dec();
          this.#abort = undefined;
          this.#inspected(inspection, bytes, ended);
        },
        failed: (why) => {
          statistics.preCxActive.dec();
          this.#refuse(why);
        },
      },
    );
    this.#abort = () => {
      statistics.preCxActive.dec();
      inspection.abandon();
      this.#host.forget(this);
    };
    inspection.start();
  }

  #refuse(why: InspectionFailure): void {
    const { statistics } = this.#host;
    this.#host.forget(this);
    if (why === 'rejected') statistics.filterRejected.inc();
    else if (why === 'overflow') statistics.peekOverflow.inc();
    else if (why === 'client left') statistics.filterRemoteClose.inc();
    this.stream.close(why === 'client left' ? 'flush' : 'reset');
  }

  #inspected(inspection: Inspection, bytes: Buffer | undefined, ended: boolean): void {
    const move = this.#mayHandOver ? this.#host.handOver(this.stream) : undefined;
    if (move === undefined) {
      this.#choose(inspection, bytes, ended);
      return;
    }
    this.#host.forget(this);
    move(this.stream);
    replay(this.stream, bytes, ended);
  }

  #choose({ facts }: Inspection, bytes: Buffer | undefined, ended: boolean): void {
    const { statistics, services } = this.#host;
    const chain = this.#host.version().chains.find(facts);
    if (chain?.terminal?.takeOver === undefined || chain.transport === undefined) {
      this.#noChain(facts);
      return;
    }
    this.#chain = chain;
    statistics.opened();
    const { transportSocketConnectTimeoutMs: limitMs } = chain.config;
    let waiting = true;
    const deadline = new Deadline(() => {
      statistics.transportSocketTimeout.inc();
      this.stream.info.localCloseReason = 'transport_socket_timeout';
      this.destroy();
    });
    /** @returns whether this is the first word on the handshake. */
    const settle = (): boolean => {
      const first = waiting;
      waiting = false;
      this.#abort = undefined;
      deadline.cancel();
      return first;
    };
    const attempt = chain.transport.open(
      { stream: this.stream, bytes, ended, facts },
      {
        ready: (plain, first, last) => {
          if (settle()) this.#serve(chain, plain, first, last);
        },
        failed: (details) => {
          if (!settle()) return;
          this.stream.info.transportFailureReason ??= details;
          this.#closed(undefined);
        },
      },
    );
    // It may have settled within `open`.
    if (!(waiting as boolean)) return;
    if (limitMs > 0) services.deadlines.scaled('transport_socket_connect', limitMs).arm(deadline);
    this.#abort = () => {
      settle();
      attempt.abort();
      this.#closed(undefined);
    };
  }

  #noChain({ transportProtocol, serverName, applicationProtocols }: ConnectionFacts): void {
    const { info } = this.stream;
    const spoke =
      transportProtocol === 'tls'
        ? `TLS (server name ${JSON.stringify(serverName ?? '')}, ALPN ${JSON.stringify(applicationProtocols)})`
        : 'plain text';
    this.#host.complain(`the client ${info.remoteAddress.text} spoke ${spoke}, which no filter chain takes`);
    this.#host.forget(this);
    this.#host.statistics.noFilterChain.inc();
    info.terminationDetails = 'filter_chain_not_found';
    this.stream.close('reset');
    const facts = this.#newInfo();
    facts.responseCodeDetails = 'filter_chain_not_found';
    facts.addFlag('NR');
    this.#log(facts);
  }

  #serve(chain: FilterChain, stream: ByteStream, bytes: Buffer | undefined, ended: boolean): void {
    const { services, version } = this.#host;
    stream.info.filterChainName = chain.config.name;
    stream.info.listenerMetadata = this.#host.version().config.metadata;
    stream.info.filterChainMetadata = chain.config.metadata;
    let current = chain;
    // Asked several times a request. The number, not the version itself: an idle connection keeps no old one.
    let serial = -1;
    const newest = (): NetworkFilter<unknown> => {
      const now = version();
      if (now.serial !== serial) {
        serial = now.serial;
        current = now.chains.byKey(chain.key) ?? current;
      }
      return current.terminal as NetworkFilter<unknown>;
    };
    // #choose saw to it that there is one.
    const terminal = chain.terminal as Required<Pick<NetworkFilter<unknown>, 'takeOver'>>;
    const own = new LazyInfo(() => this.#newInfo());
    let filtered: FilteredConnection | undefined;
    if (chain.filters.length > 0) {
      filtered = new FilteredConnection(stream, {
        filters: chain.filters,
        bufferLimitBytes: version().config.bufferLimitBytes,
        nowMs: services.nowMs,
        takeOver: (inner, connection) => terminal.takeOver(inner, newest, connection),
        onFilterError: (error) => this.#filterFailed(error),
      });
    }
    this.#owner = filtered ?? terminal.takeOver(stream, newest, own);
    this.#owner.onClosed = () => this.#closed(filtered ?? own);
    filtered?.start();
    replay(stream, bytes, ended);
  }

  #filterFailed(error: unknown): void {
    const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const { name } = this.#host.version().config;
    this.#host.services.log.log('error', 'filter', `A network filter of listener "${name}" failed: ${detail}`);
  }

  #closed(connection: { readonly info: StreamInfo } | undefined): void {
    if (!this.#host.forget(this)) return;
    const { statistics, services } = this.#host;
    statistics.closed(services.nowMs() - this.stream.info.startMs);
    if (this.#host.version().accessLogs.length > 0) this.#log(connection?.info ?? this.#newInfo());
  }

  #newInfo(): StreamInfo {
    const { info } = this.stream;
    // The monotonic clock says how long ago the connection began, the other what time that was.
    const facts = new StreamInfo(info, Date.now() - (this.#host.services.nowMs() - info.startMs), info.startMs);
    facts.protocol = '';
    facts.dynamicMetadata = info.dynamicMetadata;
    return facts;
  }

  #log(info: StreamInfo): void {
    info.endMs ||= this.#host.services.nowMs();
    info.connectionTerminationDetails ??= info.connection.terminationDetails;
    for (const log of this.#host.version().accessLogs) {
      log.log({ info, requestHeaders: undefined, responseHeaders: undefined, responseTrailers: undefined });
    }
  }
}

/** Made when somebody first asks: HTTP connections have no use for it. */
class LazyInfo {
  readonly #make: () => StreamInfo;
  #info: StreamInfo | undefined = undefined;

  constructor(make: () => StreamInfo) {
    this.#make = make;
  }

  get info(): StreamInfo {
    this.#info ??= this.#make();
    return this.#info;
  }
}

/** What was read before somebody listened, as if it came now. */
function replay(stream: ByteStream, bytes: Buffer | undefined, ended: boolean): void {
  if (bytes !== undefined) stream.onData(bytes);
  if (ended) stream.onEnd();
}
