/** Whom to ask, with what, and what to make of the answer. Source: envoy.extensions.filters.http.ext_authz.v3.ExtAuthz. */
import { ALWAYS, type Fraction, parseRuntimeFraction } from '../../fractional_percent.ts';
import { parseHeaderValue } from '../../http/header_value.ts';
import { parseStringMatcher, type StringMatcher } from '../../http/matchers.ts';
import { STATUS_CODES } from '../../http/status_codes.ts';
import type { Fields } from '../../resource_fields.ts';
import { type Flag, parseRuntimeFlag } from '../../runtime_values.ts';
import type { PolicyFacts } from '../facts.ts';
import { parseMetadataMatcher } from '../value_matcher.ts';
import { refuseUnexecuted } from '../../unexecuted_fields.ts';

export interface HttpService {
  readonly kind: 'http';
  readonly cluster: string;
  /** Of server_uri; where the request has no host of its own. */
  readonly host: string;
  readonly timeoutMs: number;
  readonly pathPrefix: string;
  readonly headersToAdd: readonly (readonly [name: string, value: string])[];
  readonly upstreamHeaders: HeaderNames | undefined;
  readonly upstreamHeadersToAppend: HeaderNames | undefined;
  /** undefined: all but Host. */
  readonly clientHeaders: HeaderNames | undefined;
  readonly clientHeadersOnSuccess: HeaderNames | undefined;
}

export interface GrpcService {
  readonly kind: 'grpc';
  readonly cluster: string;
  readonly authority: string;
  readonly timeoutMs: number;
  readonly initialMetadata: readonly (readonly [name: string, value: string])[];
}

export interface BodySettings {
  readonly maxBytes: number;
  readonly allowPartial: boolean;
  readonly asBytes: boolean;
}

export interface ExtAuthzConfig {
  readonly service: HttpService | GrpcService;
  readonly body: BodySettings | undefined;
  readonly failureModeAllow: boolean;
  readonly failureModeHeader: boolean;
  /** Default 403. */
  readonly statusOnError: number;
  readonly clearRouteCache: boolean;
  /** Only where it holds is anybody asked. */
  readonly enabledBy: ((facts: PolicyFacts) => boolean) | undefined;
  readonly enabled: Fraction;
  readonly denyAtDisable: Flag;
  readonly metadataNamespaces: readonly string[];
  readonly routeMetadataNamespaces: readonly string[];
  readonly includePeerCertificate: boolean;
  readonly includeTlsSession: boolean;
  /** undefined: all (gRPC), or those that HTTP always sends. */
  readonly allowedHeaders: HeaderNames | undefined;
  readonly disallowedHeaders: HeaderNames | undefined;
  readonly statPrefix: string;
}

/** envoy.type.matcher.v3.ListStringMatcher over lower-case header names. */
export type HeaderNames = (name: string) => boolean;

/** What changes a decision and is not executed: refused, never passed over. */
const UNEXECUTED = [
  'decoder_header_mutation_rules',
  'typed_metadata_context_namespaces',
  'route_typed_metadata_context_namespaces',
  'shadow_mode',
];

/** @throws {ConfigError} */
export function parseExtAuthz(fields: Fields): ExtAuthzConfig {
  refuseUnexecuted(fields, 'ExtAuthz');
  for (const name of UNEXECUTED) {
    if (fields.has(name)) fields.fail(name, 'is not executed by this version');
  }
  if (fields.oneOf('transport_api_version', ['AUTO', 'V3'], 'AUTO') === 'AUTO' && fields.has('grpc_service')) {
    fields.fail('transport_api_version', 'must be V3');
  }
  const service = parseService(fields) ?? fields.fail('http_service', 'http_service or grpc_service is required');
  const enabledBy = fields.message('filter_enabled_metadata');
  const code = fields.message('status_on_error')?.raw('code');
  const prefix = fields.string('stat_prefix') ?? '';
  return {
    service,
    body: parseBody(fields.message('with_request_body')),
    failureModeAllow: fields.boolean('failure_mode_allow') ?? false,
    failureModeHeader: fields.boolean('failure_mode_allow_header_add') ?? false,
    statusOnError: code === undefined ? 403 : statusCode(code, fields),
    clearRouteCache: fields.boolean('clear_route_cache') ?? false,
    enabledBy: enabledBy === undefined ? undefined : parseMetadataMatcher(enabledBy),
    enabled: parseRuntimeFraction(fields.message('filter_enabled'), ALWAYS),
    denyAtDisable: parseRuntimeFlag(fields.message('deny_at_disable')),
    metadataNamespaces: fields.strings('metadata_context_namespaces'),
    routeMetadataNamespaces: fields.strings('route_metadata_context_namespaces'),
    includePeerCertificate: fields.boolean('include_peer_certificate') ?? false,
    includeTlsSession: fields.boolean('include_tls_session') ?? false,
    allowedHeaders: parseHeaderNames(fields.message('allowed_headers')),
    disallowedHeaders: parseHeaderNames(fields.message('disallowed_headers')),
    statPrefix: prefix === '' || prefix.endsWith('.') ? prefix : `${prefix}.`,
  };
}

export function parseService(fields: Fields): HttpService | GrpcService | undefined {
  const http = fields.message('http_service');
  if (http !== undefined) return parseHttp(http);
  const grpc = fields.message('grpc_service');
  return grpc === undefined ? undefined : parseGrpc(grpc);
}

function parseHttp(fields: Fields): HttpService {
  refuseUnexecuted(fields, 'ExtAuthzHttpService');
  const server = fields.requiredMessage('server_uri');
  const request = fields.message('authorization_request');
  const response = fields.message('authorization_response');
  const uri = server.requiredString('uri');
  const prefix = fields.string('path_prefix') ?? '';
  if (prefix !== '' && !prefix.startsWith('/')) fields.fail('path_prefix', 'must begin with /');
  if (request?.has('allowed_headers') === true) {
    request.fail('allowed_headers', 'is not read any more: use allowed_headers of the filter');
  }
  if (response?.has('dynamic_metadata_from_headers') === true) {
    response.fail('dynamic_metadata_from_headers', 'is not executed by this version');
  }
  return {
    kind: 'http',
    cluster: server.requiredString('cluster'),
    host: URL.canParse(uri) ? new URL(uri).host : uri,
    timeoutMs: server.durationMs('timeout') ?? server.fail('timeout', 'is required'),
    pathPrefix: prefix,
    headersToAdd: (request?.messages('headers_to_add') ?? []).map(parseHeaderValue),
    upstreamHeaders: parseHeaderNames(response?.message('allowed_upstream_headers')),
    upstreamHeadersToAppend: parseHeaderNames(response?.message('allowed_upstream_headers_to_append')),
    clientHeaders: parseHeaderNames(response?.message('allowed_client_headers')),
    clientHeadersOnSuccess: parseHeaderNames(response?.message('allowed_client_headers_on_success')),
  };
}

export function parseGrpc(fields: Fields): GrpcService {
  const grpc = fields.message('envoy_grpc');
  if (grpc === undefined)
    return fields.fail('envoy_grpc', 'is required: other gRPC clients are not executed by this version');
  refuseUnexecuted(fields, 'GrpcService');
  refuseUnexecuted(grpc, 'EnvoyGrpc');
  const cluster = grpc.requiredString('cluster_name');
  const authority = grpc.string('authority') ?? '';
  return {
    kind: 'grpc',
    cluster,
    authority: authority === '' ? cluster : authority,
    timeoutMs: fields.durationMs('timeout') ?? 0,
    initialMetadata: fields.messages('initial_metadata').map(parseHeaderValue),
  };
}

export function parseBody(fields: Fields | undefined): BodySettings | undefined {
  if (fields === undefined) return undefined;
  return {
    maxBytes: fields.integer('max_request_bytes', 1) ?? fields.fail('max_request_bytes', 'must be >= 1'),
    allowPartial: fields.boolean('allow_partial_message') ?? false,
    asBytes: fields.boolean('pack_as_bytes') ?? false,
  };
}

function parseHeaderNames(fields: Fields | undefined): HeaderNames | undefined {
  if (fields === undefined) return undefined;
  const matchers: StringMatcher[] = fields.messages('patterns').map(parseStringMatcher);
  return (name) => matchers.some((matcher) => matcher.matches(name));
}

/** envoy.type.v3.StatusCode by name, as protobuf JSON writes it, or by number. */
function statusCode(code: unknown, fields: Fields): number {
  if (typeof code === 'number' && code >= 100 && code < 600) return code;
  const found = STATUS_CODES.get(String(code));
  return found ?? fields.fail('status_on_error.code', `an HTTP status is wanted, got ${JSON.stringify(code)}`);
}
