/** HTTP filters whose configuration comes by ECDS. Envoy: envoy.config.core.v3.ExtensionConfigSource. */
import { httpFilters } from '../../filters/index.ts';
import { MISSING_FILTER_CONFIG, type ParsedHttpFilter } from '../../proxy/build_context.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { Json } from '../resources.ts';
import { parseAt, typedConfig } from './extensions.ts';

/** envoy.config.core.v3.TypedExtensionConfig by name, of those that have come. */
export type ExtensionLookup = (name: string) => Json | undefined;

/** @param fields envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter. @throws {ConfigError} */
export function parseDiscoveredFilter(fields: Fields, lookup: ExtensionLookup): ParsedHttpFilter {
  const name = fields.requiredString('name');
  const disabled = fields.boolean('disabled') ?? false;
  const source = fields.requiredMessage('config_discovery');
  const allowed = source.strings('type_urls').map((typeUrl) => typeUrl.slice(typeUrl.lastIndexOf('/') + 1));
  if (allowed.length === 0) source.fail('type_urls', 'at least one type is required');
  for (const type of allowed) {
    if (!httpFilters.has(`type.googleapis.com/${type}`)) {
      source.fail('type_urls', `filter "${name}" may have type ${type}, which this version does not execute`);
    }
  }
  const found = lookup(name);
  if (found !== undefined && isAllowed(found['typed_config'], allowed))
    return { ...parseExtension(found), name, disabled };
  const standard = source.raw('default_config');
  if (standard === undefined) return { name, typeUrl: MISSING_FILTER_CONFIG, disabled, config: undefined };
  const at = source.at('default_config');
  if (!isAllowed(standard, allowed)) throw new ConfigError(at, `its type is not one of ${allowed.join(', ')}`);
  return { ...parseAt(at, () => parseExtension({ typed_config: standard })), name, disabled };
}

/** @param json envoy.config.core.v3.TypedExtensionConfig. @throws {ConfigError} */
export function parseExtension(json: Json): ParsedHttpFilter {
  const fields = new Fields(json);
  const { typeUrl, json: config } = typedConfig(fields.raw('typed_config') ?? {}, 'typed_config');
  const factory = httpFilters.get(typeUrl);
  if (factory === undefined) {
    const type = typeUrl.slice(typeUrl.lastIndexOf('/') + 1);
    return fields.fail('typed_config', `has type ${type}, which this version does not execute`);
  }
  const parsed = parseAt('typed_config', () => factory.parse(config));
  return { name: fields.string('name') ?? '', typeUrl, disabled: false, config: parsed };
}

/** A configuration of another type than the listener takes is as good as none. */
function isAllowed(any: unknown, allowed: readonly string[]): boolean {
  const { typeUrl } = typedConfig(any ?? {}, 'typed_config');
  return allowed.includes(typeUrl.slice(typeUrl.lastIndexOf('/') + 1));
}
