/** envoy.config.listener.v3.FilterChainMatch → FilterChainMatch, and what Envoy refuses in one. */
import type { FilterChainConfig, FilterChainMatch, SourceType } from '../../proxy/listener_config.ts';
import { ChainIndex } from '../../proxy/listener/chain_index.ts';
import { type Cidr, parseCidr } from '../../proxy/net/cidr.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { type Fields, show } from '../../proxy/resource_fields.ts';

const EVERYTHING: FilterChainMatch = {
  destinationPort: undefined,
  destinationPrefixes: [],
  serverNames: [],
  transportProtocol: '',
  applicationProtocols: [],
  directSourcePrefixes: [],
  sourceType: 'any',
  sourcePrefixes: [],
  sourcePorts: [],
};

const SOURCE_TYPES: Readonly<Record<string, SourceType>> = {
  ANY: 'any',
  SAME_IP_OR_LOOPBACK: 'same_ip_or_loopback',
  EXTERNAL: 'external',
};

/** @throws {ConfigError} with the field's path. */
export function buildChainMatch(match: Fields | undefined): FilterChainMatch {
  if (match === undefined) return EVERYTHING;
  for (const never of ['address_suffix', 'suffix_len']) {
    if (match.has(never)) match.fail(never, 'is not implemented, by Envoy neither');
  }
  return {
    destinationPort: match.integer('destination_port', 1, 65535),
    destinationPrefixes: prefixes(match, 'prefix_ranges'),
    serverNames: match
      .strings('server_names')
      .map((name, index) => serverName(name, `${match.at('server_names')}[${index}]`)),
    transportProtocol: match.string('transport_protocol') ?? '',
    applicationProtocols: match.strings('application_protocols'),
    directSourcePrefixes: prefixes(match, 'direct_source_prefix_ranges'),
    sourceType: SOURCE_TYPES[
      match.oneOf('source_type', ['ANY', 'SAME_IP_OR_LOOPBACK', 'EXTERNAL'], 'ANY')
    ] as SourceType,
    sourcePrefixes: prefixes(match, 'source_prefix_ranges'),
    sourcePorts: match.list('source_ports').map((port, index) => {
      if (typeof port === 'number' && Number.isInteger(port) && port >= 1 && port <= 65535) return port;
      throw new ConfigError(
        `${match.at('source_ports')}[${index}]`,
        `a port from 1 to 65535 is wanted, got ${show(port)}`,
      );
    }),
  };
}

/** Two chains for the same connections are a mistake that nobody could see. @throws {ConfigError} */
export function refuseOverlaps(chains: readonly FilterChainConfig[]): void {
  const index = new ChainIndex<number>();
  chains.forEach(({ match }, position) => {
    const before = index.add(match, position);
    if (before === undefined) return;
    throw new ConfigError(
      `filter_chains[${position}].filter_chain_match`,
      `matches the same connections as filter_chains[${before}]`,
    );
  });
}

/** A chain that can only be found by a look at the ClientHello. */
export function needsTlsInspector({ match }: FilterChainConfig): boolean {
  const { transportProtocol, serverNames, applicationProtocols } = match;
  if (transportProtocol === '') return serverNames.length > 0 || applicationProtocols.length > 0;
  return transportProtocol === 'tls';
}

function prefixes(match: Fields, name: string): Cidr[] {
  return match.messages(name).map(parseCidr);
}

function serverName(name: string, path: string): string {
  const rest = name.startsWith('*.') ? name.slice(2) : name;
  if (rest === '' || rest.includes('*')) {
    throw new ConfigError(path, `a host name or a wildcard such as "*.example.com" is wanted, got "${name}"`);
  }
  return name.toLowerCase();
}
