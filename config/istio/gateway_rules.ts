/**
 * HTTPRoute and GRPCRoute of services (GAMMA) as VirtualServices, which is what istiod makes of them
 * (istio/istio: pilot/pkg/config/kube/gateway/conversion.go).
 */
import type {
  BackendRef,
  GatewayRoute,
  GrpcRule,
  HttpRule,
  ParentRef,
  ReferenceGrant,
  RouteFilter,
} from './gateway_route.ts';
import type { MeshService, Visibility } from './model.ts';
import type { At } from './shape.ts';
import type {
  Destination,
  HttpMatch,
  HttpRoute,
  HttpRouteDestination,
  StringMatch,
  VirtualService,
} from './virtual_service.ts';

const EVERYBODY: Visibility = new Set(['*']);
const GATEWAY_API = 'gateway.networking.k8s.io';
const NETWORKING = 'networking.istio.io';
const DEFAULT_RETRY_ON = 'connect-failure,refused-stream,unavailable,cancelled';

export interface GatewayRules {
  readonly virtualServices: readonly VirtualService[];
  /** Sentences, each with its place. */
  readonly warnings: readonly string[];
}

/** All routes of one parent service, port and audience, together. */
interface Group {
  readonly host: string;
  readonly port: number | undefined;
  readonly visibility: Visibility;
  readonly first: GatewayRoute;
  readonly http: HttpRoute[];
}

/** @param routes oldest first */
export function gatewayRules(
  routes: readonly GatewayRoute[],
  grants: readonly ReferenceGrant[],
  services: readonly MeshService[],
  domain: string,
): GatewayRules {
  const conversion = new Conversion(grants, services, domain);
  const groups = new Map<string, Group>();
  for (const route of routes) {
    for (const parent of route.parents) conversion.attach(route, parent, groups);
  }
  return {
    virtualServices: [...groups.values()].map(virtualService),
    warnings: conversion.warnings,
  };
}

function virtualService({ host, port, visibility, first, http }: Group): VirtualService {
  const { namespace } = first.object;
  return {
    name: port === undefined ? `${namespace}~${host}` : `${namespace}~${port}~${host}`,
    namespace,
    hosts: [host],
    gateways: ['mesh'],
    visibility,
    http: [...http].sort(bySpecificity),
    tls: [],
    tcp: [],
    gatewaySemantics: true,
    object: first.object,
  };
}

class Conversion {
  readonly warnings: string[] = [];
  readonly #grants: readonly ReferenceGrant[];
  readonly #byHost: ReadonlyMap<string, MeshService>;
  readonly #domain: string;

  constructor(grants: readonly ReferenceGrant[], services: readonly MeshService[], domain: string) {
    this.#grants = grants;
    this.#byHost = new Map(services.map((service) => [service.host, service]));
    this.#domain = domain;
  }

  /** Adds the route's rules to the group of a parent; parents that are Gateways are not the sidecar's. */
  attach(route: GatewayRoute, parent: ParentRef, groups: Map<string, Group>): void {
    const { namespace } = route.object;
    const group = parent.group ?? GATEWAY_API;
    const kind = parent.kind ?? 'Gateway';
    const isService = group === '' && kind === 'Service';
    if (!isService && !(group === NETWORKING && kind === 'ServiceEntry')) return;
    const of = parent.namespace ?? namespace;
    const hosts = isService
      ? [`${parent.name ?? ''}.${of}.svc.${this.#domain}`]
      : [...this.#byHost.values()]
          .filter(
            ({ object }) => object.kind === 'ServiceEntry' && object.name === parent.name && object.namespace === of,
          )
          .map(({ host }) => host);
    if (hosts.length === 0 || !hosts.every((host) => this.#byHost.has(host))) {
      this.#warn(parent.at, `no ${kind} "${of}/${parent.name ?? ''}" exists, the route does nothing there`);
      return;
    }
    // A route beside its service is for all clients; one of another namespace for the clients of that namespace.
    const visibility = of === namespace ? EVERYBODY : new Set([namespace]);
    for (const host of hosts) {
      const key = `${[...visibility].join()} ${host} ${parent.port ?? ''}`;
      let found = groups.get(key);
      if (found === undefined) {
        found = { host, port: parent.port, visibility, first: route, http: [] };
        groups.set(key, found);
      }
      found.http.push(...this.#routes(route, parent.port));
    }
  }

  #routes(route: GatewayRoute, port: number | undefined): HttpRoute[] {
    const { name, namespace } = route.object;
    return [
      ...route.http.flatMap((rule, index) => {
        const matches = rule.matches === undefined || rule.matches.length === 0 ? [undefined] : rule.matches;
        const shared = this.#httpRule(route, rule, rule.name ?? `${namespace}.${name}.${index}`);
        return matches.map((match) => ({
          ...shared,
          ...matchList(rule.at, port, match === undefined ? {} : httpMatch(match)),
        }));
      }),
      ...route.grpc.flatMap((rule, index) => {
        const matches = rule.matches === undefined || rule.matches.length === 0 ? [undefined] : rule.matches;
        const shared = this.#action(route, rule, rule.name ?? `${namespace}.${name}.${index}`);
        return matches.map((match) => ({
          ...shared,
          ...matchList(rule.at, port, match === undefined ? {} : grpcMatch(match)),
        }));
      }),
    ];
  }

  #httpRule(route: GatewayRoute, rule: HttpRule, name: string): HttpRoute {
    const base = this.#action(route, rule, name);
    const { timeouts, retry, at } = rule;
    const attempt = timeouts?.backendRequest;
    const perTry = attempt !== undefined && attempt > 0 ? attempt : undefined;
    const request = timeouts?.request ?? 0;
    // Without retries the time for one try is the time for all.
    const timeout = retry === undefined && perTry !== undefined ? perTry : request;
    return {
      ...base,
      ...(timeout > 0 && { timeout }),
      ...(retry !== undefined && {
        retries: {
          at: retry.at ?? at,
          attempts: retry.attempts ?? 2,
          retryOn: [DEFAULT_RETRY_ON, ...(retry.codes ?? [])].join(','),
          ...(retry.backoff !== undefined && { backoff: retry.backoff }),
          ...(perTry !== undefined && { perTryTimeout: perTry }),
        },
      }),
    };
  }

  /** Filters and backends: what both kinds have. */
  #action(route: GatewayRoute, rule: HttpRule | GrpcRule, name: string): HttpRoute {
    const { at } = rule;
    if (rule.sessionPersistence !== undefined)
      this.#warn(at, 'sessionPersistence is not implemented, as in Istio; it is left out');
    const out = new FilterFields(at);
    for (const filter of rule.filters ?? []) {
      if (filter.type === 'RequestMirror') {
        const destination = this.#destination(route, filter.requestMirror?.backendRef as BackendRef | undefined);
        if (destination === undefined) {
          this.#warn(filter.at, 'the mirror leads to no service that may be used, it is left out');
        } else out.mirror(filter, destination);
      } else if (!out.add(filter, false)) {
        this.#warn(filter.at, `filter type "${filter.type ?? ''}" is not supported; the rule answers 500`);
        return { at, name, directResponse: { at, status: 500 } };
      }
    }
    if (out.redirects) return { at, name, ...out.fields };
    const backends = rule.backendRefs ?? [];
    const total = backends.reduce((sum, item) => sum + (item.weight ?? 1), 0);
    if (backends.length === 0 || total === 0) return { at, name, directResponse: { at, status: 500 } };
    return { at, name, ...out.fields, route: backends.map((item) => this.#backend(route, item)) };
  }

  #backend(route: GatewayRoute, item: BackendRef): HttpRouteDestination {
    const { at } = item;
    const destination = this.#destination(route, item);
    if (destination === undefined) {
      // Its share of the requests gets 500: the cluster does not exist.
      this.#warn(
        at,
        `backend "${item.namespace ?? route.object.namespace}/${item.name ?? ''}" cannot be used; its share answers 500`,
      );
    }
    const own = new FilterFields(at);
    for (const filter of item.filters ?? []) {
      if (!own.add(filter, true))
        this.#warn(filter.at, `filter type "${filter.type ?? ''}" is not supported on a backend, it is left out`);
    }
    const { headers } = own.fields;
    return {
      at,
      destination: destination ?? { at, host: 'UnknownService' },
      weight: item.weight ?? 1,
      ...(headers !== undefined && { headers }),
    };
  }

  /** undefined: it does not exist, is no Service, or is in another namespace without a grant. */
  #destination(route: GatewayRoute, ref: BackendRef | undefined): Destination | undefined {
    if (ref?.name === undefined) return undefined;
    const { namespace } = route.object;
    const of = ref.namespace ?? namespace;
    const group = ref.group ?? '';
    const kind = ref.kind ?? 'Service';
    if (of !== namespace && !this.#isGranted(route, of, group, kind, ref.name)) return undefined;
    const host =
      group === '' && kind === 'Service'
        ? `${ref.name}.${of}.svc.${this.#domain}`
        : group === NETWORKING && kind === 'Hostname'
          ? ref.name
          : undefined;
    if (host === undefined || !this.#byHost.has(host) || ref.port === undefined) return undefined;
    return { at: ref.at, host, port: { at: ref.at, number: ref.port } };
  }

  #isGranted(route: GatewayRoute, namespace: string, group: string, kind: string, name: string): boolean {
    return this.#grants.some(
      (grant) =>
        grant.namespace === namespace &&
        grant.from.some(
          (from) => from.group === GATEWAY_API && from.kind === route.kind && from.namespace === route.object.namespace,
        ) &&
        grant.to.some((to) => to.group === group && to.kind === kind && (to.name === '' || to.name === name)),
    );
  }

  #warn(at: At, sentence: string): void {
    this.warnings.push(`${at.object.source.locate(at.path)}: ${sentence}.`);
  }
}

type Writable<T> = { -readonly [K in keyof T]: T[K] };

/** Gathers filters into the fields of a VirtualService's rule. */
class FilterFields {
  readonly fields: Partial<Writable<HttpRoute>> = {};
  redirects = false;
  readonly #at: At;

  constructor(at: At) {
    this.#at = at;
  }

  mirror(filter: RouteFilter, destination: Destination): void {
    const { percent, fraction } = filter.requestMirror ?? {};
    const share =
      percent ??
      (fraction === undefined ? undefined : (100 * (fraction.numerator ?? 0)) / (fraction.denominator ?? 100));
    const { at } = filter;
    this.fields.mirrors = [
      ...(this.fields.mirrors ?? []),
      { at, destination, ...(share !== undefined && { percentage: { at, value: share } }) },
    ];
  }

  /** @returns false: the filter is unknown, or cannot stand here */
  add(filter: RouteFilter, onBackend: boolean): boolean {
    const { at } = filter;
    switch (filter.type) {
      case 'RequestHeaderModifier':
      case 'ResponseHeaderModifier': {
        const request = filter.type === 'RequestHeaderModifier';
        const given = request ? filter.requestHeaderModifier : filter.responseHeaderModifier;
        if (given === undefined) return false;
        const operations = {
          at,
          ...(given.set !== undefined && { set: pairs(given.set) }),
          ...(given.add !== undefined && { add: pairs(given.add) }),
          ...(given.remove !== undefined && { remove: given.remove }),
        };
        this.fields.headers = {
          at: this.#at,
          ...this.fields.headers,
          ...(request ? { request: operations } : { response: operations }),
        };
        return true;
      }
      case 'RequestRedirect':
        if (onBackend || filter.requestRedirect === undefined) return false;
        this.redirects = true;
        this.fields.redirect = redirectOf(filter.requestRedirect);
        return true;
      case 'URLRewrite':
        if (onBackend || filter.urlRewrite === undefined) return false;
        this.fields.rewrite = rewriteOf(filter.urlRewrite);
        return true;
      case 'CORS': {
        if (onBackend || filter.cors === undefined) return false;
        const { allowOrigins = [], maxAge = 5, ...rest } = filter.cors;
        this.fields.corsPolicy = {
          ...rest,
          allowOrigins: allowOrigins.map((origin) => originMatch(origin, at)),
          maxAge: maxAge * 1000,
        };
        return true;
      }
      default:
        return false;
    }
  }
}

function pairs(list: readonly { readonly name?: string; readonly value?: string }[]): ReadonlyMap<string, string> {
  return new Map(list.map(({ name = '', value = '' }) => [name, value]));
}

/** `*` anywhere in an origin stands for anything. */
function originMatch(origin: string, at: At): StringMatch {
  if (!origin.includes('*')) return { at, exact: origin };
  const escaped = origin.replaceAll(/[.+?^${}()|[\]\\]/g, String.raw`\$&`).replaceAll('*', '.*');
  return { at, regex: escaped };
}

function redirectOf(given: NonNullable<RouteFilter['requestRedirect']>): NonNullable<HttpRoute['redirect']> {
  const { at, path } = given;
  const uri =
    path?.type === 'ReplacePrefixMatch' ? `%PREFIX()%${path.replacePrefixMatch ?? ''}` : (path?.replaceFullPath ?? '');
  return {
    at,
    ...(given.scheme !== undefined && { scheme: given.scheme }),
    ...(given.hostname !== undefined && { authority: given.hostname }),
    ...(given.port !== undefined
      ? { port: given.port }
      : given.scheme === undefined && { derivePort: 'FROM_REQUEST_PORT' }),
    ...(uri !== '' && { uri }),
    redirectCode: given.statusCode ?? 302,
  };
}

function rewriteOf(given: NonNullable<RouteFilter['urlRewrite']>): NonNullable<HttpRoute['rewrite']> {
  const { at, path, hostname } = given;
  const authority = hostname === undefined ? {} : { authority: hostname };
  if (path?.type === 'ReplaceFullPath') {
    const full = path.replaceFullPath ?? '/';
    return { at, ...authority, uriRegexRewrite: { at, match: '/.*', rewrite: full.replaceAll('\\', '\\\\') } };
  }
  // `/` takes the prefix away; what follows it begins with a slash already.
  const prefix = path?.replacePrefixMatch?.replace(/\/$/, '');
  return { at, ...authority, ...(prefix !== undefined && { uri: prefix === '' ? '/' : prefix }) };
}

function matchList(
  at: At,
  port: number | undefined,
  match: Partial<HttpMatch>,
): { readonly match: readonly HttpMatch[] } {
  return { match: [{ at, ...match, ...(port !== undefined && { port }) }] };
}

function httpMatch(match: NonNullable<HttpRule['matches']>[number]): Partial<HttpMatch> {
  const { path, method, headers, queryParams, at } = match;
  const headerMap = valueMatches(headers, true);
  const queryMap = valueMatches(queryParams, false);
  return {
    ...uriMatch(path?.type ?? 'PathPrefix', path?.value ?? '/', path?.at ?? at),
    ...(method !== undefined && { method: { at, exact: method } }),
    ...(headerMap !== undefined && { headers: headerMap }),
    ...(queryMap !== undefined && { queryParams: queryMap }),
  };
}

/** A prefix matches whole segments: `/foo` takes `/foo` and `/foo/bar`, not `/foobar`. */
function uriMatch(type: string, value: string, at: At): Partial<HttpMatch> {
  if (type === 'Exact') return { uri: { at, exact: value } };
  if (type === 'RegularExpression') return { uri: { at, regex: value } };
  const prefix = value.replace(/\/$/, '');
  return prefix === '' ? {} : { uri: { at, prefix } };
}

function grpcMatch(match: NonNullable<GrpcRule['matches']>[number]): Partial<HttpMatch> {
  const { method, headers, at } = match;
  const headerMap = valueMatches(headers, true);
  return { ...grpcPath(method, at), ...(headerMap !== undefined && { headers: headerMap }) };
}

function grpcPath(method: NonNullable<GrpcRule['matches']>[number]['method'], at: At): Partial<HttpMatch> {
  if (method === undefined) return {};
  const { service, method: name } = method;
  if (method.type === 'RegularExpression') {
    return { uri: { at, regex: `/${service ?? '[^/]+'}/${name ?? '[^/]+'}` } };
  }
  if (service === undefined) return name === undefined ? {} : { uri: { at, regex: `/[^/]+/${escapeRegex(name)}` } };
  return { uri: name === undefined ? { at, prefix: `/${service}` } : { at, exact: `/${service}/${name}` } };
}

function escapeRegex(literal: string): string {
  return literal.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
}

/** By name; of entries with one name the first holds. */
function valueMatches(
  list: NonNullable<HttpRule['matches']>[number]['headers'],
  ignoreCase: boolean,
): ReadonlyMap<string, StringMatch> | undefined {
  if (list === undefined || list.length === 0) return undefined;
  const map = new Map<string, StringMatch>();
  for (const { name = '', value = '', type, at } of list) {
    const key = ignoreCase ? name.toLowerCase() : name;
    if (!map.has(key)) map.set(key, type === 'RegularExpression' ? { at, regex: value } : { at, exact: value });
  }
  return map;
}

/** Exact before prefix before regular expression, then longer, then with a method, more headers, more parameters. */
function bySpecificity(a: HttpRoute, b: HttpRoute): number {
  const x = a.match?.[0];
  const y = b.match?.[0];
  return (
    rank(y) - rank(x) ||
    length(y) - length(x) ||
    Number(y?.method !== undefined) - Number(x?.method !== undefined) ||
    (y?.headers?.size ?? 0) - (x?.headers?.size ?? 0) ||
    (y?.queryParams?.size ?? 0) - (x?.queryParams?.size ?? 0)
  );
}

function rank(match: HttpMatch | undefined): number {
  const uri = match?.uri;
  return uri?.exact !== undefined ? 3 : uri?.prefix !== undefined ? 2 : uri?.regex !== undefined ? 1 : 0;
}

function length(match: HttpMatch | undefined): number {
  const uri = match?.uri;
  return (uri?.exact ?? uri?.prefix ?? uri?.regex ?? '').length;
}
