/** envoy.config.route.v3.RouteConfiguration → RouteTable. */
import { ConfigError } from '../../proxy/config_error.ts';
import { parseFraction } from '../../proxy/fractional_percent.ts';
import type { Metadata } from '../../proxy/http/stream_info.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { parseHashPolicies } from '../../proxy/router/hash_policy.ts';
import { parseHeaderMutations } from '../../proxy/router/header_mutations.ts';
import { parseRateLimits } from '../../proxy/router/rate_limit_actions.ts';
import { parseRedirect, parseRewrite } from '../../proxy/router/rewrite.ts';
import type {
  DirectResponseAction,
  ForwardAction,
  PerFilterConfig,
  Route,
  RouteTable,
} from '../../proxy/router/route.ts';
import { parseRouteMatch } from '../../proxy/router/route_match.ts';
import {
  ConfiguredRoute,
  ConfiguredRouteTable,
  type RouteChoice,
  type RouteLevel,
  type RouteParts,
  VirtualHost,
} from '../../proxy/router/route_table.ts';
import { VirtualHosts } from '../../proxy/router/virtual_hosts.ts';
import type { Json } from '../resources.ts';
import { parseMirrorPolicies } from './mirror_policies.ts';
import { buildProxyHeaderConfig } from './proxy_header.ts';
import { parseRetryPolicy } from './retry_policy.ts';
import { inlineText } from '../../proxy/http/inline_text.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

export interface RouteTableOptions {
  readonly origin: string;
  /** Parses one entry of typed_per_filter_config. @throws {ConfigError} */
  filterConfig(name: string, json: unknown, path: string): PerFilterConfig;
}

const DEFAULT_TIMEOUT_MS = 15_000;
const MAX_DIRECT_RESPONSE_BYTES = 1024 * 1024;

/** @throws {ConfigError} with the field's path. */
export function buildRouteTable(json: Json, given: RouteTableOptions): RouteTable {
  const fields = new Fields(json);
  refuseUnexecuted(fields, 'RouteConfiguration');
  let switchesFilters = false;
  const options: RouteTableOptions = {
    origin: given.origin,
    filterConfig(name, config, path) {
      const parsed = given.filterConfig(name, config, path);
      switchesFilters ||= parsed.disabled;
      return parsed;
    },
  };
  const level = parseLevel(fields, options);
  const specificWins = fields.boolean('most_specific_header_mutations_wins') ?? false;
  const maxDirectBytes = fields.integer('max_direct_response_body_size_bytes') ?? MAX_DIRECT_RESPONSE_BYTES;
  const hosts = new VirtualHosts<VirtualHost>(fields.boolean('ignore_port_in_host_matching') ?? false);
  for (const host of fields.messages('virtual_hosts')) {
    const built = buildVirtualHost(host, { fields, level, specificWins, maxDirectBytes, options });
    const domains = host.strings('domains');
    if (domains.length === 0) host.fail('domains', 'at least one domain is required');
    domains.forEach((domain, index) => {
      if (domain === '') host.fail('domains', 'must not hold an empty domain');
      if (!hosts.add(domain, built)) {
        throw new ConfigError(`${host.at('domains')}[${index}]`, `"${domain}" is taken by another virtual host`);
      }
    });
  }
  // Without a source: a pushed one as it is executed, see config/xds/pushed_virtual_hosts.ts.
  const vhds = fields.message('vhds');
  if (vhds?.has('config_source') === true)
    fields.fail('vhds', 'only a route configuration that is pushed can have hosts by VHDS');
  return new ConfiguredRouteTable(
    fields.string('name') ?? '',
    options.origin,
    hosts,
    switchesFilters,
    vhds !== undefined,
  );
}

interface Context {
  readonly fields: Fields;
  readonly level: RouteLevel;
  readonly specificWins: boolean;
  readonly maxDirectBytes: number;
  readonly options: RouteTableOptions;
}

interface HostContext extends Context {
  readonly hostLevel: RouteLevel;
  readonly host: Fields;
  readonly table: Fields;
}

function parseLevel(fields: Fields, options: RouteTableOptions): RouteLevel {
  const filterConfigs = new Map<string, PerFilterConfig>();
  for (const [name, config] of fields.entries('typed_per_filter_config')) {
    filterConfigs.set(name, options.filterConfig(name, config, fields.at(`typed_per_filter_config[${name}]`)));
  }
  return {
    requestMutations: parseHeaderMutations(fields, 'request'),
    responseMutations: parseHeaderMutations(fields, 'response'),
    filterConfigs,
  };
}

function buildVirtualHost(host: Fields, context: Context): VirtualHost {
  const name = host.requiredString('name');
  refuseUnexecuted(host, 'VirtualHost');
  if (host.has('matcher')) host.fail('matcher', 'matcher trees are not supported: list routes');
  const hostContext: HostContext = {
    ...context,
    host,
    table: context.fields,
    hostLevel: parseLevel(host, context.options),
  };
  const choices = host.messages('routes').map((route) => buildRoute(route, name, hostContext));
  const requireTls = host.oneOf('require_tls', ['NONE', 'EXTERNAL_ONLY', 'ALL'], 'NONE') !== 'NONE';
  return new VirtualHost(name, requireTls, choices);
}

function buildRoute(route: Fields, virtualHostName: string, context: HostContext): RouteChoice {
  refuseUnexecuted(route, 'Route');
  refuseUnexecuted(route.message('decorator'), 'Decorator');
  const match = parseRouteMatch(route.requiredMessage('match'));
  const level = parseLevel(route, context.options);
  const common = {
    name: route.string('name') ?? '',
    virtualHostName,
    virtualHostMetadata: parseMetadata(context.host.message('metadata')),
    metadata: parseMetadata(route.message('metadata')),
    decoratorOperation: route.message('decorator')?.string('operation'),
    rateLimits: parseRateLimits(rateLimitsOf(route, context.host)),
  };
  const single = (parts: Partial<RouteParts>): RouteChoice => ({
    match,
    routes: [makeRoute({ ...common, ...parts }, [level], context)],
    cumulativeWeights: [1],
  });
  const redirect = route.message('redirect');
  if (redirect !== undefined) return single({ redirect: parseRedirect(redirect, match.path) });
  const direct = route.message('direct_response');
  if (direct !== undefined) return single({ directResponse: parseDirectResponse(direct, context.maxDirectBytes) });
  const action = route.message('route');
  if (action === undefined) {
    return route.fail('route', 'one of route, redirect, direct_response is required');
  }
  refuseUnexecuted(action, 'RouteAction');
  refuseUnexecuted(action.message('max_stream_duration'), 'MaxStreamDuration');
  const rewrite = parseRewrite(action, match.path);
  const weighted = action.message('weighted_clusters');
  if (weighted === undefined) {
    return single({ rewrite, forward: parseForward(route, action, parseClusterName(action), undefined, context) });
  }
  const routes: Route[] = [];
  const cumulativeWeights: number[] = [];
  let total = 0;
  for (const cluster of weighted.messages('clusters')) {
    total += cluster.integer('weight') ?? 0;
    cumulativeWeights.push(total);
    const forward = parseForward(route, action, parseWeightedName(cluster), cluster, context);
    const hostRewrite = parseRewrite(cluster, match.path);
    const both =
      hostRewrite === undefined
        ? rewrite
        : {
            apply(headers: Parameters<typeof hostRewrite.apply>[0]) {
              rewrite?.apply(headers);
              hostRewrite.apply(headers);
            },
          };
    routes.push(
      makeRoute({ ...common, rewrite: both, forward }, [parseLevel(cluster, context.options), level], context),
    );
  }
  if (total === 0) weighted.fail('clusters', 'the sum of weights must be greater than 0');
  return { match, routes, cumulativeWeights };
}

/** The route's own, else (or with them, where the route says so) those of its virtual host. */
function rateLimitsOf(route: Fields, host: Fields): Fields[] {
  const action = route.message('route');
  const own = action?.messages('rate_limits') ?? [];
  const ofHost = host.messages('rate_limits');
  if (own.length === 0) return ofHost;
  return action?.boolean('include_vh_rate_limits') === true ? [...own, ...ofHost] : own;
}

function makeRoute(
  parts: Partial<RouteParts> & Pick<RouteParts, 'name' | 'virtualHostName' | 'metadata' | 'decoratorOperation'>,
  own: readonly RouteLevel[],
  { level, hostLevel, specificWins }: HostContext,
): Route {
  const bySpecificity = [...own, hostLevel, level];
  return new ConfiguredRoute({
    forward: undefined,
    redirect: undefined,
    directResponse: undefined,
    rewrite: undefined,
    ...parts,
    bySpecificity,
    // Envoy runs them from the most to the least specific, so that the least specific wins, unless told otherwise.
    mutationOrder: specificWins ? [...bySpecificity].reverse() : bySpecificity,
  });
}

function parseClusterName(action: Fields): ForwardAction['clusterName'] {
  const cluster = action.string('cluster');
  if (cluster !== undefined && cluster !== '') return () => cluster;
  const header = action.string('cluster_header')?.toLowerCase();
  if (header !== undefined && header !== '') return (headers) => headers.get(header);
  for (const other of ['cluster_specifier_plugin', 'inline_cluster_specifier_plugin']) {
    if (action.has(other)) action.fail(other, 'is not supported');
  }
  return action.fail('cluster', 'one of cluster, cluster_header, weighted_clusters is required');
}

/** Envoy executes no other field of it; their rules hold. @throws {ConfigError} */
function parseHedgePolicy(fields: Fields | undefined): boolean {
  if (fields === undefined) return false;
  fields.integer('initial_requests', 1);
  parseFraction(fields.message('additional_request_chance'));
  return fields.boolean('hedge_on_per_try_timeout') ?? false;
}

function parseWeightedName(cluster: Fields): ForwardAction['clusterName'] {
  const name = cluster.string('name');
  if (name !== undefined && name !== '') return () => name;
  const header = cluster.requiredString('cluster_header').toLowerCase();
  return (headers) => headers.get(header);
}

function parseForward(
  route: Fields,
  action: Fields,
  clusterName: ForwardAction['clusterName'],
  weighted: Fields | undefined,
  { host, table }: HostContext,
): ForwardAction {
  const maxDuration = action.message('max_stream_duration');
  const upgrades = new Map<string, boolean>();
  let terminatesConnect = false;
  let connectHeader: ForwardAction['connectHeader'];
  for (const upgrade of action.messages('upgrade_configs')) {
    const type = upgrade.requiredString('upgrade_type').toLowerCase();
    if (upgrades.has(type)) upgrade.fail('upgrade_type', `"${type}" stands twice`);
    upgrades.set(type, upgrade.boolean('enabled') ?? true);
    const connect = upgrade.message('connect_config');
    if (connect === undefined) continue;
    if (type !== 'connect') upgrade.fail('connect_config', 'is for upgrade_type CONNECT');
    const header = connect.message('proxy_protocol_config');
    if (header !== undefined) connectHeader = buildProxyHeaderConfig(header);
    if (connect.boolean('allow_post') === true) connect.fail('allow_post', 'is not supported: use CONNECT');
    terminatesConnect = true;
  }
  const status = action.oneOf(
    'cluster_not_found_response_code',
    ['SERVICE_UNAVAILABLE', 'NOT_FOUND', 'INTERNAL_SERVER_ERROR'],
    'SERVICE_UNAVAILABLE',
  );
  return {
    clusterName,
    clusterNotFoundStatus: { SERVICE_UNAVAILABLE: 503, NOT_FOUND: 404, INTERNAL_SERVER_ERROR: 500 }[status],
    timeoutMs: action.durationMs('timeout') ?? DEFAULT_TIMEOUT_MS,
    idleTimeoutMs: action.durationMs('idle_timeout'),
    maxStreamDurationMs: maxDuration?.durationMs('max_stream_duration'),
    grpcTimeoutHeaderMaxMs: maxDuration?.durationMs('grpc_timeout_header_max'),
    // max_stream_duration replaces the older field.
    grpcTimeoutMaxMs: maxDuration === undefined ? action.durationMs('max_grpc_timeout') : undefined,
    priority: action.oneOf('priority', ['DEFAULT', 'HIGH'], 'DEFAULT') === 'HIGH' ? 'high' : 'default',
    retryPolicy: parseRetryPolicy(action.message('retry_policy') ?? host.message('retry_policy')),
    hedgeOnPerTryTimeout: parseHedgePolicy(action.message('hedge_policy') ?? host.message('hedge_policy')),
    bufferLimitBytes: route.integer('per_request_buffer_limit_bytes') ?? host.integer('per_request_buffer_limit_bytes'),
    hashPolicy: parseHashPolicies(action.messages('hash_policy')),
    metadataMatch: mergeMetadata(
      parseMetadata(action.message('metadata_match')),
      parseMetadata(weighted?.message('metadata_match')),
    ),
    autoHostRewrite: action.boolean('auto_host_rewrite') ?? false,
    upgradeAllowed: (type) => upgrades.get(type),
    terminatesConnect,
    connectHeader,
    includeAttemptCountInRequest: host.boolean('include_request_attempt_count') ?? false,
    includeAttemptCountInResponse: host.boolean('include_attempt_count_in_response') ?? false,
    includeTimeoutRetryHeader: host.boolean('include_is_timeout_retry_header') ?? false,
    mirrors: parseMirrorPolicies([action, host, table]),
  };
}

function parseDirectResponse(fields: Fields, maxBytes: number): DirectResponseAction {
  refuseUnexecuted(fields, 'DirectResponseAction');
  const status = fields.integer('status', 200, 599);
  if (status === undefined) return fields.fail('status', 'is required');
  const body = inlineText(fields.message('body'), 'bodies') ?? '';
  if (Buffer.byteLength(body) > maxBytes) {
    fields.fail('body', `has ${Buffer.byteLength(body)} bytes; at most ${maxBytes} are accepted`);
  }
  return { status, body };
}

/** filter_metadata of envoy.config.core.v3.Metadata. */
export function parseMetadata(fields: Fields | undefined): Metadata | undefined {
  const metadata = fields?.message('filter_metadata');
  return metadata === undefined ? undefined : (metadata.json as Metadata);
}

function mergeMetadata(base: Metadata | undefined, over: Metadata | undefined): Metadata | undefined {
  if (base === undefined || over === undefined) return base ?? over;
  const merged: Record<string, Record<string, unknown>> = { ...base };
  for (const [namespace, values] of Object.entries(over)) merged[namespace] = { ...merged[namespace], ...values };
  return merged;
}
