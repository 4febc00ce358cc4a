/**
 * A listener on one data thread:
 *
 *   accept ─ listener filters ─► (use_original_dst: the listener of that address) ─ filter chain ─ transport socket
 *     ─ network filters ─ the terminal filter, which serves the connection to its end
 */
import type { ParsedHttpFilter } from './build_context.ts';
import type { Filter, FilterDeps } from './http/filter.ts';
import type { ListenerConfig } from './listener_config.ts';
import { FilterChains } from './listener/filter_chain.ts';
import { ListenerConnection, type ListenerHost, type ListenerVersion } from './listener/listener_connection.ts';
import { ListenerStatistics, listenerStatPrefix } from './listener/statistics.ts';
import type { TransportSocketMaker } from './listener/transport_socket.ts';
import { Acceptor } from './net/acceptor.ts';
import { type SocketAddress, socketAddress } from './net/connection_info.ts';
import type { ListenerFilter, ListenerFilterDeps } from './net/listener_filter.ts';
import type { NetworkFilter, NetworkFilterDeps } from './net/network_filter.ts';
import type { HeldMemory } from './overload/heavy_streams.ts';
import type { SocketStream } from './net/socket_stream.ts';
import type { OpenWork } from './thread_messages.ts';
import { limitedLog } from './telemetry/log_limit.ts';
import type { ThreadServices } from './thread_services.ts';

/** Makes filters of their parsed configuration; the composition root binds it to filters/index.ts. */
export interface FilterMaker {
  network(typeUrl: string, config: unknown, deps: NetworkFilterDeps): NetworkFilter<unknown>;
  http(parsed: ParsedHttpFilter, deps: FilterDeps): Filter<unknown>;
  listener(typeUrl: string, config: unknown, deps: ListenerFilterDeps): ListenerFilter;
  transport: TransportSocketMaker;
}

/** Finds the listener of an address that a client had dialled: exact, or of any address with that port. */
export type FindListener = (address: SocketAddress) => ListenerRuntime | undefined;

export class ListenerRuntime {
  readonly #services: ThreadServices;
  readonly #maker: FilterMaker;
  readonly #find: FindListener;
  readonly #acceptors: Acceptor[] = [];
  /** Nothing is to be accepted, and there is a queue that cannot be left alone. */
  #refuses = false;
  readonly #connections = new Set<ListenerConnection>();
  readonly #statistics: ListenerStatistics;
  readonly #host: ListenerHost;
  #serial = 0;
  #version: ListenerVersion;

  constructor(
    config: ListenerConfig,
    services: ThreadServices,
    maker: FilterMaker,
    find: FindListener = () => undefined,
  ) {
    this.#services = services;
    this.#maker = maker;
    this.#find = find;
    this.#statistics = new ListenerStatistics(services.statistics, config, services.threadIndex);
    this.#version = this.#build(config);
    const complain = limitedLog(services.log, 'listener');
    this.#host = {
      services,
      statistics: this.#statistics,
      version: () => this.#version,
      handOver: (stream) => this.#handOver(stream),
      complain: (message) => complain('warning', `Listener "${this.config.name}" (${this.config.origin}): ${message}`),
      forget: (open) => {
        const known = this.#connections.delete(open);
        if (known) services.overload.connectionClosed();
        return known;
      },
    };
  }

  get config(): ListenerConfig {
    return this.#version.config;
  }

  get activeConnections(): number {
    return this.#connections.size;
  }

  /** Streams in progress on all connections. */
  get activeStreams(): number {
    let count = 0;
    for (const { activeCount } of this.#connections) count += activeCount;
    return count;
  }

  /** Accepts on a descriptor (Linux), or opens the address itself. `index`: which of the configured addresses. */
  listen(fd: number | undefined, index = 0): Promise<number> {
    const { ip, port } = this.config.addresses[index] ?? { ip: '127.0.0.1', port: 0 };
    const listen = fd !== undefined ? { fd } : port === 0 && ip.startsWith('/') ? { path: ip } : { host: ip, port };
    const acceptor = new Acceptor({
      listen,
      address: socketAddress(ip, port),
      nowMs: this.#services.nowMs,
      onConnection: (stream) => {
        // The kernel has left the address as it was dialled; the listener's own port was dialled itself.
        if (this.config.transparent) stream.info.localAddressRestored = stream.info.localAddress.port !== acceptor.port;
        this.#accepted(stream, this.config.useOriginalDst);
      },
      onError: (error) =>
        this.#services.log.log('warning', 'listener', `Listener "${this.config.name}": ${error.message}`),
    });
    this.#acceptors.push(acceptor);
    return acceptor.whenListening().then(() => {
      const { port: real } = acceptor;
      this.pauseAccepting();
      return real;
    });
  }

  /** Accepts, or leaves connections in the kernel's queue, as overload says now. */
  pauseAccepting(): void {
    const pause = this.#services.overload.stopsAccepting && !this.config.bypassOverload;
    this.#refuses = false;
    for (const acceptor of this.#acceptors) {
      if (!pause) acceptor.resume();
      else if (!acceptor.pause()) this.#refuses = true;
    }
  }

  /**
   * A new version on the same addresses. Connections of a chain whose match, transport or network filters stay go on
   * and use the newest policy for new streams; those of a chain that changed or went drain.
   */
  update(config: ListenerConfig): void {
    const old = this.#version;
    this.#version = this.#build(config);
    for (const open of [...this.#connections]) {
      const { chainKey } = open;
      if (chainKey !== undefined && this.#version.chains.byKey(chainKey) === undefined) open.drain();
    }
    old.chains.close();
  }

  /** Answers say `Connection: close`; new connections are still accepted until `stopAccepting`. */
  drain(): void {
    for (const open of [...this.#connections]) open.drain();
  }

  stopAccepting(): void {
    for (const acceptor of this.#acceptors.splice(0)) acceptor.close();
  }

  /** Ends everything now. */
  close(): void {
    this.stopAccepting();
    for (const open of [...this.#connections]) open.destroy();
  }

  addHeldMemory(into: HeldMemory[]): void {
    if (this.config.bypassOverload) return;
    for (const open of this.#connections) open.addHeldMemory(into);
  }

  /** Adds what is in progress to `list`, up to `most` entries. @returns how much there is. */
  addOpenWork(list: OpenWork[], most: number): number {
    let count = 0;
    for (const open of this.#connections) {
      const { activeCount } = open;
      if (activeCount === 0) continue;
      count += activeCount;
      for (const { what, startMs } of list.length < most ? open.describeActive() : []) {
        if (list.length >= most) break;
        const client = open.stream.info.remoteAddress.text;
        list.push({ listener: this.config.name, client, what, ageMs: this.#services.nowMs() - startMs });
      }
    }
    return count;
  }

  #build(config: ListenerConfig): ListenerVersion {
    const services = this.#services;
    const maker = this.#maker;
    const filterDeps: ListenerFilterDeps = {
      statPrefix: listenerStatPrefix(config),
      counter: (name) => services.statistics.counter(name),
      histogram: (name) => services.statistics.histogram(name),
    };
    return {
      serial: this.#serial++,
      config,
      filters: config.listenerFilters.map(({ typeUrl, config: own, disabled }) => ({
        filter: maker.listener(typeUrl, own, filterDeps),
        disabled,
      })),
      timeout:
        config.listenerFiltersTimeoutMs > 0 ? services.deadlines.list(config.listenerFiltersTimeoutMs) : undefined,
      chains: new FilterChains(config, {
        services,
        network: maker.network,
        transport: maker.transport,
        deps: {
          services,
          direction: config.direction,
          statPrefix: listenerStatPrefix(config),
          drains: () =>
            services.drain.closes(config.direction, config.drainType) ||
            (!config.bypassOverload && services.overload.closesConnections()),
          shedsRequest: () => !config.bypassOverload && services.overload.shedsRequest(),
          shedsAt: (point) => !config.bypassOverload && services.overload.shedsAt(point),
          bufferLimitBytes: config.bufferLimitBytes,
          createHttpFilter: (parsed, deps) => maker.http(parsed, deps),
        },
      }),
      accessLogs: config.accessLogs.map((log) => services.accessLogs.create(log)),
    };
  }

  /** `handOff`: may go on at the listener of its original destination. */
  #accepted(stream: SocketStream, handOff: boolean): void {
    const { overload } = this.#services;
    const acceptance = this.#refuses
      ? 'shed'
      : this.config.bypassOverload
        ? overload.acceptAnyway()
        : overload.accept();
    if (acceptance !== 'accepted') {
      const { cxOverloadReject, cxGlobalOverflow } = this.#statistics;
      (acceptance === 'shed' ? cxOverloadReject : cxGlobalOverflow).inc();
      stream.close('reset');
      return;
    }
    const open = new ListenerConnection(stream, this.#host, handOff);
    this.#connections.add(open);
    open.inspect();
  }

  #handOver(stream: SocketStream): ((stream: SocketStream) => void) | undefined {
    const other = stream.info.localAddressRestored ? this.#find(stream.info.localAddress) : undefined;
    return other === undefined || other === this ? undefined : (moved) => other.#accepted(moved, false);
  }
}
