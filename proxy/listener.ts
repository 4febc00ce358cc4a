/** A listener on one data thread: accepts, matches a filter chain, hands the connection to the chain's last filter. */
import type { Filter, FilterDeps } from './http/filter.ts';
import type { ParsedHttpFilter } from './build_context.ts';
import type { FilterChainConfig, FilterChainMatch, ListenerConfig } from './listener_config.ts';
import { Acceptor } from './net/acceptor.ts';
import { socketAddress } from './net/connection_info.ts';
import type { ConnectionOwner, NetworkFilter, NetworkFilterDeps } from './net/network_filter.ts';
import type { SocketStream } from './net/socket_stream.ts';
import type { Counter, Gauge } from './telemetry/statistics.ts';
import type { ThreadServices } from './thread_services.ts';

/** Makes filters of their parsed configuration; the composition root binds it to filters/index.ts. */
export interface FilterMaker {
  network(typeUrl: string, config: unknown, deps: NetworkFilterDeps): NetworkFilter<unknown>;
  http(parsed: ParsedHttpFilter, deps: FilterDeps): Filter<unknown>;
}

/** A chain with its filters made. */
interface Chain {
  readonly config: FilterChainConfig;
  readonly key: string;
  readonly terminal: NetworkFilter<unknown> | undefined;
}

interface OpenConnection {
  readonly owner: ConnectionOwner;
  readonly chainKey: string;
  readonly stream: SocketStream;
}

export class ListenerRuntime {
  readonly #services: ThreadServices;
  readonly #maker: FilterMaker;
  readonly #acceptors: Acceptor[] = [];
  readonly #connections = new Set<OpenConnection>();
  readonly #statistics: ListenerStatistics;
  #config: ListenerConfig;
  #chains: readonly Chain[];
  #fallback: Chain | undefined;

  constructor(config: ListenerConfig, services: ThreadServices, maker: FilterMaker) {
    this.#services = services;
    this.#maker = maker;
    this.#config = config;
    this.#statistics = new ListenerStatistics(services, config);
    this.#chains = config.filterChains.map((chain) => this.#makeChain(chain));
    this.#fallback = config.defaultFilterChain === undefined ? undefined : this.#makeChain(config.defaultFilterChain);
  }

  get activeConnections(): number {
    return this.#connections.size;
  }

  /** Streams in progress on all connections. */
  get activeStreams(): number {
    let count = 0;
    for (const { owner } of this.#connections) count += owner.activeCount;
    return count;
  }

  /** Accepts on a descriptor (Linux), or opens the address itself. `index`: which of the configured addresses. */
  listen(fd: number | undefined, index = 0): Promise<number> {
    const { ip, port } = this.#config.addresses[index] ?? { ip: '127.0.0.1', port: 0 };
    const listen = fd !== undefined ? { fd } : port === 0 && ip.startsWith('/') ? { path: ip } : { host: ip, port };
    const acceptor = new Acceptor({
      listen,
      address: socketAddress(ip, port),
      nowMs: this.#services.nowMs,
      onConnection: (stream) => this.#accepted(stream),
      onError: (error) =>
        this.#services.log.log('warning', 'listener', `Listener "${this.#config.name}": ${error.message}`),
    });
    this.#acceptors.push(acceptor);
    return acceptor.whenListening().then(() => acceptor.port);
  }

  /**
   * A new version on the same addresses. Connections of a chain whose match, transport or network filters stay go on
   * and use the newest policy for new streams; those of a chain that changed or went drain.
   */
  update(config: ListenerConfig): void {
    this.#config = config;
    this.#chains = config.filterChains.map((chain) => this.#makeChain(chain));
    this.#fallback = config.defaultFilterChain === undefined ? undefined : this.#makeChain(config.defaultFilterChain);
    for (const open of [...this.#connections]) {
      if (this.#chainByKey(open.chainKey) === undefined) open.owner.drain();
    }
  }

  /** Answers say `Connection: close`; new connections are still accepted until `stopAccepting`. */
  drain(): void {
    for (const { owner } of [...this.#connections]) owner.drain();
  }

  stopAccepting(): void {
    for (const acceptor of this.#acceptors.splice(0)) acceptor.close();
  }

  /** Ends everything now. */
  close(): void {
    this.stopAccepting();
    for (const { owner } of [...this.#connections]) owner.destroy();
  }

  /** For the list of what was cut: addresses of the clients with streams in progress. */
  activeClients(): string[] {
    return [...this.#connections]
      .filter(({ owner }) => owner.activeCount > 0)
      .map(({ stream }) => stream.info.remoteAddress.text);
  }

  #accepted(stream: SocketStream): void {
    const statistics = this.#statistics;
    statistics.cxTotal.inc();
    const chain = this.#match(stream.info.localAddress.port);
    if (chain?.terminal?.takeOver === undefined) {
      statistics.noFilterChain.inc();
      stream.info.terminationDetails = 'filter_chain_not_found';
      stream.close('reset');
      return;
    }
    if (chain.config.transportSocket !== undefined) {
      // Fails closed: TLS that this version cannot terminate is never served as plaintext.
      statistics.noFilterChain.inc();
      stream.close('reset');
      return;
    }
    statistics.cxActive.inc();
    const { key } = chain;
    let current = chain;
    const owner = chain.terminal.takeOver(stream, () => {
      current = this.#chainByKey(key) ?? current;
      return current.terminal as NetworkFilter<unknown>;
    });
    const open: OpenConnection = { owner, chainKey: key, stream };
    this.#connections.add(open);
    owner.onClosed = () => {
      this.#connections.delete(open);
      statistics.cxActive.dec();
      statistics.cxDestroy.inc();
    };
  }

  #match(localPort: number): Chain | undefined {
    let best: Chain | undefined;
    let bestScore = -1;
    for (const chain of this.#chains) {
      const score = matchScore(chain.config.match, localPort);
      if (score > bestScore) {
        best = chain;
        bestScore = score;
      }
    }
    return best ?? this.#fallback;
  }

  #chainByKey(key: string): Chain | undefined {
    if (this.#fallback?.key === key) return this.#fallback;
    return this.#chains.find((chain) => chain.key === key);
  }

  #makeChain(config: FilterChainConfig): Chain {
    const deps: NetworkFilterDeps = {
      services: this.#services,
      direction: this.#config.direction,
      bufferLimitBytes: this.#config.bufferLimitBytes,
      createHttpFilter: (parsed, filterDeps) => this.#maker.http(parsed, filterDeps),
    };
    const last = config.networkFilters.at(-1);
    return {
      config,
      // What decides whether an old connection may go on: everything but the filters' own policy.
      key: JSON.stringify([
        config.name,
        config.match,
        config.transportSocket,
        config.networkFilters.map((f) => f.typeUrl),
      ]),
      terminal: last === undefined ? undefined : this.#maker.network(last.typeUrl, last.config, deps),
    };
  }
}

/** −1: no match; higher is more specific. Raw connections without a peeked server name or protocol. */
function matchScore(match: FilterChainMatch, localPort: number): number {
  if (match.destinationPort !== undefined && match.destinationPort !== localPort) return -1;
  if (match.transportProtocol !== '' && match.transportProtocol !== 'raw_buffer') return -1;
  if (match.serverNames.length > 0 || match.applicationProtocols.length > 0) return -1;
  return (match.destinationPort === undefined ? 0 : 2) + (match.transportProtocol === '' ? 0 : 1);
}

/** Envoy's names below `listener.<address>.`. */
class ListenerStatistics {
  readonly cxTotal: Counter;
  readonly cxActive: Gauge;
  readonly cxDestroy: Counter;
  readonly noFilterChain: Counter;

  constructor({ statistics }: ThreadServices, config: ListenerConfig) {
    const { ip, port } = config.addresses[0] ?? { ip: '', port: 0 };
    const name = config.statPrefix === '' ? `${ip.replaceAll(':', '_')}_${port}` : config.statPrefix;
    this.cxTotal = statistics.counter(`listener.${name}.downstream_cx_total`);
    this.cxActive = statistics.gauge(`listener.${name}.downstream_cx_active`);
    this.cxDestroy = statistics.counter(`listener.${name}.downstream_cx_destroy`);
    this.noFilterChain = statistics.counter(`listener.${name}.no_filter_chain_match`);
  }
}
