/** One http rule of a VirtualService as Envoy routes (istio/istio: pilot/pkg/networking/core/route/route.go). */
import type { Json } from '../resources.ts';
import type { CompileContext } from './context.ts';
import { type ConsistentHash, destinationHash } from './destination_rule.ts';
import { seconds } from './envoy_json.ts';
import { HeaderChanges } from './header_operations.ts';
import { type HttpRetry, retryPolicy } from './http_retry.ts';
import { selects } from './model.ts';
import { outboundClusterName } from './cluster_names.ts';
import { configPath } from './outbound_cluster.ts';
import { millionths, perFilterConfig } from './route_filters.ts';
import { describePath, isCatchAll, routeMatch } from './route_match.ts';
import type { Destination, HttpMatch, HttpRoute, HttpRouteDestination, VirtualService } from './virtual_service.ts';

/** All routes of a VirtualService on a port, first match first; empty: none applies to this client and port. */
export function virtualServiceRoutes(context: CompileContext, service: VirtualService, port: number): Json[] {
  const out: Json[] = [];
  for (const rule of service.http) {
    for (const match of rule.match === undefined || rule.match.length === 0 ? [undefined] : rule.match) {
      if (match !== undefined && !applies(context, match, port)) continue;
      const route = httpRoute(context, service, rule, match, port);
      out.push(route);
      if (isCatchAll(route['match'] as Json)) return out;
    }
  }
  return out;
}

/** What is known before a request comes: the port, and whose sidecar this is. */
function applies({ client }: CompileContext, match: HttpMatch, port: number): boolean {
  if (match.port !== undefined && match.port !== port) return false;
  if (match.gateways !== undefined && match.gateways.length > 0) return match.gateways.includes('mesh');
  if (match.sourceLabels !== undefined && !selects(match.sourceLabels, client.labels)) return false;
  const namespace = match.sourceNamespace ?? '';
  return namespace === '' || namespace === client.namespace;
}

function httpRoute(
  context: CompileContext,
  service: VirtualService,
  rule: HttpRoute,
  match: HttpMatch | undefined,
  port: number,
): Json {
  const name = `${rule.name ?? ''}${(match?.name ?? '') === '' ? '' : `.${match?.name}`}`;
  const changes = new HeaderChanges();
  changes.add(rule.headers);
  const matcher = routeMatch(match, service.gatewaySemantics);
  const action = routeAction(context, rule, port, changes, service.gatewaySemantics === true);
  const filters = perFilterConfig(rule);
  return {
    ...(name !== '' && { name }),
    match: matcher,
    ...action,
    ...((match?.statPrefix ?? '') !== '' && { stat_prefix: match?.statPrefix }),
    metadata: {
      filter_metadata: { istio: { config: configPath('virtual-service', service.namespace, service.name) } },
    },
    decorator: { operation: operation(action, matcher, service, port) },
    ...(filters !== undefined && { typed_per_filter_config: filters }),
    ...changes.fields(),
  };
}

/** One of redirect, direct_response and route. */
function routeAction(
  context: CompileContext,
  rule: HttpRoute,
  port: number,
  changes: HeaderChanges,
  gateway: boolean,
): Json {
  if (rule.redirect !== undefined) return { redirect: redirect(rule.redirect, port) };
  if (rule.directResponse !== undefined) return { direct_response: directResponse(rule.directResponse) };
  const route = forward(context, rule, port, changes);
  if (!gateway) return { route };
  return { route: { ...route, ...prefixRemoval(rule), cluster_not_found_response_code: 'INTERNAL_SERVER_ERROR' } };
}

function operation(action: Json, match: Json, service: VirtualService, port: number): string {
  const cluster = (action['route'] as Json | undefined)?.['cluster'];
  const path = describePath(match);
  // With several clusters the destination is not known yet: the VirtualService's name stands for it.
  if (typeof cluster !== 'string') return `${service.name}:${port}${path}`;
  const [, number, , host] = cluster.split('|');
  return `${host}:${number}${path}`;
}

function forward(context: CompileContext, rule: HttpRoute, port: number, changes: HeaderChanges): Json {
  const destinations = rule.route ?? [];
  const hashes = destinations.map((item) => hashOf(context, item));
  // Weight 0 among several gets nothing; alone, the weight does not matter.
  const single = destinations.length === 1 ? (destinations[0] as HttpRouteDestination) : undefined;
  const weighted = single === undefined ? destinations.filter((item) => (item.weight ?? 0) > 0) : [];
  const ofRule = rule.rewrite?.authority ?? '';
  if (ofRule !== '') changes.authority = ofRule;
  if (single !== undefined) changes.add(single.headers);
  const policies = destinations.flatMap((item, index) => {
    const hash = hashes[index];
    return hash !== undefined && (single !== undefined || weighted.includes(item)) ? [hashPolicy(hash)] : [];
  });
  const retry = retryPolicy(
    rule.retries ?? context.mesh.defaultHttpRetry,
    single !== undefined && hashes[0] !== undefined,
  );
  const mirrors = mirrorPolicies(context, rule, port);
  const timeout = seconds(rule.timeout ?? 0);
  return {
    ...(single !== undefined
      ? { cluster: clusterOf(context, single.destination as Destination, port) }
      : { weighted_clusters: { clusters: weighted.map((item) => weightedCluster(context, item, port)) } }),
    ...rewriteFields(rule),
    ...(changes.authority !== '' && { host_rewrite_literal: changes.authority }),
    timeout,
    ...(retry !== undefined && { retry_policy: retry }),
    ...(policies.length > 0 && { hash_policy: policies }),
    ...(mirrors.length > 0 && { request_mirror_policies: mirrors }),
    // grpc-timeout is honoured up to the route's own timeout.
    max_grpc_timeout: timeout,
  };
}

/** `/` for a prefix of whole segments: `/foo/bar` becomes `/bar`, `/foo` becomes `/`. */
function prefixRemoval({ rewrite, match }: HttpRoute): Json {
  const prefix = match?.[0]?.uri?.prefix;
  if (rewrite?.uri !== '/' || prefix === undefined) return {};
  const escaped = prefix.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
  const pattern = { regex: `^${escaped}(/?)(.*)` };
  return { prefix_rewrite: undefined, regex_rewrite: { pattern, substitution: String.raw`/\2` } };
}

function rewriteFields({ rewrite }: HttpRoute): Json {
  const regex = rewrite?.uriRegexRewrite;
  if (regex !== undefined) {
    return { regex_rewrite: { pattern: { regex: regex.match ?? '' }, substitution: regex.rewrite ?? '' } };
  }
  return (rewrite?.uri ?? '') === '' ? {} : { prefix_rewrite: rewrite?.uri };
}

/** An unknown subset or host makes the name of a cluster that does not exist: 503 with flag NC, as Istio does. */
function clusterOf(context: CompileContext, destination: Destination, port: number): string {
  const named = destination.host ?? '';
  const service = context.byHost.get(named);
  const target = service?.resolution === 'alias' ? context.byHost.get(service.externalName) : service;
  const only = target?.ports.length === 1 ? target.ports[0]?.number : undefined;
  return outboundClusterName(destination.port?.number ?? only ?? port, destination.subset ?? '', target?.host ?? named);
}

function weightedCluster(context: CompileContext, item: HttpRouteDestination, port: number): Json {
  const changes = new HeaderChanges();
  changes.add(item.headers);
  return {
    name: clusterOf(context, item.destination as Destination, port),
    weight: item.weight ?? 0,
    ...changes.fields(),
    ...(changes.authority !== '' && { host_rewrite_literal: changes.authority }),
  };
}

function mirrorPolicies(context: CompileContext, rule: HttpRoute, port: number): Json[] {
  const out: Json[] = [];
  if (rule.mirror !== undefined) {
    const share =
      rule.mirrorPercentage !== undefined
        ? millionths(rule.mirrorPercentage.value ?? 0)
        : { numerator: rule.mirrorPercent ?? 100 };
    if (share['numerator'] !== 0) out.push(mirrorPolicy(context, rule.mirror, port, share));
  }
  for (const { destination, percentage } of rule.mirrors ?? []) {
    const share = percentage === undefined ? { numerator: 100 } : millionths(percentage.value ?? 0);
    if (destination !== undefined && share['numerator'] !== 0)
      out.push(mirrorPolicy(context, destination, port, share));
  }
  return out;
}

function mirrorPolicy(context: CompileContext, destination: Destination, port: number, share: Json): Json {
  return {
    cluster: clusterOf(context, destination, port),
    runtime_fraction: { default_value: share },
    trace_sampled: false,
    disable_shadow_host_suffix_append: true,
  };
}

const REDIRECT_CODES: Readonly<Record<number, string>> = {
  302: 'FOUND',
  303: 'SEE_OTHER',
  307: 'TEMPORARY_REDIRECT',
  308: 'PERMANENT_REDIRECT',
};

const PREFIX = '%PREFIX()%';

function redirect(rule: NonNullable<HttpRoute['redirect']>, port: number): Json {
  const uri = rule.uri ?? '';
  const scheme = (rule.scheme ?? '') === '' ? undefined : rule.scheme;
  const wanted = rule.port ?? (rule.derivePort === 'FROM_REQUEST_PORT' ? port : undefined);
  // A port that the scheme implies is not written.
  const isDefault = wanted === (scheme === 'https' ? 443 : 80) && (scheme ?? 'http').startsWith('http');
  const code = REDIRECT_CODES[rule.redirectCode ?? 301];
  return {
    ...(scheme !== undefined && { scheme_redirect: scheme }),
    ...((rule.authority ?? '') !== '' && { host_redirect: rule.authority }),
    ...(wanted !== undefined && !isDefault && { port_redirect: wanted }),
    ...(uri.startsWith(PREFIX) ? { prefix_rewrite: uri.slice(PREFIX.length) } : { path_redirect: uri }),
    ...(code !== undefined && { response_code: code }),
  };
}

function directResponse(rule: NonNullable<HttpRoute['directResponse']>): Json {
  const { string, bytes } = rule.body ?? {};
  return {
    ...(rule.status !== undefined && { status: rule.status }),
    ...(string !== undefined && { body: { inline_string: string } }),
    ...(bytes !== undefined && { body: { inline_bytes: bytes } }),
  };
}

function hashOf(context: CompileContext, { destination }: HttpRouteDestination): ConsistentHash | undefined {
  return destinationHash(context.rule(destination?.host ?? ''), destination?.subset ?? '', destination?.port?.number);
}

/** How a route computes the hash for a consistent-hash cluster. */
export function hashPolicy(hash: ConsistentHash): Json {
  if (hash.httpHeaderName !== undefined) return { header: { header_name: hash.httpHeaderName } };
  if (hash.httpQueryParameterName !== undefined) return { query_parameter: { name: hash.httpQueryParameterName } };
  if (hash.useSourceIp !== undefined) return { connection_properties: { source_ip: hash.useSourceIp } };
  const cookie = hash.httpCookie;
  return {
    cookie: {
      name: cookie?.name ?? '',
      ...(cookie?.ttl !== undefined && { ttl: seconds(cookie.ttl) }),
      ...((cookie?.path ?? '') !== '' && { path: cookie?.path }),
      ...(cookie?.attributes !== undefined && {
        attributes: cookie.attributes.map(({ name, value }) => ({ name: name ?? '', value: value ?? '' })),
      }),
    },
  };
}

/** The route of a service port without a VirtualService. */
export function defaultRoute(
  host: string,
  port: number,
  mesh: HttpRetry | undefined,
  hash: ConsistentHash | undefined,
): Json {
  const retry = retryPolicy(mesh, false);
  return {
    name: 'default',
    match: { prefix: '/' },
    route: {
      cluster: outboundClusterName(port, '', host),
      timeout: '0s',
      ...(retry !== undefined && { retry_policy: retry }),
      ...(hash !== undefined && { hash_policy: [hashPolicy(hash)] }),
      max_grpc_timeout: '0s',
    },
    decorator: { operation: `${host}:${port}/*` },
  };
}
