/** RequestAuthentication (security.istio.io): which tokens are believed. Source: istio/api security/v1beta1/request_authentication.proto; filter as istio/istio pilot/pkg/security/authn. */
import type { KubeObject } from '../kube_object.ts';
import type { Json } from '../resources.ts';
import { extension } from './envoy_json.ts';
import {
  type At,
  boolean,
  duration,
  fail,
  list,
  message,
  oneOf,
  openMessage,
  type Read,
  type Shape,
  text,
  within,
} from './shape.ts';
import { checkScope, TARGET_REF, TARGET_REFS, WORKLOAD_SELECTOR } from './workload_selector.ts';

const NAMED: Shape<string> = (value, at) => {
  const name = text(value, at);
  return name === '' ? fail(at, 'must not be empty') : name;
};
const HEADER: Shape<string> = (value, at) => {
  const name = NAMED(value, at);
  return /^[-_A-Za-z0-9]+$/.test(name)
    ? name
    : fail(at, `a header name of letters, digits, - and _ is wanted, got "${name}"`);
};
const KEYS_URL: Shape<string> = (value, at) => {
  const url = text(value, at);
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  if (
    parsed === undefined ||
    !/^https?:\/\//i.test(url) ||
    (parsed.protocol !== 'http:' && parsed.protocol !== 'https:')
  ) {
    fail(at, `an http:// or https:// URL is wanted, got "${url}"`);
  }
  return url;
};

const JWT_RULE = message({
  issuer: text,
  audiences: list(NAMED),
  jwksUri: KEYS_URL,
  jwks_uri: KEYS_URL,
  jwks: text,
  fromHeaders: list(message({ name: NAMED, prefix: text })),
  fromParams: list(NAMED),
  fromCookies: list(NAMED),
  outputPayloadToHeader: text,
  forwardOriginalToken: boolean,
  outputClaimToHeaders: list(message({ header: HEADER, claim: NAMED })),
  timeout: duration,
  spaceDelimitedClaims: list(NAMED),
  presence: oneOf('OPTIONAL', 'REQUIRED'),
});

const SPEC = message({
  selector: WORKLOAD_SELECTOR,
  targetRef: TARGET_REF,
  targetRefs: TARGET_REFS,
  jwtRules: list(JWT_RULE),
});
const REQUEST_AUTHENTICATION = openMessage({ spec: SPEC });

export type JwtRule = Read<typeof JWT_RULE>;

export interface RequestAuthentication {
  readonly object: KubeObject;
  readonly spec: Read<typeof SPEC>;
}

/** @throws {ConfigError} */
export function parseRequestAuthentication(object: KubeObject, at: At): RequestAuthentication {
  const spec = REQUEST_AUTHENTICATION(object.json, at).spec ?? SPEC({}, within(at, 'spec'));
  checkScope(spec);
  for (const rule of spec.jwtRules ?? []) {
    if ((rule.issuer ?? '') === '') fail(within(rule.at, 'issuer'), 'an issuer is required');
    for (const { name, at: place } of rule.fromHeaders ?? []) {
      if (name === undefined) fail(within(place, 'name'), 'a name is required');
    }
    for (const { header, claim, at: place } of rule.outputClaimToHeaders ?? []) {
      if (header === undefined || claim === undefined) fail(place, 'header and claim are required');
    }
    if (rule.jwks !== undefined) checkKeySet(rule.jwks, within(rule.at, 'jwks'));
  }
  return { object, spec };
}

function checkKeySet(jwks: string, at: At): void {
  let json: unknown;
  try {
    json = JSON.parse(jwks);
  } catch (error) {
    fail(at, `a JSON Web Key Set is wanted: ${(error as Error).message}`);
  }
  if (!Array.isArray((json as { keys?: unknown } | null)?.keys))
    fail(at, 'a JSON Web Key Set ({"keys": […]}) is wanted');
}

/** Keys that are not in the YAML: at a URL, or where the issuer's OpenID configuration says. */
export interface WantedKeys {
  readonly issuer: string;
  /** undefined: `<issuer>/.well-known/openid-configuration` names it. */
  readonly url: string | undefined;
  /** Default 5 s. */
  readonly timeoutMs: number;
  /** `file:line:col` of the rule. */
  readonly origin: string;
}

/** What is known of keys; undefined: nothing yet. */
export type KeyLookup = (wanted: WantedKeys) => string | undefined;

/** No token is signed by one of these. */
const NO_KEYS = '{"keys":[]}';
const ALWAYS_SPACED = ['permission', 'scope'];

/** undefined: nothing holds for the workload. `keys` is asked for every rule whose keys stand elsewhere. */
export function jwtFilter(policies: readonly RequestAuthentication[], keys: KeyLookup): Json | undefined {
  const rules = policies
    .flatMap(({ spec }) => spec.jwtRules ?? [])
    // Stable, whatever the order of objects: istiod sorts them too.
    .sort((a, b) => ((a.issuer ?? '') < (b.issuer ?? '') ? -1 : (a.issuer ?? '') > (b.issuer ?? '') ? 1 : 0));
  if (rules.length === 0) return undefined;
  return extension('envoy.filters.http.jwt_authn', 'envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication', {
    providers: Object.fromEntries(rules.map((rule, index) => [`origins-${index}`, provider(rule, keys)])),
    rules: [{ match: { prefix: '/' }, requires: requirement(rules) }],
    bypass_cors_preflight: true,
  });
}

function provider(rule: JwtRule, keys: KeyLookup): Json {
  const headers = rule.fromHeaders ?? [];
  const claims = rule.outputClaimToHeaders ?? [];
  const payloadHeader = rule.outputPayloadToHeader ?? '';
  return {
    issuer: rule.issuer,
    ...((rule.audiences ?? []).length > 0 && { audiences: rule.audiences }),
    local_jwks: { inline_string: keysOf(rule, keys) },
    ...(rule.forwardOriginalToken === true && { forward: true }),
    ...(headers.length > 0 && {
      from_headers: headers.map(({ name, prefix = '' }) => ({ name, ...(prefix !== '' && { value_prefix: prefix }) })),
    }),
    ...((rule.fromParams ?? []).length > 0 && { from_params: rule.fromParams }),
    ...((rule.fromCookies ?? []).length > 0 && { from_cookies: rule.fromCookies }),
    ...(payloadHeader !== '' && { forward_payload_header: payloadHeader }),
    payload_in_metadata: 'payload',
    normalize_payload_in_metadata: {
      space_delimited_claims: [
        ...ALWAYS_SPACED,
        ...(rule.spaceDelimitedClaims ?? []).filter((claim) => !ALWAYS_SPACED.includes(claim)),
      ],
    },
    ...(claims.length > 0 && {
      claim_to_headers: claims.map(({ header, claim }) => ({ header_name: header, claim_name: claim })),
    }),
  };
}

/** Until keys are known no token is good: never is one believed unseen. */
function keysOf(rule: JwtRule, keys: KeyLookup): string {
  if (rule.jwks !== undefined && rule.jwks !== '') return rule.jwks;
  const found = keys({
    issuer: rule.issuer as string,
    url: rule.jwksUri ?? rule.jwks_uri,
    timeoutMs: rule.timeout ?? 5000,
    origin: rule.at.object.source.locate(rule.at.path),
  });
  return found ?? NO_KEYS;
}

/**
 * A token of any of the issuers, or none at all. With several issuers each one's absence is allowed by itself, so that
 * a bad token of one is not excused by the absence of another's.
 */
function requirement(rules: readonly JwtRule[]): Json {
  const names = rules.map((_, index) => ({ provider_name: `origins-${index}` }));
  const orMissing = rules.map((rule, index): Json => {
    const named = names[index] as Json;
    return rule.presence === 'REQUIRED' ? named : anyOf([named, { allow_missing: {} }]);
  });
  const [only] = orMissing;
  if (rules.length === 1 && only !== undefined) return only;
  return anyOf([...names, { requires_all: { requirements: orMissing } }]);
}

function anyOf(requirements: readonly Json[]): Json {
  return { requires_any: { requirements } };
}
