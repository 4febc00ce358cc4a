/** HTTP, network and listener filters whose configuration comes by ECDS. Envoy: envoy.config.core.v3.ExtensionConfigSource. */
import { httpFilters, listenerFilters, networkFilters } from '../../filters/index.ts';
import { MISSING_FILTER_CONFIG, type ParsedHttpFilter } from '../../proxy/build_context.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { Json } from '../resources.ts';
import { buildContext, parseAt, shortName, type TypedConfig, typedConfig } from './extensions.ts';

/** envoy.config.core.v3.TypedExtensionConfig by name, of those that have come. */
export type ExtensionLookup = (name: string) => Json | undefined;

export type FilterKind = 'HTTP' | 'network' | 'listener';

const KNOWN: Readonly<Record<FilterKind, ReadonlyMap<string, unknown>>> = {
  HTTP: httpFilters,
  network: networkFilters,
  listener: listenerFilters,
};

/** Where a configuration stands, for complaints; '': it came by itself and was looked at then. */
export interface DiscoveredConfig extends TypedConfig {
  readonly path: string;
}

/**
 * What has come for a filter, else its default; undefined: neither, so that what it guards stays closed.
 * @param fields the filter, with `name` and `config_discovery`. @throws {ConfigError}
 */
function discoveredConfig(fields: Fields, lookup: ExtensionLookup, kind: FilterKind): DiscoveredConfig | undefined {
  const name = fields.requiredString('name');
  const source = fields.requiredMessage('config_discovery');
  const allowed = source.strings('type_urls').map(shortName);
  if (allowed.length === 0) source.fail('type_urls', 'at least one type is required');
  for (const type of allowed) {
    if (!KNOWN[kind].has(`type.googleapis.com/${type}`)) {
      source.fail('type_urls', `filter "${name}" may have type ${type}, which this version does not execute`);
    }
  }
  const found = lookup(name)?.['typed_config'];
  if (found !== undefined && isAllowed(found, allowed)) return { ...typedConfig(found, ''), path: '' };
  const standard = source.raw('default_config');
  if (standard === undefined) return undefined;
  const path = source.at('default_config');
  if (!isAllowed(standard, allowed)) throw new ConfigError(path, `its type is not one of ${allowed.join(', ')}`);
  return { ...typedConfig(standard, path), path };
}

/** What stands in a filter, or has come for it; undefined: nothing has. @throws {ConfigError} */
export function filterConfig(filter: Fields, lookup: ExtensionLookup, kind: FilterKind): DiscoveredConfig | undefined {
  if (filter.has('config_discovery')) return discoveredConfig(filter, lookup, kind);
  const path = filter.at('typed_config');
  return { ...typedConfig(filter.raw('typed_config') ?? {}, path), path };
}

/** @param fields envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter. @throws {ConfigError} */
export function parseDiscoveredFilter(fields: Fields, lookup: ExtensionLookup): ParsedHttpFilter {
  const name = fields.requiredString('name');
  const disabled = fields.boolean('disabled') ?? false;
  const found = discoveredConfig(fields, lookup, 'HTTP');
  if (found === undefined) return { name, typeUrl: MISSING_FILTER_CONFIG, disabled, config: undefined };
  const { typeUrl, json, path } = found;
  return { name, typeUrl, disabled, config: parseAt(path, () => httpFilters.get(typeUrl)?.parse(json)) };
}

/** What comes by ECDS, for the sake of its complaints. @param json envoy.config.core.v3.TypedExtensionConfig. @throws {ConfigError} */
export function checkExtension(json: Json, origin: string): void {
  const fields = new Fields(json);
  const { typeUrl, json: config } = typedConfig(fields.raw('typed_config') ?? {}, 'typed_config');
  const http = httpFilters.get(typeUrl);
  const network = networkFilters.get(typeUrl);
  const listener = listenerFilters.get(typeUrl);
  if (http === undefined && network === undefined && listener === undefined) {
    fields.fail('typed_config', `has type ${shortName(typeUrl)}, which this version does not execute`);
  }
  // A type may serve two kinds (istio.stats): it has to be right for both, for whose it is only its listener knows.
  parseAt('typed_config', () => {
    http?.parse(config);
    network?.parse(config, buildContext(origin));
    listener?.parse(config);
  });
}

/** A configuration of another type than the listener takes is as good as none. */
function isAllowed(any: unknown, allowed: readonly string[]): boolean {
  return allowed.includes(shortName(typedConfig(any ?? {}, 'typed_config').typeUrl));
}
