/** envoy.config.listener.v3.Listener → ListenerConfig. */
import { createHash } from 'node:crypto';
import { isIP } from 'node:net';
import { networkFilters } from '../../filters/index.ts';
import type {
  FilterChainConfig,
  ListenerAddress,
  ListenerConfig,
  NetworkFilterConfig,
} from '../../proxy/listener_config.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { type BuildContext, MISSING_FILTER_CONFIG } from '../../proxy/build_context.ts';
import type { Json } from '../resources.ts';
import { type ExtensionLookup, filterConfig } from './discovered_filter.ts';
import { buildDownstreamTls } from './tls.ts';
import { buildContext, parseAt, shortName, typedConfig } from './extensions.ts';
import { buildChainMatcher } from './filter_chain_matcher.ts';
import { buildChainMatch, refuseOverlaps } from './filter_chain_match.ts';
import { buildListenerFilters } from './listener_filters.ts';
import { parseMetadata } from './route_configuration.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

const DEFAULT_BUFFER_LIMIT_BYTES = 1024 * 1024;
const DEFAULT_FILTERS_TIMEOUT_MS = 15_000;
const DOWNSTREAM_TLS = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext';
const RAW_BUFFER = 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer';

/** `lookup`: what has come by ECDS. @throws {ConfigError} with the field's path. */
export function buildListener(json: Json, origin: string, lookup: ExtensionLookup = () => undefined): ListenerConfig {
  const fields = new Fields(json);
  const context = buildContext(origin, lookup);
  const name = fields.string('name') ?? '';
  const addresses = [buildAddress(fields.requiredMessage('address'))];
  for (const more of fields.messages('additional_addresses')) {
    refuseUnexecuted(more, 'AdditionalAddress');
    addresses.push(buildAddress(more.requiredMessage('address')));
  }
  const filterChains = fields.messages('filter_chains').map((chain) => buildChain(chain, context, lookup));
  const fallback = fields.message('default_filter_chain');
  if (filterChains.length === 0 && fallback === undefined) {
    fields.fail('filter_chains', 'at least one filter chain is required');
  }
  refuseUnsupported(fields);
  refuseUnexecuted(fields, 'Listener');
  const warnings: string[] = [];
  const chainMatcher = buildChainMatcher(fields, filterChains, (warning) => warnings.push(warning));
  if (chainMatcher === undefined) refuseOverlaps(filterChains);
  return {
    name: name === '' ? `${addresses[0]?.ip}:${addresses[0]?.port}` : name,
    statPrefix: fields.string('stat_prefix') ?? '',
    metadata: parseMetadata(fields.message('metadata')),
    addresses,
    bindToPort: fields.boolean('bind_to_port') ?? true,
    useOriginalDst: fields.boolean('use_original_dst') ?? false,
    transparent: fields.boolean('transparent') ?? false,
    listenerFilters: buildListenerFilters(fields, filterChains, lookup, (warning) => warnings.push(warning)),
    listenerFiltersTimeoutMs: fields.durationMs('listener_filters_timeout') ?? DEFAULT_FILTERS_TIMEOUT_MS,
    continueOnListenerFiltersTimeout: fields.boolean('continue_on_listener_filters_timeout') ?? false,
    accessLogs: context.accessLogs(fields.list('access_log'), 'access_log'),
    warnings,
    direction: ({ UNSPECIFIED: undefined, INBOUND: 'inbound', OUTBOUND: 'outbound' } as const)[
      fields.oneOf('traffic_direction', ['UNSPECIFIED', 'INBOUND', 'OUTBOUND'], 'UNSPECIFIED')
    ],
    filterChains,
    defaultFilterChain: fallback === undefined ? undefined : buildChain(fallback, context, lookup),
    chainMatcher,
    bypassOverload: fields.boolean('bypass_overload_manager') ?? false,
    bufferLimitBytes: fields.integer('per_connection_buffer_limit_bytes', 1) ?? DEFAULT_BUFFER_LIMIT_BYTES,
    drainType:
      fields.oneOf('drain_type', ['DEFAULT', 'MODIFY_ONLY'], 'DEFAULT') === 'DEFAULT' ? 'default' : 'modify_only',
    origin,
  };
}

/** What would change where or how connections are taken, and is not done. */
function refuseUnsupported(listener: Fields): void {
  for (const flag of ['freebind', 'use_proxy_proto']) {
    if (listener.boolean(flag) === true) listener.fail(flag, 'is not supported');
  }
  for (const message of ['internal_listener', 'api_listener', 'udp_listener_config', 'fcds_config']) {
    if (listener.has(message)) listener.fail(message, 'is not supported');
  }
  if (listener.list('socket_options').length > 0) {
    listener.fail('socket_options', 'options of sockets by number are not supported');
  }
}

function buildAddress(address: Fields): ListenerAddress {
  const pipe = address.message('pipe');
  refuseUnexecuted(pipe, 'Pipe');
  if (pipe !== undefined) return { ip: pipe.requiredString('path'), port: 0 };
  const socket = address.message('socket_address');
  if (socket === undefined) return address.fail('socket_address', 'socket_address or pipe is required');
  refuseUnexecuted(socket, 'SocketAddress');
  const ip = socket.requiredString('address');
  if (isIP(ip) === 0) socket.fail('address', `an IP address is wanted, got "${ip}"`);
  const ipv4Compat = socket.boolean('ipv4_compat') ?? false;
  if (ipv4Compat && isIP(ip) === 4) socket.fail('ipv4_compat', `is for IPv6 addresses, got "${ip}"`);
  return { ip, port: socket.integer('port_value', 0, 65535) ?? 0, ...(ipv4Compat && { ipv4Compat }) };
}

function buildChain(chain: Fields, context: BuildContext, lookup: ExtensionLookup): FilterChainConfig {
  refuseUnexecuted(chain, 'FilterChain');
  const socket = chain.message('transport_socket');
  const handshakeTimeoutMs = chain.durationMs('transport_socket_connect_timeout');
  let transportSocket: FilterChainConfig['transportSocket'];
  if (socket !== undefined) {
    const { typeUrl, json } = typedConfig(socket.raw('typed_config') ?? {}, socket.at('typed_config'));
    if (typeUrl === DOWNSTREAM_TLS) {
      const tls = buildDownstreamTls(json, socket.at('typed_config'), context.origin, handshakeTimeoutMs);
      transportSocket = { typeUrl, json, tls };
    } else if (typeUrl !== RAW_BUFFER) {
      const type = shortName(typeUrl);
      socket.fail('typed_config', `transport socket ${type} is not supported`);
    }
  }
  return {
    name: chain.string('name') ?? '',
    metadata: parseMetadata(chain.message('metadata')),
    match: buildChainMatch(chain.message('filter_chain_match')),
    transportSocket,
    transportSocketConnectTimeoutMs: handshakeTimeoutMs ?? 0,
    networkFilters: chain.messages('filters').map((filter) => buildNetworkFilter(filter, context, lookup)),
  };
}

function buildNetworkFilter(filter: Fields, context: BuildContext, lookup: ExtensionLookup): NetworkFilterConfig {
  const name = filter.requiredString('name');
  const found = filterConfig(filter, lookup, 'network');
  if (found === undefined) return { name, typeUrl: MISSING_FILTER_CONFIG, config: undefined, fingerprint: '' };
  const { typeUrl, json, path } = found;
  const factory = networkFilters.get(typeUrl);
  if (factory === undefined) {
    const type = shortName(typeUrl);
    return filter.fail(
      'typed_config',
      `network filter "${name}" has type ${type}, which this version does not execute`,
    );
  }
  return {
    name,
    typeUrl,
    config: parseAt(path, () => factory.parse(json, context)),
    fingerprint:
      factory.followsUpdates === true ? '' : createHash('sha1').update(JSON.stringify(json)).digest('base64'),
  };
}
