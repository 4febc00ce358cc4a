/**
 * Which filter chain a connection gets. Criteria are asked in one order, each by its most specific match; a choice is
 * not taken back when a later criterion then finds nothing. Source: envoy.config.listener.v3.FilterChainMatch;
 * Envoy's FilterChainManagerImpl.
 *
 *   destination port → destination IP → server name → transport protocol → application protocol
 *     → direct source IP → source type → source IP → source port
 */
import type { ChainQuery, FilterChainMatch, SourceType } from '../listener_config.ts';
import { type Cidr, isLoopback } from '../net/cidr.ts';
import { PrefixTable } from '../net/prefix_table.ts';

type ByPort<T> = Map<number, T>;
type ByText<T> = Map<string, T>;
type BySource<T> = PrefixTable<ByPort<T>>;
type BySourceType<T> = Map<SourceType, BySource<T>>;
type ByDirectSource<T> = PrefixTable<BySourceType<T>>;
type ByDestination<T> = PrefixTable<ByText<ByText<ByText<ByDirectSource<T>>>>>;

const ANY = '';
const NO_PORT = 0;

export class ChainIndex<T> {
  readonly #byPort: ByPort<ByDestination<T>> = new Map();

  /** @returns the chain that already has one of these rules, in which case this one cannot be reached by it. */
  add(match: FilterChainMatch, chain: T): T | undefined {
    let conflict: T | undefined;
    const destinations = at(this.#byPort, match.destinationPort ?? NO_PORT, () => new PrefixTable());
    for (const destination of orAny(match.destinationPrefixes)) {
      const names = destinations.at(destination, () => new Map());
      for (const name of orNone(match.serverNames)) {
        const transports = at(names, name.startsWith('*.') ? name.slice(1) : name, () => new Map());
        const protocols = at(transports, match.transportProtocol, () => new Map());
        for (const protocol of orNone(match.applicationProtocols)) {
          const directSources = at(protocols, protocol, () => new PrefixTable<BySourceType<T>>());
          for (const direct of orAny(match.directSourcePrefixes)) {
            const sources = at(
              directSources.at(direct, () => new Map()),
              match.sourceType,
              () => new PrefixTable<ByPort<T>>(),
            );
            for (const source of orAny(match.sourcePrefixes)) {
              const ports = sources.at(source, () => new Map());
              for (const port of match.sourcePorts.length === 0 ? [NO_PORT] : match.sourcePorts) {
                const known = ports.get(port);
                if (known === undefined) ports.set(port, chain);
                else conflict ??= known;
              }
            }
          }
        }
      }
    }
    return conflict;
  }

  find(query: ChainQuery): T | undefined {
    const exact = this.#byPort.get(query.localAddress.port);
    // A chain that names this port shuts out those that name none.
    const destinations = exact ?? this.#byPort.get(NO_PORT);
    const names = destinations?.find(query.localAddress.ip);
    const transports = names === undefined ? undefined : byServerName(names, query.serverName ?? ANY);
    const protocols = transports?.get(query.transportProtocol || 'raw_buffer') ?? transports?.get(ANY);
    const directSources = protocols === undefined ? undefined : byProtocol(protocols, query.applicationProtocols);
    const types = directSources?.find(query.directRemoteAddress.ip);
    const sources = types === undefined ? undefined : bySourceType(types, query);
    const ports = sources?.find(query.remoteAddress.ip);
    return ports?.get(query.remoteAddress.port) ?? ports?.get(NO_PORT);
  }
}

function at<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

const orAny = (prefixes: readonly Cidr[]): readonly (Cidr | undefined)[] =>
  prefixes.length === 0 ? [undefined] : prefixes;
const orNone = (texts: readonly string[]): readonly string[] => (texts.length === 0 ? [ANY] : texts);

/** `www.example.com`, then `.example.com`, `.com`, then chains that name none. */
function byServerName<T>(names: ByText<T>, serverName: string): T | undefined {
  const exact = names.get(serverName);
  if (exact !== undefined) return exact;
  let dot = serverName.indexOf('.', 1);
  while (dot >= 0 && dot < serverName.length - 1) {
    const wildcard = names.get(serverName.slice(dot));
    if (wildcard !== undefined) return wildcard;
    dot = serverName.indexOf('.', dot + 1);
  }
  return names.get(ANY);
}

function byProtocol<T>(protocols: ByText<T>, offered: readonly string[]): T | undefined {
  for (const protocol of offered) {
    const found = protocols.get(protocol);
    if (found !== undefined) return found;
  }
  return protocols.get(ANY);
}

function bySourceType<T>(types: BySourceType<T>, { localAddress, remoteAddress }: ChainQuery): BySource<T> | undefined {
  const local = types.get('same_ip_or_loopback');
  const external = types.get('external');
  if (local !== undefined || external !== undefined) {
    const isLocal = isLoopback(remoteAddress.ip) || remoteAddress.ip === localAddress.ip;
    const found = isLocal ? local : external;
    if (found !== undefined) return found;
  }
  return types.get('any');
}
