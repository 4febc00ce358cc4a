/**
 * Filter chains chosen by a tree of matchers. Source: envoy.config.listener.v3.Listener.filter_chain_matcher; as in Envoy
 * an action is a chain's name, a name that no chain has closes the connection, and what leads nowhere gets the default chain.
 */
import type { ChainMatchData, FilterChainConfig } from '../../proxy/listener_config.ts';
import { type MatchInput, type Match, parseMatcher, typeName } from '../../proxy/matching/matcher.ts';
import { isLoopback } from '../../proxy/net/cidr.ts';
import type { SocketAddress } from '../../proxy/net/connection_info.ts';
import { parsePath, valueAt } from '../../proxy/policy/value_matcher.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import type { Fields } from '../../proxy/resource_fields.ts';

const NETWORK = 'envoy.extensions.matching.common_inputs.network.v3.';
const ACTION = 'google.protobuf.StringValue';

type Read = (data: ChainMatchData) => string | undefined;

/** A unix socket has no address. */
const ip = ({ ip: text }: SocketAddress): string | undefined => (text.includes('/') ? undefined : text);

const TEXTS: Readonly<Record<string, Read>> = {
  DestinationIPInput: ({ localAddress }) => ip(localAddress),
  DestinationPortInput: ({ localAddress }) => String(localAddress.port),
  SourceIPInput: ({ remoteAddress }) => ip(remoteAddress),
  SourcePortInput: ({ remoteAddress }) => String(remoteAddress.port),
  DirectSourceIPInput: ({ directRemoteAddress }) => ip(directRemoteAddress),
  SourceTypeInput: ({ localAddress, remoteAddress }) =>
    isLoopback(remoteAddress.ip) || remoteAddress.ip === localAddress.ip ? 'local' : undefined,
  ServerNameInput: ({ serverName }) => (serverName === '' ? undefined : serverName),
  TransportProtocolInput: ({ transportProtocol }) => transportProtocol || 'raw_buffer',
  /** What the client offers, each in quotes: `'h2','http/1.1'`. */
  ApplicationProtocolInput: ({ applicationProtocols }) =>
    applicationProtocols.length === 0 ? undefined : applicationProtocols.map((name) => `'${name}'`).join(','),
};

/** @throws {ConfigError} for what cannot be looked at, and for chains that have no name of their own. */
export function buildChainMatcher(
  listener: Fields,
  chains: readonly FilterChainConfig[],
  warn: (warning: string) => void,
): Match<ChainMatchData, string> | undefined {
  const matcher = listener.message('filter_chain_matcher');
  if (matcher === undefined) return undefined;
  const names = checkNames(listener, chains);
  return parseMatcher<ChainMatchData, string>(matcher, {
    input: chainInput,
    action(config) {
      const type = typeName(config);
      if (type !== ACTION) config.fail('@type', `the action ${type} is not executed by this version: ${ACTION} is`);
      const name = config.requiredString('value');
      if (!names.has(name)) {
        warn(`${config.at('value')}: no filter chain is called "${name}"; connections that it would take are closed`);
      }
      return name;
    },
  });
}

function checkNames(listener: Fields, chains: readonly FilterChainConfig[]): ReadonlySet<string> {
  const names = new Set<string>();
  chains.forEach(({ name }, index) => {
    const path = `${listener.at('filter_chains')}[${index}]`;
    if (name === '') throw new ConfigError(`${path}.name`, 'is required beside filter_chain_matcher');
    if (names.has(name)) throw new ConfigError(`${path}.name`, `"${name}" is there twice`);
    names.add(name);
  });
  listener.messages('filter_chains').forEach((chain) => {
    const match = chain.message('filter_chain_match');
    if (match !== undefined && Object.keys(match.json).length > 0) {
      chain.fail('filter_chain_match', 'is passed over beside filter_chain_matcher: remove one of them');
    }
  });
  return names;
}

function chainInput(config: Fields): MatchInput<ChainMatchData> {
  const type = typeName(config);
  const short = type.startsWith(NETWORK) ? type.slice(NETWORK.length) : '';
  const read = Object.hasOwn(TEXTS, short) ? TEXTS[short] : undefined;
  if (read !== undefined) return { kind: 'text', read };
  if (short === 'FilterStateInput') {
    const key = config.requiredString('key');
    return {
      kind: 'text',
      read({ filterState }) {
        const value = filterState?.get(key);
        return typeof value === 'string' ? value : undefined;
      },
    };
  }
  if (short === 'DynamicMetadataInput') {
    const filter = config.requiredString('filter');
    const path = parsePath(config);
    return { kind: 'value', read: ({ dynamicMetadata }) => valueAt(dynamicMetadata?.get(filter), path) };
  }
  if (type.startsWith('envoy.extensions.matching.common_inputs.ssl.v3.')) {
    return config.fail('@type', 'no certificate is known before a filter chain is chosen');
  }
  return config.fail('@type', `filter chains cannot be chosen by ${type}`);
}
