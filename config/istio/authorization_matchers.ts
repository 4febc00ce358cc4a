/** One value of a rule as Envoy's permission or principal. Source: istio/istio pilot/pkg/security/authz/model, matcher. */
import type { Json } from '../resources.ts';
import { any } from './envoy_json.ts';

const SPIFFE = 'spiffe://';
const JWT = 'envoy.filters.http.jwt_authn';

/** exact, `abc*`, `*abc`, or `*` for anything that is not empty. */
export function stringMatcher(value: string, more: Json = {}): Json {
  if (value === '*') return { safe_regex: { regex: '.+' } };
  if (value.startsWith('*')) return { suffix: value.slice(1), ...more };
  if (value.endsWith('*')) return { prefix: value.slice(0, -1), ...more };
  return { exact: value, ...more };
}

export function headerMatcher(name: string, value: string, more: Json = {}): Json {
  return { header: value === '*' ? { name, present_match: true } : { name, string_match: stringMatcher(value, more) } };
}

export function hostMatcher(value: string): Json {
  return headerMatcher(':authority', value, { ignore_case: true });
}

/** `{*}` and `{**}` make a template, which matches whole segments. */
export function pathMatcher(value: string): Json {
  if (!value.includes('{*}') && !value.includes('{**}')) return { url_path: { path: stringMatcher(value) } };
  const path_template = value.replaceAll('{*}', '*').replaceAll('{**}', '**');
  return {
    uri_template: {
      name: 'uri-template',
      typed_config: any('envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig', { path_template }),
    },
  };
}

/** `1.2.3.4` is the range of that one address. */
export function cidrRange(value: string): Json {
  const [address = '', length] = value.split('/');
  const prefix_len = length === undefined ? (address.includes(':') ? 128 : 32) : Number(length);
  return { address_prefix: address, prefix_len };
}

/** Go's regexp.QuoteMeta. */
function quote(text: string): string {
  return text.replace(/[\\.+*?()|[\]{}^$]/g, '\\$&');
}

function authenticated(principal_name: Json): Json {
  return { authenticated: { principal_name } };
}

function authenticatedRegex(regex: string): Json {
  return authenticated({ safe_regex: { regex } });
}

/** `TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`, without `spiffe://`. A wildcard at the front must not swallow the scheme. */
export function principalMatcher(value: string): Json {
  if (value === '*') return authenticatedRegex('.+');
  if (value.startsWith('*')) return authenticatedRegex(`${SPIFFE}.*${quote(value.slice(1))}`);
  return authenticated(stringMatcher(`${SPIFFE}${value}`));
}

export function namespaceMatcher(value: string): Json {
  return authenticatedRegex(`.*/ns/${quote(value).replaceAll('\\*', '.*')}/.*`);
}

/** `namespace/name`, or `name` of the policy's own namespace; in any trust domain. */
export function serviceAccountMatcher(value: string, policyNamespace: string): Json {
  const [first = '', second] = value.split('/');
  const [namespace, account] = second === undefined ? [policyNamespace, first] : [first, second];
  return authenticatedRegex(`${SPIFFE}.+/ns/${quote(namespace)}/(.+/|)sa/${quote(account)}(/.+)?`);
}

export function trustDomainMatcher(value: string): Json {
  if (!value.includes('*')) return authenticated({ prefix: `${SPIFFE}${value}/` });
  return authenticatedRegex(`${SPIFFE}${quote(value).replaceAll('\\*', '[^/]*')}/.*`);
}

function claimMatcher(path: readonly string[], value: Json): Json {
  return { metadata: { filter: JWT, path: ['payload', ...path].map((key) => ({ key })), value } };
}

/** `ISSUER/SUBJECT`: the last slash parts them. */
export function requestPrincipalMatcher(value: string): Json {
  const [iss, sub] = requestPrincipalParts(value);
  return {
    and_ids: { ids: [claimMatcher(['iss'], { string_match: iss }), claimMatcher(['sub'], { string_match: sub })] },
  };
}

function requestPrincipalParts(value: string): [Json, Json] {
  const present: Json = { safe_regex: { regex: '.+' } };
  const slash = value.lastIndexOf('/');
  const before = slash < 0 ? value : value.slice(0, slash);
  const after = slash < 0 ? '' : value.slice(slash + 1);
  if (value === '*') return [present, present];
  if (value.startsWith('*')) {
    if (slash >= 0) return [before === '*' ? present : { suffix: before.slice(1) }, { exact: after }];
    return [present, { suffix: value.slice(1) }];
  }
  if (value.endsWith('*')) {
    if (slash >= 0) return [{ exact: before }, after === '*' ? present : { prefix: after.slice(0, -1) }];
    return [{ prefix: value.slice(0, -1) }, present];
  }
  return [{ exact: before }, { exact: after }];
}

/** A claim may be a list or one value: either way one of `values` must be among it. */
export function claimValuesMatcher(path: readonly string[], values: readonly string[]): Json {
  const match = anyOf(values);
  return claimMatcher(path, { or_match: { value_matchers: [{ list_match: { one_of: match } }, match] } });
}

/** `experimental.envoy.filters.*[key]`: `[value]` asks for a list that holds it. */
export function filterMetadataMatcher(filter: string, key: string, values: readonly string[]): Json {
  const matchers = values.map((value): Json => {
    if (!value.startsWith('[') || !value.endsWith(']')) return { string_match: stringMatcher(value) };
    return { list_match: { one_of: { string_match: stringMatcher(value.slice(1, -1)) } } };
  });
  const [only] = matchers;
  const value = matchers.length === 1 && only !== undefined ? only : { or_match: { value_matchers: matchers } };
  return { metadata: { filter, path: [{ key }], value } };
}

function anyOf(values: readonly string[]): Json {
  const matchers = values.map((value): Json => ({ string_match: stringMatcher(value) }));
  const [only] = matchers;
  return matchers.length === 1 && only !== undefined ? only : { or_match: { value_matchers: matchers } };
}
