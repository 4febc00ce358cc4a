/** Which tokens a request must have. Source: envoy.extensions.filters.http.jwt_authn.v3.JwtRequirement. */
import type { Fields } from '../../resource_fields.ts';
import type { JwtProvider } from './provider.ts';

export type JwtRequirement =
  | { readonly kind: 'provider'; readonly provider: JwtProvider; readonly audiences: readonly string[] }
  | { readonly kind: 'any'; readonly of: readonly JwtRequirement[] }
  | { readonly kind: 'all'; readonly of: readonly JwtRequirement[] }
  /** No token passes; one that is there must be good. */
  | { readonly kind: 'allow_missing' }
  | { readonly kind: 'allow_missing_or_failed' };

/** undefined: nothing is required. @throws {ConfigError} */
export function parseRequirement(
  fields: Fields,
  providers: ReadonlyMap<string, JwtProvider>,
): JwtRequirement | undefined {
  const name = fields.string('provider_name');
  if (name !== undefined && name !== '') return ofProvider(fields, name, undefined, providers);
  const narrowed = fields.message('provider_and_audiences');
  if (narrowed !== undefined) {
    return ofProvider(narrowed, narrowed.requiredString('provider_name'), narrowed.strings('audiences'), providers);
  }
  for (const [field, kind] of [
    ['requires_any', 'any'],
    ['requires_all', 'all'],
  ] as const) {
    const list = fields.message(field);
    if (list === undefined) continue;
    const items = list.messages('requirements');
    if (items.length < 2) list.fail('requirements', 'at least two are required');
    return {
      kind,
      of: items.map((item) => parseRequirement(item, providers) ?? item.fail('', 'a requirement is required')),
    };
  }
  if (fields.has('allow_missing_or_failed')) return { kind: 'allow_missing_or_failed' };
  if (fields.has('allow_missing')) return { kind: 'allow_missing' };
  const unknown = Object.keys(fields.json);
  return unknown.length === 0
    ? undefined
    : fields.fail(unknown[0] as string, 'is not executed by this version: a requirement is never skipped');
}

function ofProvider(
  fields: Fields,
  name: string,
  audiences: readonly string[] | undefined,
  providers: ReadonlyMap<string, JwtProvider>,
): JwtRequirement {
  const provider = providers.get(name) ?? fields.fail('provider_name', `there is no provider "${name}"`);
  return { kind: 'provider', provider, audiences: audiences ?? provider.audiences };
}
