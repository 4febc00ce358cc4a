/** HTTPRoute and GRPCRoute (gateway.networking.k8s.io) as YAML has them, and ReferenceGrant. */
import type { KubeObject } from '../kube_object.ts';
import {
  type At,
  anything,
  boolean,
  duration,
  fail,
  integer,
  list,
  looseText,
  message,
  oneOf,
  openMessage,
  port,
  type Read,
  regex,
  text,
  within,
} from './shape.ts';

const PARENT_REF = message({ group: text, kind: text, namespace: text, name: text, sectionName: text, port });

const BACKEND_FIELDS = { group: text, kind: text, namespace: text, name: text, port } as const;

const HEADER_VALUES = list(message({ name: text, value: looseText }));
const HEADER_FILTER = message({ set: HEADER_VALUES, add: HEADER_VALUES, remove: list(text) });
const PATH_MODIFIER = message({
  type: oneOf('ReplaceFullPath', 'ReplacePrefixMatch'),
  replaceFullPath: text,
  replacePrefixMatch: text,
});

const FILTER = message({
  type: text,
  requestHeaderModifier: HEADER_FILTER,
  responseHeaderModifier: HEADER_FILTER,
  requestMirror: message({
    backendRef: message(BACKEND_FIELDS),
    percent: integer(0, 100),
    fraction: message({ numerator: integer(0, 2 ** 31 - 1), denominator: integer(1, 2 ** 31 - 1) }),
  }),
  requestRedirect: message({
    scheme: oneOf('http', 'https'),
    hostname: text,
    path: PATH_MODIFIER,
    port,
    statusCode: integer(301, 308),
  }),
  urlRewrite: message({ hostname: text, path: PATH_MODIFIER }),
  cors: message({
    allowOrigins: list(text),
    allowCredentials: boolean,
    allowMethods: list(text),
    allowHeaders: list(text),
    exposeHeaders: list(text),
    maxAge: integer(1, 2 ** 31 - 1),
  }),
  extensionRef: anything,
  externalAuth: anything,
});

const BACKEND_REF = message({ ...BACKEND_FIELDS, weight: integer(0, 1_000_000), filters: list(FILTER) });

const VALUE_MATCH = message({ type: oneOf('Exact', 'RegularExpression'), name: text, value: looseText });

const HTTP_RULE = message({
  name: text,
  matches: list(
    message({
      path: message({ type: oneOf('Exact', 'PathPrefix', 'RegularExpression'), value: text }),
      headers: list(VALUE_MATCH),
      queryParams: list(VALUE_MATCH),
      method: text,
    }),
  ),
  filters: list(FILTER),
  backendRefs: list(BACKEND_REF),
  timeouts: message({ request: duration, backendRequest: duration }),
  retry: message({ codes: list(integer(400, 599)), attempts: integer(0, 2 ** 31 - 1), backoff: duration }),
  sessionPersistence: anything,
});

const GRPC_RULE = message({
  name: text,
  matches: list(
    message({
      method: message({ type: oneOf('Exact', 'RegularExpression'), service: text, method: text }),
      headers: list(VALUE_MATCH),
    }),
  ),
  filters: list(FILTER),
  backendRefs: list(BACKEND_REF),
  sessionPersistence: anything,
});

const ROUTE_FIELDS = { parentRefs: list(PARENT_REF), hostnames: list(text), useDefaultGateways: text } as const;
const HTTP_ROUTE = openMessage({ spec: message({ ...ROUTE_FIELDS, rules: list(HTTP_RULE) }) });
const GRPC_ROUTE = openMessage({ spec: message({ ...ROUTE_FIELDS, rules: list(GRPC_RULE) }) });

const REFERENCE_GRANT = openMessage({
  spec: message({
    from: list(message({ group: text, kind: text, namespace: text })),
    to: list(message({ group: text, kind: text, name: text })),
  }),
});

export type ParentRef = Read<typeof PARENT_REF>;
export type BackendRef = Read<typeof BACKEND_REF>;
export type RouteFilter = Read<typeof FILTER>;
export type HttpRule = Read<typeof HTTP_RULE>;
export type GrpcRule = Read<typeof GRPC_RULE>;

export interface GatewayRoute {
  readonly kind: 'HTTPRoute' | 'GRPCRoute';
  readonly parents: readonly ParentRef[];
  /** Rules of an HTTPRoute, else empty. */
  readonly http: readonly HttpRule[];
  /** Rules of a GRPCRoute, else empty. */
  readonly grpc: readonly GrpcRule[];
  readonly object: KubeObject;
}

/** Which objects of other namespaces may be referred to. */
export interface ReferenceGrant {
  /** Whose objects it opens. */
  readonly namespace: string;
  readonly from: readonly { readonly group: string; readonly kind: string; readonly namespace: string }[];
  /** `name` '': all of the kind. */
  readonly to: readonly { readonly group: string; readonly kind: string; readonly name: string }[];
}

/** @throws {ConfigError} */
export function parseHttpRoute(object: KubeObject, at: At): GatewayRoute {
  const { spec } = HTTP_ROUTE(object.json, at);
  if (spec === undefined) fail(at, 'spec is required');
  for (const match of (spec.rules ?? []).flatMap((rule) => rule.matches ?? [])) {
    checkPatterns([match.path, ...(match.headers ?? []), ...(match.queryParams ?? [])]);
  }
  return { kind: 'HTTPRoute', parents: spec.parentRefs ?? [], http: spec.rules ?? [], grpc: [], object };
}

/** @throws {ConfigError} */
export function parseGrpcRoute(object: KubeObject, at: At): GatewayRoute {
  const { spec } = GRPC_ROUTE(object.json, at);
  if (spec === undefined) fail(at, 'spec is required');
  for (const { method, headers } of (spec.rules ?? []).flatMap((rule) => rule.matches ?? [])) {
    checkPatterns(headers ?? []);
    if (method?.type === 'RegularExpression') {
      for (const field of ['service', 'method'] as const) {
        if (method[field] !== undefined) regex(method[field], within(method.at, field));
      }
    }
  }
  return { kind: 'GRPCRoute', parents: spec.parentRefs ?? [], http: [], grpc: spec.rules ?? [], object };
}

interface Pattern {
  readonly type?: string;
  readonly value?: string;
  readonly at: At;
}

function checkPatterns(patterns: readonly (Pattern | undefined)[]): void {
  for (const pattern of patterns) {
    if (pattern?.type === 'RegularExpression') regex(pattern.value ?? '', within(pattern.at, 'value'));
  }
}

/** @throws {ConfigError} */
export function parseReferenceGrant(object: KubeObject, at: At): ReferenceGrant {
  const { spec } = REFERENCE_GRANT(object.json, at);
  if (spec === undefined) fail(at, 'spec is required');
  return {
    namespace: object.namespace,
    from: (spec.from ?? []).map((item) => ({
      group: item.group ?? '',
      kind: item.kind ?? '',
      namespace: item.namespace ?? '',
    })),
    to: (spec.to ?? []).map((item) => ({ group: item.group ?? '', kind: item.kind ?? '', name: item.name ?? '' })),
  };
}
