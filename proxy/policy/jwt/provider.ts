/** One issuer whose tokens are accepted. Source: envoy.extensions.filters.http.jwt_authn.v3.JwtProvider. */
import { parseStringMatcher, type StringMatcher } from '../../http/matchers.ts';
import type { Fields } from '../../resource_fields.ts';
import { KeySet } from './key_set.ts';
import { parseLocations, type TokenLocation } from './locations.ts';
import { JWT_STATUS, type JwtStatus, type ParsedToken } from './token.ts';

export interface JwtProvider {
  readonly name: string;
  /** '' is any. */
  readonly issuer: string;
  /** Empty: not looked at. */
  readonly audiences: readonly string[];
  readonly subjects: StringMatcher | undefined;
  readonly keys: { readonly inline: KeySet } | { readonly remote: RemoteKeys };
  readonly locations: readonly TokenLocation[];
  readonly forward: boolean;
  /** '' is none; lower-case. */
  readonly payloadHeader: string;
  readonly padPayloadHeader: boolean;
  readonly claimHeaders: readonly { readonly header: string; readonly path: readonly string[] }[];
  /** Keys in dynamic metadata; '' is none. */
  readonly payloadInMetadata: string;
  readonly headerInMetadata: string;
  readonly failedStatusInMetadata: string;
  /** Claims whose one text of words becomes a list. */
  readonly spaceDelimitedClaims: ReadonlySet<string>;
  /** Default 60. */
  readonly clockSkewSeconds: number;
  readonly requireExpiration: boolean;
  /** Seconds from iat (or now) to exp; 0 is without limit. */
  readonly maxLifetimeSeconds: number;
  readonly clearRouteCache: boolean;
  /** Tokens remembered. Default 1000; Envoy remembers none unless jwt_cache_config says so. */
  readonly cacheSize: number;
  /** Longer tokens are verified each time. Default 8192. */
  readonly maxCachedTokenBytes: number;
}

export interface RemoteKeys {
  readonly uri: string;
  readonly cluster: string;
  readonly timeoutMs: number;
  /** Default 600 s. */
  readonly cacheMs: number;
  /** Fetched before the first request asks, and renewed behind its back. */
  readonly ahead: boolean;
  /** How soon a failed fetch is tried again. Default 1 s. */
  readonly refetchAfterMs: number;
}

const DEFAULT_CACHE_SIZE = 1000;
const DEFAULT_MAX_TOKEN_BYTES = 8192;

/** @throws {ConfigError} */
export function parseProvider(name: string, fields: Fields): JwtProvider {
  const normalize = fields.message('normalize_payload_in_metadata');
  const cache = fields.message('jwt_cache_config');
  const subjects = fields.message('subjects');
  return {
    name,
    issuer: fields.string('issuer') ?? '',
    audiences: fields.strings('audiences'),
    subjects: subjects === undefined ? undefined : parseStringMatcher(subjects),
    keys: parseKeys(fields),
    locations: parseLocations(fields),
    forward: fields.boolean('forward') ?? false,
    payloadHeader: (fields.string('forward_payload_header') ?? '').toLowerCase(),
    padPayloadHeader: fields.boolean('pad_forward_payload_header') ?? false,
    claimHeaders: fields.messages('claim_to_headers').map((item) => ({
      header: item.requiredString('header_name').toLowerCase(),
      path: item.requiredString('claim_name').split('.'),
    })),
    payloadInMetadata: fields.string('payload_in_metadata') ?? '',
    headerInMetadata: fields.string('header_in_metadata') ?? '',
    failedStatusInMetadata: fields.string('failed_status_in_metadata') ?? '',
    spaceDelimitedClaims: new Set(normalize?.strings('space_delimited_claims') ?? []),
    clockSkewSeconds: fields.integer('clock_skew_seconds') || 60,
    requireExpiration: fields.boolean('require_expiration') ?? false,
    maxLifetimeSeconds: (fields.durationMs('max_lifetime') ?? 0) / 1000,
    clearRouteCache: fields.boolean('clear_route_cache') ?? false,
    cacheSize: cache?.integer('jwt_cache_size') || DEFAULT_CACHE_SIZE,
    maxCachedTokenBytes: cache?.integer('jwt_max_token_size') || DEFAULT_MAX_TOKEN_BYTES,
  };
}

function parseKeys(fields: Fields): JwtProvider['keys'] {
  const local = fields.message('local_jwks');
  if (local !== undefined) {
    const bytes = local.string('inline_bytes');
    const text =
      local.string('inline_string') ?? (bytes === undefined ? undefined : Buffer.from(bytes, 'base64').toString());
    if (text === undefined) {
      return local.fail(
        'inline_string',
        'inline_string or inline_bytes is required; other sources are not executed by this version',
      );
    }
    const inline = KeySet.parse(text);
    if (inline === undefined) return local.fail('inline_string', 'a JSON Web Key Set ({"keys": […]}) is wanted');
    return { inline };
  }
  const remote = fields.message('remote_jwks');
  if (remote === undefined) return fields.fail('local_jwks', 'local_jwks or remote_jwks is required');
  const uri = remote.requiredMessage('http_uri');
  const ahead = remote.message('async_fetch');
  return {
    remote: {
      uri: uri.requiredString('uri'),
      cluster: uri.requiredString('cluster'),
      timeoutMs: uri.durationMs('timeout') ?? uri.fail('timeout', 'is required'),
      cacheMs: remote.durationMs('cache_duration') ?? 600_000,
      ahead: ahead !== undefined,
      refetchAfterMs: ahead?.durationMs('failed_refetch_duration') ?? 1000,
    },
  };
}

/** Everything but the signature. `nowSeconds`: since the epoch; `audiences`: of the requirement, else the provider's. */
export function checkClaims(
  provider: JwtProvider,
  token: ParsedToken,
  audiences: readonly string[],
  nowSeconds: number,
): JwtStatus {
  if (token.status !== JWT_STATUS.ok) return token.status;
  if (provider.issuer !== '' && provider.issuer !== token.iss) return JWT_STATUS.unknownIssuer;
  const timely = checkTimes(provider, token, nowSeconds);
  if (timely !== JWT_STATUS.ok) return timely;
  if (provider.subjects !== undefined && !provider.subjects.matches(token.sub)) return JWT_STATUS.verificationFails;
  if (audiences.length > 0 && !audiences.some((wanted) => token.audiences.some((one) => sameAudience(one, wanted)))) {
    return JWT_STATUS.audienceNotAllowed;
  }
  return JWT_STATUS.ok;
}

function checkTimes(provider: JwtProvider, token: ParsedToken, now: number): JwtStatus {
  const { clockSkewSeconds: skew, maxLifetimeSeconds: most } = provider;
  if (token.nbf !== undefined && now + skew < token.nbf) return JWT_STATUS.notYetValid;
  if (token.exp !== undefined && now > token.exp + skew) return JWT_STATUS.expired;
  if (token.exp === undefined) return provider.requireExpiration || most > 0 ? JWT_STATUS.expired : JWT_STATUS.ok;
  return most > 0 && token.exp - (token.iat ?? now) > most ? JWT_STATUS.expired : JWT_STATUS.ok;
}

/** As Google's tokens have it: with or without scheme and a closing slash is the same audience. */
function sameAudience(a: string, b: string): boolean {
  return a === b || plainAudience(a) === plainAudience(b);
}

function plainAudience(audience: string): string {
  const bare = audience.replace(/^https?:\/\//, '');
  return bare.endsWith('/') ? bare.slice(0, -1) : bare;
}
