/** A filter chain on one data thread: its transport socket and network filters made, and its index of chains. */
import type { ChainMatchData, FilterChainConfig, ListenerConfig } from '../listener_config.ts';
import type { NetworkFilter, NetworkFilterDeps } from '../net/network_filter.ts';
import type { ThreadServices } from '../thread_services.ts';
import { ChainIndex } from './chain_index.ts';
import { listenerStatPrefix } from './statistics.ts';
import { type DownstreamTransportSocket, rawTransport, type TransportSocketMaker } from './transport_socket.ts';

export interface FilterChain {
  readonly config: FilterChainConfig;
  /** What decides whether an old connection may go on with a new version: all but the policy of filters that follow updates. */
  readonly key: string;
  /** undefined: not executed. Fails closed: such a chain's connections are reset, never served in the clear. */
  readonly transport: DownstreamTransportSocket | undefined;
  /** Filters before the terminal one, in order. */
  readonly filters: readonly NetworkFilter<unknown>[];
  readonly terminal: NetworkFilter<unknown> | undefined;
}

/** Makes what a chain consists of; the composition root binds it to filters/index.ts. */
export interface ChainMaker {
  readonly services: ThreadServices;
  network(typeUrl: string, config: unknown, deps: NetworkFilterDeps): NetworkFilter<unknown>;
  transport: TransportSocketMaker;
  readonly deps: NetworkFilterDeps;
}

/** All chains of one version of a listener. */
export class FilterChains {
  readonly #index = new ChainIndex<FilterChain>();
  readonly #matcher: ListenerConfig['chainMatcher'];
  readonly #byName = new Map<string, FilterChain>();
  readonly #byKey = new Map<string, FilterChain>();
  readonly #fallback: FilterChain | undefined;

  constructor(config: ListenerConfig, maker: ChainMaker) {
    this.#matcher = config.chainMatcher;
    for (const chainConfig of config.filterChains) {
      const chain = makeChain(chainConfig, config, maker);
      if (this.#matcher === undefined) this.#index.add(chainConfig.match, chain);
      else this.#byName.set(chainConfig.name, chain);
      this.#byKey.set(chain.key, chain);
    }
    this.#fallback =
      config.defaultFilterChain === undefined ? undefined : makeChain(config.defaultFilterChain, config, maker);
    if (this.#fallback !== undefined) this.#byKey.set(this.#fallback.key, this.#fallback);
  }

  find(query: ChainMatchData): FilterChain | undefined {
    if (this.#matcher === undefined) return this.#index.find(query) ?? this.#fallback;
    const name = this.#matcher(query);
    // A name that no chain has is no case for the default chain.
    return name === undefined ? this.#fallback : this.#byName.get(name);
  }

  byKey(key: string): FilterChain | undefined {
    return this.#byKey.get(key);
  }

  /** The next version has taken over. */
  close(): void {
    for (const { transport } of this.#byKey.values()) transport?.close?.();
  }
}

function makeChain(config: FilterChainConfig, listener: ListenerConfig, maker: ChainMaker): FilterChain {
  const { transportSocket } = config;
  const place = { listener, chain: config.name, statPrefix: listenerStatPrefix(listener) };
  const filters = config.networkFilters.map(({ typeUrl, config: own }) => maker.network(typeUrl, own, maker.deps));
  return {
    config,
    key: JSON.stringify([
      config.name,
      config.match,
      transportSocket?.json,
      config.networkFilters.map(({ typeUrl, fingerprint }) => `${typeUrl} ${fingerprint}`),
    ]),
    transport: transportSocket === undefined ? rawTransport : maker.transport(transportSocket, maker.services, place),
    terminal: filters.pop(),
    filters,
  };
}
