/** Requests with tokens and what becomes of them: asked of us in one test, of us and Envoy in another. */
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from './envoy_resources.ts';
import { base64url, inSeconds, KEY_SET, token } from './tokens.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.';
export const ISSUER = 'https://issuer.example';

/** Says in response headers what the access log would: details and flags. */
export const SAYS_DETAILS: Json = {
  name: 'envoy.filters.http.header_mutation',
  typed_config: {
    '@type': `${TYPE}header_mutation.v3.HeaderMutation`,
    mutations: {
      response_mutations: [
        { append: { header: { key: 'x-details', value: '%RESPONSE_CODE_DETAILS%' } } },
        { append: { header: { key: 'x-flags', value: '%RESPONSE_FLAGS%' } } },
      ],
    },
  },
};

const provider = (more: Json = {}): Json => ({
  issuer: ISSUER,
  local_jwks: { inline_string: KEY_SET },
  payload_in_metadata: 'payload',
  ...more,
});
const any = (...requirements: Json[]): Json => ({ requires_any: { requirements } });
const named = (provider_name: string): Json => ({ provider_name });

export function jwtListener(name: string, config: Json): Resource {
  return httpListener({
    name,
    filters: [
      SAYS_DETAILS,
      {
        name: 'envoy.filters.http.jwt_authn',
        typed_config: { '@type': `${TYPE}jwt_authn.v3.JwtAuthentication`, ...config },
      },
    ],
    routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up' } }]),
  });
}

export function jwtResources(upstreamPort: number): Resource[] {
  return [
    jwtListener('istio', {
      providers: {
        'origins-0': provider({
          forward: true,
          forward_payload_header: 'x-payload',
          claim_to_headers: [
            { header_name: 'x-sub', claim_name: 'sub' },
            { header_name: 'x-nested', claim_name: 'a.b' },
            { header_name: 'x-number', claim_name: 'n' },
            { header_name: 'x-yes', claim_name: 'yes' },
          ],
          audiences: ['cart'],
          normalize_payload_in_metadata: { space_delimited_claims: ['scope'] },
        }),
      },
      rules: [{ match: { prefix: '/' }, requires: any(named('origins-0'), { allow_missing: {} }) }],
      bypass_cors_preflight: true,
    }),
    jwtListener('required', {
      providers: {
        p: provider({
          from_headers: [{ name: 'x-jwt', value_prefix: 'Bearer ' }],
          from_params: ['jwt'],
          from_cookies: ['jwt'],
        }),
      },
      rules: [{ match: { path: '/open' } }, { match: { prefix: '/' }, requires: named('p') }],
    }),
    jwtListener('default', { providers: { p: provider() }, rules: [{ match: { prefix: '/' }, requires: named('p') }] }),
    jwtListener('tolerant', {
      providers: { p: provider() },
      rules: [{ match: { prefix: '/' }, requires: { allow_missing_or_failed: {} } }],
    }),
    staticCluster('up', [upstreamPort]),
  ];
}

export interface JwtCase {
  readonly says: string;
  readonly listener: string;
  /** Head fields behind Host, each with its line end; and the path. */
  readonly fields: string;
  readonly path?: string;
  readonly method?: string;
  readonly status: number;
  readonly body: string;
}

const bearer = (text: string): string => `authorization: Bearer ${text}\r\n`;
const good = (claims: Json = {}): Json => ({ iss: ISSUER, sub: 'me', aud: 'cart', exp: inSeconds(600), ...claims });

const on = (
  listener: string,
  says: string,
  fields: string,
  status: number,
  body: string,
  more: Partial<JwtCase> = {},
): JwtCase => ({
  says,
  listener,
  fields,
  status,
  body,
  ...more,
});

/** 401 with this body, on the listener that requires a token. */
const refused = (says: string, text: string, body: string): JwtCase => on('default', says, bearer(text), 401, body);

const FORMAT = 'Jwt is not in the form of Header.Payload.Signature with two dots and 3 sections';

export function jwtCases(): JwtCase[] {
  const fine = token(good());
  return [
    on('istio', 'no token', '', 200, 'ok'),
    on('istio', 'a good token', bearer(token(good({ a: { b: 'deep' }, n: 5, yes: true, scope: 'a b' }))), 200, 'ok'),
    on('istio', 'headers that only the proxy may set', 'x-sub: root\r\nx-payload: e30\r\n', 200, 'ok'),
    on('istio', 'another audience', bearer(token(good({ aud: 'pay' }))), 403, 'Audiences in Jwt are not allowed'),
    on('istio', 'one audience of several', bearer(token(good({ aud: ['pay', 'https://cart/'] }))), 200, 'ok'),
    on('istio', 'another issuer', bearer(token(good({ iss: 'x' }))), 401, 'Jwt issuer is not configured'),
    on('istio', 'a wrong signature', bearer(token(good(), 'other')), 401, 'Jwt verification fails'),
    on(
      'istio',
      'a preflight with a bad token',
      `origin: a\r\naccess-control-request-method: GET\r\n${bearer('x')}`,
      200,
      'ok',
      { method: 'OPTIONS' },
    ),
    on('istio', 'a good token in the query', '', 200, 'ok', { path: `/a?access_token=${fine}&b=1` }),
    on('default', 'no token', '', 401, 'Jwt is missing'),
    on('default', 'no token, a query', '', 401, 'Jwt is missing', { path: '/a?b="c' }),
    on('default', 'PS256', bearer(token(good(), 'PS256')), 200, 'ok'),
    on('default', 'ES256', bearer(token(good(), 'ES256')), 200, 'ok'),
    on('default', 'EdDSA', bearer(token(good(), 'EdDSA')), 200, 'ok'),
    on('default', 'HS256', bearer(token(good(), 'HS256')), 200, 'ok'),
    on('default', 'the token without a prefix', `authorization: ${fine}\r\n`, 401, 'Jwt is missing'),
    on('default', 'another scheme', `authorization: Basic ${fine}\r\n`, 401, 'Jwt is missing'),
    on('default', 'the scheme in lower case', `authorization: bearer ${fine}\r\n`, 401, 'Jwt is missing'),
    on(
      'default',
      'a good token and something behind',
      `authorization: Bearer ${fine}, x\r\n`,
      401,
      'Jwt signature is an invalid Base64url encoded',
    ),
    on('default', 'two good tokens', bearer(fine) + bearer(fine), 401, FORMAT),
    on('default', 'expired, within the clock skew', bearer(token(good({ exp: inSeconds(-30) }))), 200, 'ok'),
    on('default', 'not yet, within the clock skew', bearer(token(good({ nbf: inSeconds(30) }))), 200, 'ok'),
    on('default', 'no kid', bearer(token(good(), 'RS256', { kid: undefined })), 200, 'ok'),
    on('default', 'a good token beside a bad one', bearer(fine), 401, FORMAT, { path: '/?access_token=bad' }),
    refused('expired', token(good({ exp: inSeconds(-300) })), 'Jwt is expired'),
    refused('not yet valid', token(good({ nbf: inSeconds(300) })), 'Jwt not yet valid'),
    refused('alg none', token(good(), 'none'), FORMAT),
    refused(
      'alg none with something for a signature',
      `${token(good(), 'none')}AAAA`,
      'Jwt header [alg] is not supported',
    ),
    refused('an HMAC keyed with the public key', token(good(), 'hs-with-public-key'), 'Jwt verification fails'),
    refused(
      'an HMAC with an empty key',
      `${base64url({ alg: 'HS256', kid: 'rsa' })}.${base64url(good())}.AAAA`,
      'Jwt verification fails',
    ),
    refused(
      'an unknown kid',
      token(good(), 'RS256', { kid: 'nobody' }),
      "Jwks doesn't have key to match kid or alg from Jwt",
    ),
    refused('no signature', token(good()).replace(/[^.]*$/, ''), FORMAT),
    refused('two sections', 'a.b', FORMAT),
    refused('one section', 'abc', FORMAT),
    refused('four sections', `${fine}.x`, FORMAT),
    refused('a header that is no base64url', `!.${base64url(good())}.x`, FORMAT),
    refused('a header that is no JSON', `${base64url('{')}.${base64url(good())}.AAAA`, 'Jwt header is an invalid JSON'),
    refused(
      'an alg that is no text',
      token(good(), 'RS256', { alg: 1 }),
      'Jwt header [alg] field is required and must be a string',
    ),
    refused('a kid that is no text', token(good(), 'RS256', { kid: 1 }), 'Jwt header [kid] field is not a string'),
    refused('a payload that is no JSON', token('{'), 'Jwt payload is an invalid JSON'),
    refused('an issuer that is no text', token({ ...good(), iss: 1 }), 'Jwt payload [iss] field is not a string'),
    refused('a subject that is no text', token({ ...good(), sub: {} }), 'Jwt payload [sub] field is not a string'),
    refused(
      'an expiry that is no number',
      token({ ...good(), exp: 'soon' }),
      'Jwt payload [exp] field is not an integer',
    ),
    refused(
      'an audience that is no text',
      token({ ...good(), aud: 1 }),
      'Jwt payload [aud] field is not a string or string list',
    ),
    on('required', 'a token in a header', `x-jwt: Bearer ${fine}\r\n`, 200, 'ok'),
    on('required', 'something before the prefix', `x-jwt: foo Bearer ${fine}\r\n`, 200, 'ok'),
    on(
      'required',
      'something behind the token',
      `x-jwt: Bearer ${fine}, bar\r\n`,
      401,
      'Jwt signature is an invalid Base64url encoded',
    ),
    on('required', 'spaces before the token', `x-jwt: Bearer   ${fine}\r\n`, 200, 'ok'),
    on(
      'required',
      'a quote around the token',
      `x-jwt: Bearer "${fine}"\r\n`,
      401,
      'Jwt signature is an invalid Base64url encoded',
    ),
    on('required', 'nothing behind the prefix', `x-jwt: Bearer \r\n`, 401, 'Jwt is missing'),
    on('required', 'a token of another spelling', `x-jwt: bearer ${fine}\r\n`, 401, 'Jwt is missing'),
    on('required', 'a token in a parameter', '', 200, 'ok', { path: `/a?x=1&jwt=${fine}&y=2` }),
    on('required', 'a token in the only parameter', '', 200, 'ok', { path: `/a?jwt=${fine}` }),
    on('required', 'a token in a cookie', `cookie: a=b; jwt=${fine}; c=d\r\n`, 200, 'ok'),
    on('required', 'a token where nobody looks', bearer(fine), 401, 'Jwt is missing'),
    on('required', 'no token where none is asked for', '', 200, 'ok', { path: '/open?x' }),
    on('tolerant', 'a bad token', bearer('a.b'), 200, 'ok'),
    on('tolerant', 'no token', '', 200, 'ok'),
  ];
}
