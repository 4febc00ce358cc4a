/** MeshConfig.extensionProviders that authorize: envoyExtAuthzHttp and envoyExtAuthzGrpc. Source: istio/istio pilot/pkg/security/authz/builder/extauthz.go. */
import { STATUS_CODES } from '../../proxy/http/status_codes.ts';
import type { Json } from '../resources.ts';
import { stringMatcher } from './authorization_matchers.ts';
import { extension, seconds } from './envoy_json.ts';
import {
  boolean,
  duration,
  fail,
  list,
  looseText,
  mapOf,
  openMessage,
  port,
  type Read,
  text,
  uint32,
  within,
} from './shape.ts';

const BODY = openMessage({ maxRequestBytes: uint32, allowPartialMessage: boolean, packAsBytes: boolean });

const COMMON = {
  service: text,
  port,
  timeout: duration,
  failOpen: boolean,
  clearRouteCache: boolean,
  statusOnError: looseText,
  includeRequestBodyInCheck: BODY,
};

export const EXT_AUTHZ_HTTP = openMessage({
  ...COMMON,
  pathPrefix: text,
  includeHeadersInCheck: list(text),
  includeRequestHeadersInCheck: list(text),
  includeAdditionalHeadersInCheck: mapOf(looseText),
  headersToUpstreamOnAllow: list(text),
  headersToDownstreamOnDeny: list(text),
  headersToDownstreamOnAllow: list(text),
});
export const EXT_AUTHZ_GRPC = openMessage(COMMON);

/** What MeshConfig says of one provider; other kinds leave both unset. */
export interface AuthorizerSettings {
  readonly name?: string;
  readonly envoyExtAuthzHttp?: Read<typeof EXT_AUTHZ_HTTP>;
  readonly envoyExtAuthzGrpc?: Read<typeof EXT_AUTHZ_GRPC>;
}

/** A provider as filters that ask it. `prefix`: of the policies that are its affair. */
export interface Authorizer {
  http(prefix: string): Json;
  /** undefined: it speaks HTTP only, so that TCP connections are not its affair. */
  tcp(prefix: string): Json | undefined;
}

/** Ends the name of a rule that denies because nobody can be asked. */
export const badProvider = 'deny-due-to-bad-CUSTOM-action';

const DEFAULT_TIMEOUT_MS = 600_000;

export class ExtensionProviders {
  readonly #settings: readonly AuthorizerSettings[];
  readonly #hasService: (host: string, port: number) => boolean;

  /** `hasService`: whether a cluster leads there. */
  constructor(settings: readonly AuthorizerSettings[], hasService: (host: string, port: number) => boolean) {
    this.#settings = settings;
    this.#hasService = hasService;
  }

  /** undefined: there is none of this name that authorizes, or what it names is no service. */
  authorizer(name: string): Authorizer | undefined {
    const found = this.#settings.find((provider) => provider.name === name);
    const settings = found?.envoyExtAuthzHttp ?? found?.envoyExtAuthzGrpc;
    if (found === undefined || settings === undefined) return undefined;
    const { host, port: servicePort } = placeOf(settings);
    if (!this.#hasService(host, servicePort)) return undefined;
    const http = found.envoyExtAuthzHttp;
    return http === undefined ? grpcAuthorizer(settings) : httpAuthorizer(http);
  }
}

function placeOf(settings: Read<typeof EXT_AUTHZ_GRPC>): { readonly host: string; readonly port: number } {
  const service = settings.service ?? '';
  const host = service.slice(service.indexOf('/') + 1);
  if (host === '') fail(within(settings.at, 'service'), 'a service is required');
  return { host, port: settings.port ?? fail(within(settings.at, 'port'), 'a port is required') };
}

function clusterOf(settings: Read<typeof EXT_AUTHZ_GRPC>): string {
  const { host, port: servicePort } = placeOf(settings);
  return `outbound|${servicePort}||${host}`;
}

function commonFields(settings: Read<typeof EXT_AUTHZ_GRPC>): Json {
  const body = settings.includeRequestBodyInCheck;
  const status = settings.statusOnError;
  return {
    ...(settings.failOpen === true && { failure_mode_allow: true }),
    ...(status !== undefined && { status_on_error: { code: statusName(settings, status) } }),
    transport_api_version: 'V3',
    ...(body !== undefined && {
      with_request_body: {
        max_request_bytes: body.maxRequestBytes ?? 0,
        ...(body.allowPartialMessage === true && { allow_partial_message: true }),
        ...(body.packAsBytes === true && { pack_as_bytes: true }),
      },
    }),
    ...(settings.clearRouteCache === true && { clear_route_cache: true }),
  };
}

function enabledBy(filter: string, prefix: string): Json {
  return {
    filter_enabled_metadata: {
      filter,
      path: [{ key: 'istio_ext_authz_shadow_effective_policy_id' }],
      value: { string_match: { prefix } },
    },
  };
}

function grpcAuthorizer(settings: Read<typeof EXT_AUTHZ_GRPC>): Authorizer {
  const grpc_service = {
    envoy_grpc: { cluster_name: clusterOf(settings), authority: placeOf(settings).host },
    timeout: seconds(settings.timeout ?? DEFAULT_TIMEOUT_MS),
  };
  return {
    http: (prefix) =>
      extension('envoy.filters.http.ext_authz', 'envoy.extensions.filters.http.ext_authz.v3.ExtAuthz', {
        ...commonFields(settings),
        ...enabledBy('envoy.filters.http.rbac', prefix),
        grpc_service,
      }),
    tcp: (prefix) =>
      extension('envoy.filters.network.ext_authz', 'envoy.extensions.filters.network.ext_authz.v3.ExtAuthz', {
        stat_prefix: 'tcp.',
        grpc_service,
        ...(settings.failOpen === true && { failure_mode_allow: true }),
        transport_api_version: 'V3',
        ...enabledBy('envoy.filters.network.rbac', prefix),
      }),
  };
}

function httpAuthorizer(settings: Read<typeof EXT_AUTHZ_HTTP>): Authorizer {
  const asked = headerPatterns(settings.includeRequestHeadersInCheck ?? settings.includeHeadersInCheck);
  const added = [...(settings.includeAdditionalHeadersInCheck ?? [])]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => ({ key, value }));
  const response: Json = {
    ...named('allowed_upstream_headers', settings.headersToUpstreamOnAllow),
    ...named('allowed_client_headers', settings.headersToDownstreamOnDeny),
    ...named('allowed_client_headers_on_success', settings.headersToDownstreamOnAllow),
  };
  const path = settings.pathPrefix ?? '';
  const http_service: Json = {
    server_uri: {
      uri: `http://${placeOf(settings).host}`,
      cluster: clusterOf(settings),
      timeout: seconds(settings.timeout ?? DEFAULT_TIMEOUT_MS),
    },
    ...(path !== '' && { path_prefix: path }),
    ...(added.length > 0 && { authorization_request: { headers_to_add: added } }),
    ...(Object.keys(response).length > 0 && { authorization_response: response }),
  };
  return {
    http: (prefix) =>
      extension('envoy.filters.http.ext_authz', 'envoy.extensions.filters.http.ext_authz.v3.ExtAuthz', {
        ...commonFields(settings),
        ...enabledBy('envoy.filters.http.rbac', prefix),
        http_service,
        ...(asked !== undefined && { allowed_headers: asked }),
      }),
    tcp: () => undefined,
  };
}

function named(field: string, headers: readonly string[] | undefined): Json {
  const patterns = headerPatterns(headers);
  return patterns === undefined ? {} : { [field]: patterns };
}

function headerPatterns(headers: readonly string[] | undefined): Json | undefined {
  if (headers === undefined || headers.length === 0) return undefined;
  return { patterns: headers.map((name) => stringMatcher(name, { ignore_case: true })) };
}

const STATUS_NAMES = new Map([...STATUS_CODES].map(([name, code]) => [String(code), name] as const));

function statusName(settings: Read<typeof EXT_AUTHZ_GRPC>, status: string): string {
  return (
    STATUS_NAMES.get(status) ?? fail(within(settings.at, 'statusOnError'), `an HTTP status is wanted, got "${status}"`)
  );
}
