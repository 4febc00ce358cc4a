/** envoy.config.listener.v3.Listener → ListenerConfig. */
import { networkFilters } from '../../filters/index.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import type {
  FilterChainConfig,
  FilterChainMatch,
  ListenerAddress,
  ListenerConfig,
  NetworkFilterConfig,
} from '../../proxy/listener_config.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { BuildContext } from '../../proxy/build_context.ts';
import type { Json } from '../resources.ts';
import { buildContext, parseAt, typedConfig } from './extensions.ts';

const DEFAULT_BUFFER_LIMIT_BYTES = 1024 * 1024;
const RAW_BUFFER = 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer';

/** @throws {ConfigError} with the field's path. */
export function buildListener(json: Json, origin: string): ListenerConfig {
  const fields = new Fields(json);
  const context = buildContext(origin);
  const name = fields.string('name') ?? '';
  const addresses = [buildAddress(fields.requiredMessage('address'))];
  for (const more of fields.messages('additional_addresses'))
    addresses.push(buildAddress(more.requiredMessage('address')));
  const filterChains = fields.messages('filter_chains').map((chain) => buildChain(chain, context));
  const fallback = fields.message('default_filter_chain');
  if (filterChains.length === 0 && fallback === undefined) {
    fields.fail('filter_chains', 'at least one filter chain is required');
  }
  refuseDuplicates(filterChains);
  return {
    name: name === '' ? `${addresses[0]?.ip}:${addresses[0]?.port}` : name,
    statPrefix: fields.string('stat_prefix') ?? '',
    addresses,
    bindToPort: fields.boolean('bind_to_port') ?? true,
    direction: ({ UNSPECIFIED: undefined, INBOUND: 'inbound', OUTBOUND: 'outbound' } as const)[
      fields.oneOf('traffic_direction', ['UNSPECIFIED', 'INBOUND', 'OUTBOUND'], 'UNSPECIFIED')
    ],
    filterChains,
    defaultFilterChain: fallback === undefined ? undefined : buildChain(fallback, context),
    bufferLimitBytes: fields.integer('per_connection_buffer_limit_bytes', 1) ?? DEFAULT_BUFFER_LIMIT_BYTES,
    drainType:
      fields.oneOf('drain_type', ['DEFAULT', 'MODIFY_ONLY'], 'DEFAULT') === 'DEFAULT' ? 'default' : 'modify_only',
    origin,
  };
}

function buildAddress(address: Fields): ListenerAddress {
  const pipe = address.message('pipe');
  if (pipe !== undefined) return { ip: pipe.requiredString('path'), port: 0 };
  const socket = address.message('socket_address');
  if (socket === undefined) return address.fail('socket_address', 'socket_address or pipe is required');
  const protocol = socket.oneOf('protocol', ['TCP', 'UDP'], 'TCP');
  if (protocol === 'UDP') socket.fail('protocol', 'UDP listeners are not supported');
  return { ip: socket.requiredString('address'), port: socket.integer('port_value', 0, 65535) ?? 0 };
}

function buildChain(chain: Fields, context: BuildContext): FilterChainConfig {
  const socket = chain.message('transport_socket');
  let transportSocket: FilterChainConfig['transportSocket'];
  if (socket !== undefined) {
    const typed = typedConfig(socket.raw('typed_config') ?? {}, socket.at('typed_config'));
    if (typed.typeUrl !== RAW_BUFFER) transportSocket = typed;
  }
  return {
    name: chain.string('name') ?? '',
    match: buildMatch(chain.message('filter_chain_match')),
    transportSocket,
    networkFilters: chain.messages('filters').map((filter) => buildNetworkFilter(filter, context)),
  };
}

function buildMatch(match: Fields | undefined): FilterChainMatch {
  if (match === undefined) {
    return { destinationPort: undefined, transportProtocol: '', applicationProtocols: [], serverNames: [] };
  }
  for (const unsupported of [
    'prefix_ranges',
    'source_prefix_ranges',
    'direct_source_prefix_ranges',
    'source_ports',
    'source_type',
  ]) {
    if (match.list(unsupported).length > 0) {
      match.fail(unsupported, 'matching chains by addresses is not supported by this version');
    }
  }
  return {
    destinationPort: match.integer('destination_port', 1, 65535),
    transportProtocol: match.string('transport_protocol') ?? '',
    applicationProtocols: match.strings('application_protocols'),
    serverNames: match.strings('server_names'),
  };
}

function buildNetworkFilter(filter: Fields, context: BuildContext): NetworkFilterConfig {
  const name = filter.requiredString('name');
  const { typeUrl, json } = typedConfig(filter.raw('typed_config') ?? {}, filter.at('typed_config'));
  const factory = networkFilters.get(typeUrl);
  if (factory === undefined) {
    const type = typeUrl.slice(typeUrl.lastIndexOf('/') + 1);
    return filter.fail(
      'typed_config',
      `network filter "${name}" has type ${type}, which this version does not execute`,
    );
  }
  return { name, typeUrl, config: parseAt(filter.at('typed_config'), () => factory.parse(json, context)) };
}

function refuseDuplicates(chains: readonly FilterChainConfig[]): void {
  const seen = new Map<string, number>();
  chains.forEach((chain, index) => {
    const key = JSON.stringify(chain.match);
    const before = seen.get(key);
    if (before !== undefined) {
      throw new ConfigError(
        `filter_chains[${index}].filter_chain_match`,
        `matches the same connections as filter_chains[${before}]`,
      );
    }
    seen.set(key, index);
  });
}
