/** VirtualService (networking.istio.io): how requests are routed before they reach a service. */
import type { KubeObject } from '../kube_object.ts';
import { checkHost, resolveHost } from './hosts.ts';
import { HTTP_RETRY } from './http_retry.ts';
import { checkL4Rule, TCP_RULE, type TcpRule, TLS_RULE, type TlsRule } from './l4_route.ts';
import type { MeshConfig } from './mesh.ts';
import type { Visibility } from './model.ts';
import {
  type At,
  anything,
  boolean,
  duration,
  fail,
  int32,
  integer,
  list,
  looseText,
  mapOf,
  message,
  number,
  oneOf,
  openMessage,
  port,
  type Read,
  regex,
  type Shape,
  text,
  uint32,
  within,
} from './shape.ts';
import { visibility } from './visibility.ts';

const STRING_MATCH = message({ exact: looseText, prefix: text, regex });
const PERCENT = message({ value: number(0, 100) });
const DESTINATION = message({ host: text, subset: text, port: message({ number: port }) });

const TOKEN = /^:?[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

const headerName: Shape<string> = (value, at) => {
  const name = text(value, at);
  return TOKEN.test(name) ? name : fail(at, `a header name is wanted, got ${JSON.stringify(name)}`);
};

/** Line breaks would let a value end the header and begin another. */
const headerValue: Shape<string> = (value, at) => {
  const content = looseText(value, at);
  return /[\r\n\0]/.test(content) ? fail(at, 'a header value must not contain line breaks or NUL') : content;
};

const headerValues: Shape<ReadonlyMap<string, string>> = (value, at) => {
  const map = mapOf(headerValue)(value, at);
  for (const name of map.keys()) headerName(name, within(at, name));
  return map;
};

const HEADER_OPERATIONS = message({ set: headerValues, add: headerValues, remove: list(headerName) });
const HEADERS = message({ request: HEADER_OPERATIONS, response: HEADER_OPERATIONS });

const HTTP_MATCH = message({
  name: text,
  uri: STRING_MATCH,
  scheme: STRING_MATCH,
  method: STRING_MATCH,
  authority: STRING_MATCH,
  headers: mapOf(STRING_MATCH),
  port,
  sourceLabels: mapOf(looseText),
  gateways: list(text),
  queryParams: mapOf(STRING_MATCH),
  ignoreUriCase: boolean,
  withoutHeaders: mapOf(STRING_MATCH),
  sourceNamespace: text,
  statPrefix: text,
});

const HTTP_ROUTE = message({
  name: text,
  match: list(HTTP_MATCH),
  route: list(message({ destination: DESTINATION, weight: int32, headers: HEADERS })),
  redirect: message({
    uri: text,
    authority: text,
    port,
    derivePort: oneOf('FROM_PROTOCOL_DEFAULT', 'FROM_REQUEST_PORT'),
    scheme: text,
    redirectCode: uint32,
  }),
  directResponse: message({ status: integer(200, 599), body: message({ string: text, bytes: text }) }),
  delegate: message({ name: text, namespace: text }),
  rewrite: message({ uri: text, authority: text, uriRegexRewrite: message({ match: regex, rewrite: text }) }),
  timeout: duration,
  retries: HTTP_RETRY,
  fault: message({
    delay: message({ percent: int32, percentage: PERCENT, fixedDelay: duration, exponentialDelay: duration }),
    abort: message({
      percent: int32,
      percentage: PERCENT,
      httpStatus: integer(200, 599),
      grpcStatus: text,
      http2Error: text,
    }),
  }),
  mirror: DESTINATION,
  mirrors: list(message({ destination: DESTINATION, percentage: PERCENT })),
  mirrorPercent: uint32,
  mirrorPercentage: PERCENT,
  corsPolicy: message({
    allowOrigin: list(text),
    allowOrigins: list(STRING_MATCH),
    allowMethods: list(text),
    allowHeaders: list(text),
    exposeHeaders: list(text),
    maxAge: duration,
    allowCredentials: boolean,
    unmatchedPreflights: oneOf('UNSPECIFIED', 'FORWARD', 'IGNORE'),
  }),
  headers: HEADERS,
});

const VIRTUAL_SERVICE = openMessage({
  spec: message({
    hosts: list(text),
    gateways: list(text),
    http: list(HTTP_ROUTE),
    tls: list(TLS_RULE),
    tcp: list(TCP_RULE),
    exportTo: list(text),
  }),
  status: anything,
});

export type StringMatch = Read<typeof STRING_MATCH>;
export type HttpMatch = Read<typeof HTTP_MATCH>;
export type HttpRoute = Read<typeof HTTP_ROUTE>;
export type Destination = Read<typeof DESTINATION>;
export type HttpRouteDestination = NonNullable<HttpRoute['route']>[number];
export type HeaderOperations = Read<typeof HEADERS>;

export interface VirtualService {
  readonly name: string;
  readonly namespace: string;
  /** Full names; none: it is a delegate. */
  readonly hosts: readonly string[];
  /** `mesh` or `namespace/name`. */
  readonly gateways: readonly string[];
  readonly visibility: Visibility;
  /** Destinations are full names. */
  readonly http: readonly HttpRoute[];
  /** Rules for connections, destinations with full names. */
  readonly tls: readonly TlsRule[];
  readonly tcp: readonly TcpRule[];
  /** Made of Gateway API routes: prefixes match whole segments, and a cluster that is missing answers 500. */
  readonly gatewaySemantics?: boolean;
  readonly object: KubeObject;
}

/** @throws {ConfigError} */
export function parseVirtualService(object: KubeObject, at: At, domain: string, mesh: MeshConfig): VirtualService {
  const { spec } = VIRTUAL_SERVICE(object.json, at);
  if (spec === undefined) fail(at, 'spec is required');
  const { namespace } = object;
  const http = spec.http ?? [];
  if (http.length === 0 && (spec.tls ?? []).length === 0 && (spec.tcp ?? []).length === 0) {
    fail(spec.at, 'at least one of http, tls and tcp is required');
  }
  const isDelegate = (spec.hosts ?? []).length === 0;
  for (const route of http) checkRoute(route, isDelegate);
  const gateways =
    spec.gateways === undefined || spec.gateways.length === 0
      ? ['mesh']
      : spec.gateways.map((name) => qualify(name, namespace));
  (spec.hosts ?? []).forEach((host, index) => {
    const place = within(spec.at, 'hosts', index);
    checkHost(host, place);
    if (host === '*' && gateways.includes('mesh')) {
      fail(place, 'the host "*" is for gateways; for the mesh name a domain, such as "*.example.org"');
    }
  });
  return {
    name: object.name,
    namespace,
    hosts: (spec.hosts ?? []).map((host) => resolveHost(host, namespace, domain)),
    gateways,
    visibility: visibility(spec.exportTo, namespace, mesh.defaultVirtualServiceExportTo),
    http: http.map((route) => resolveDestinations(route, namespace, domain)),
    tls: (spec.tls ?? []).map((rule) => checkL4Rule(rule, 'tls', namespace, domain)),
    tcp: (spec.tcp ?? []).map((rule) => checkL4Rule(rule, 'tcp', namespace, domain)),
    object,
  };
}

/** A gateway's name as `namespace/name`. */
export function qualify(gateway: string, namespace: string): string {
  return gateway === 'mesh' || gateway.includes('/') ? gateway : `${namespace}/${gateway}`;
}

function resolveDestinations(route: HttpRoute, namespace: string, domain: string): HttpRoute {
  const full = (destination: Destination): Destination => ({
    ...destination,
    host: resolveHost(destination.host ?? '', namespace, domain),
  });
  return {
    ...route,
    ...(route.match !== undefined && {
      match: route.match.map((match) =>
        match.gateways === undefined
          ? match
          : { ...match, gateways: match.gateways.map((name) => qualify(name, namespace)) },
      ),
    }),
    ...(route.route !== undefined && {
      route: route.route.map((item) => ({ ...item, destination: full(item.destination as Destination) })),
    }),
    ...(route.mirror !== undefined && { mirror: full(route.mirror) }),
    ...(route.mirrors !== undefined && {
      mirrors: route.mirrors.map((item) =>
        item.destination === undefined ? item : { ...item, destination: full(item.destination) },
      ),
    }),
  };
}

const REDIRECT_CODES: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

function checkRoute(route: HttpRoute, isDelegate: boolean): void {
  const { at } = route;
  const actions = [route.route, route.redirect, route.directResponse, route.delegate].filter(
    (item) => item !== undefined,
  );
  if (actions.length === 0) fail(at, 'one of route, redirect, directResponse and delegate is required');
  if (actions.length > 1) fail(at, 'only one of route, redirect, directResponse and delegate can be set');
  if (isDelegate && route.delegate !== undefined) {
    fail(within(at, 'delegate'), 'a delegate cannot delegate again; give this VirtualService hosts, or a route');
  }
  if (route.delegate !== undefined && (route.delegate.name ?? '') === '') {
    fail(within(at, 'delegate', 'name'), 'a name is required');
  }
  if (route.redirect?.port !== undefined && route.redirect.derivePort !== undefined) {
    fail(route.redirect.at, 'only one of port and derivePort can be set');
  }
  const code = route.redirect?.redirectCode ?? 301;
  if (code !== 0 && !REDIRECT_CODES.has(code)) {
    fail(within(at, 'redirect', 'redirectCode'), `one of 301, 302, 303, 307, 308 is wanted, got ${code}`);
  }
  checkDestinations(route);
  checkMatches(route);
  checkFault(route);
}

function checkDestinations(route: HttpRoute): void {
  const destinations = route.route;
  for (const item of destinations ?? []) {
    if ((item.destination?.host ?? '') === '') fail(within(item.at, 'destination', 'host'), 'a host is required');
    if ((item.weight ?? 0) < 0) fail(within(item.at, 'weight'), `a weight of 0 or more is wanted, got ${item.weight}`);
  }
  if (destinations === undefined) return;
  const place = within(route.at, 'route');
  if (destinations.length === 0) fail(place, 'at least one destination is required');
  if (destinations.length > 1 && destinations.every((item) => (item.weight ?? 0) === 0)) {
    fail(place, 'the weights of the destinations must not all be 0');
  }
}

function checkMatches(route: HttpRoute): void {
  for (const match of route.match ?? []) {
    for (const name of ['uri', 'scheme', 'method', 'authority'] as const) {
      const value = match[name];
      if (value !== undefined) checkString(value, true);
    }
    for (const name of ['headers', 'withoutHeaders', 'queryParams'] as const) {
      for (const value of match[name]?.values() ?? []) checkString(value, false);
    }
  }
  for (const value of route.corsPolicy?.allowOrigins ?? []) checkString(value, true);
}

/** @param required false: an empty match asks for presence */
function checkString(match: StringMatch, required: boolean): void {
  const set = [match.exact, match.prefix, match.regex].filter((item) => item !== undefined);
  if (set.length > 1) fail(match.at, 'only one of exact, prefix and regex can be set');
  if (required && set.length === 0) fail(match.at, 'one of exact, prefix and regex is required');
}

function checkFault(route: HttpRoute): void {
  const { delay, abort } = route.fault ?? {};
  if (delay !== undefined && delay.fixedDelay === undefined) {
    fail(delay.at, 'fixedDelay is required (exponentialDelay is not supported by Istio either)');
  }
  if (abort !== undefined && (abort.httpStatus === undefined) === (abort.grpcStatus === undefined)) {
    fail(abort.at, 'one of httpStatus and grpcStatus is required');
  }
}
