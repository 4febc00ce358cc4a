/**
 * Route configurations chosen by the request: a key is made of its headers, the scope with that key has the table.
 * Envoy: HttpConnectionManager.ScopedRoutes, envoy.config.route.v3.ScopedRouteConfiguration.
 */
import type { Fields } from '../resource_fields.ts';
import type { RequestHeaders } from '../http/headers.ts';
import type { RouteTable } from './route.ts';

/** Where a scope's routes are: by RDS name, read live; or inline. */
export type ScopeRoutes = { readonly rdsName: string } | { readonly table: RouteTable };

export interface Scope {
  readonly key: string;
  readonly routes: ScopeRoutes;
}

export interface ScopedRoutesConfig {
  readonly fragments: readonly Fragment[];
  /** undefined: scopes are pushed (SRDS). */
  readonly scopes: ReadonlyMap<string, ScopeRoutes> | undefined;
}

/** HeaderValueExtractor. */
export interface Fragment {
  /** Lower-case. */
  readonly header: string;
  /** '': the value is one element. */
  readonly elementSeparator: string;
  readonly take: { readonly index: number } | { readonly key: string; readonly separator: string };
}

type TableBuilder = (json: unknown, path: string) => RouteTable;

/** Between fragments of a key: no header holds it. */
const BETWEEN = '\0';

/** @throws {ConfigError} */
export function parseScopedRoutes(fields: Fields, buildTable: TableBuilder): ScopedRoutesConfig {
  fields.requiredString('name');
  const builder = fields.requiredMessage('scope_key_builder');
  const fragments = builder.messages('fragments').map(parseFragment);
  if (fragments.length === 0) builder.fail('fragments', 'at least one is required');
  const list = fields.message('scoped_route_configurations_list');
  if (list === undefined) {
    if (fields.message('scoped_rds')?.string('srds_resources_locator')) {
      fields.fail('scoped_rds', 'srds_resources_locator: xdstp names are not supported');
    }
    fields.requiredMessage('scoped_rds').requiredMessage('scoped_rds_config_source');
    return { fragments, scopes: undefined };
  }
  const scopes = new Map<string, ScopeRoutes>();
  for (const item of list.messages('scoped_route_configurations')) {
    const { key, routes } = parseScope(item, buildTable);
    if (scopes.has(key)) item.fail('key', 'another scope has the same key');
    scopes.set(key, routes);
  }
  return { fragments, scopes };
}

function parseFragment(fields: Fields): Fragment {
  const extractor = fields.requiredMessage('header_value_extractor');
  const header = extractor.requiredString('name').toLowerCase();
  const elementSeparator = extractor.string('element_separator') ?? '';
  const element = extractor.message('element');
  if (element !== undefined) {
    const take = { key: element.requiredString('key'), separator: element.requiredString('separator') };
    return { header, elementSeparator, take };
  }
  if (!extractor.has('index')) extractor.fail('index', 'index or element is required');
  const index = extractor.integer('index') ?? 0;
  if (index > 0 && elementSeparator === '') {
    extractor.fail('index', 'must be 0 without an element_separator: the value is one element');
  }
  return { header, elementSeparator, take: { index } };
}

/** envoy.config.route.v3.ScopedRouteConfiguration. @throws {ConfigError} */
export function parseScope(fields: Fields, buildTable: TableBuilder): Scope {
  const key = scopeKey(fields);
  const inline = fields.raw('route_configuration');
  if (inline !== undefined) return { key, routes: { table: buildTable(inline, fields.at('route_configuration')) } };
  return { key, routes: { rdsName: fields.requiredString('route_configuration_name') } };
}

/** What a request's key must be. @throws {ConfigError} */
export function scopeKey(fields: Fields): string {
  const fragments = fields.requiredMessage('key').messages('fragments');
  if (fragments.length === 0) fields.fail('key', 'at least one fragment is required');
  return fragments
    .map((fragment) => fragment.string('string_key') ?? fragment.fail('string_key', 'is required'))
    .join(BETWEEN);
}

/** undefined: the request has no key, and so no routes. */
export function requestKey(headers: RequestHeaders, fragments: readonly Fragment[]): string | undefined {
  let key = '';
  for (let i = 0; i < fragments.length; i++) {
    const fragment = fragmentOf(headers, fragments[i] as Fragment);
    if (fragment === undefined) return undefined;
    key = i === 0 ? fragment : key + BETWEEN + fragment;
  }
  return key;
}

function fragmentOf(headers: RequestHeaders, { header, elementSeparator, take }: Fragment): string | undefined {
  const value = header === 'host' ? headers.authority : headers.get(header);
  if (value === undefined || value === '') return undefined;
  if (elementSeparator === '' && 'index' in take) return value;
  const elements = elementSeparator === '' ? [value] : value.split(elementSeparator);
  if ('index' in take) return elements[take.index];
  const { key, separator } = take;
  for (const element of elements) {
    if (element.startsWith(key) && element.startsWith(separator, key.length)) {
      return element.slice(key.length + separator.length);
    }
  }
  return undefined;
}
