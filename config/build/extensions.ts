/** Finds the code behind a typed extension: `typed_config` with its @type, TypedStruct and FilterConfig unwrapped. */
import { httpFilters, routeFilters, type AnyFilterFactory } from '../../filters/index.ts';
import type { BuildContext, ParsedHttpFilter } from '../../proxy/build_context.ts';
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { PerFilterConfig } from '../../proxy/router/route.ts';
import { buildAccessLogs } from './access_log.ts';
import { type ExtensionLookup, parseDiscoveredFilter } from './discovered_filter.ts';
import { buildRouteTable } from './route_configuration.ts';
import { buildTracing } from './tracing.ts';

const TYPED_STRUCT = /^type\.googleapis\.com\/(?:udpa\.type\.v1|xds\.type\.v3)\.TypedStruct$/;
const FILTER_CONFIG = 'type.googleapis.com/envoy.config.route.v3.FilterConfig';

export interface TypedConfig {
  readonly typeUrl: string;
  readonly json: unknown;
}

/** The type and value of an Any in JSON form. @throws {ConfigError} without a @type. */
export function typedConfig(any: unknown, path: string): TypedConfig {
  const fields = new Fields(any, path);
  const typeUrl = fields.requiredString('@type');
  if (TYPED_STRUCT.test(typeUrl)) {
    return { typeUrl: fields.requiredString('type_url'), json: fields.raw('value') ?? {} };
  }
  const { '@type': _type, ...json } = fields.json;
  return { typeUrl, json };
}

/** Runs `parse`, putting the path of the extension before that of the complaint. */
export function parseAt<T>(path: string, parse: () => T): T {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const inner = error.path === '' ? path : `${path}.${error.path}`;
    const text = error.path === '' ? error.message : error.message.slice(error.path.length + 2);
    throw new ConfigError(inner, text, { cause: error });
  }
}

/** What the filters' `parse` may ask of the builder. */
export function buildContext(origin: string, lookup: ExtensionLookup = () => undefined): BuildContext {
  return {
    origin,
    httpFilter: (json, path) => parseHttpFilter(json, path, lookup),
    routeTable: (json, path) =>
      parseAt(path, () => buildRouteTable(new Fields(json).json, { origin, filterConfig: perFilterConfig })),
    accessLogs: (json, path) => buildAccessLogs(json as readonly unknown[], path),
    tracing: buildTracing,
  };
}

function parseHttpFilter(json: unknown, path: string, lookup: ExtensionLookup): ParsedHttpFilter {
  const fields = new Fields(json, path);
  const name = fields.requiredString('name');
  const disabled = fields.boolean('disabled') ?? false;
  if (fields.has('config_discovery')) return parseDiscoveredFilter(fields, lookup);
  const { typeUrl, json: config } = typedConfig(fields.raw('typed_config') ?? {}, fields.at('typed_config'));
  const factory = httpFilters.get(typeUrl);
  if (factory === undefined) {
    if (fields.boolean('is_optional') === true) {
      return { name, typeUrl: '', disabled: true, config: undefined };
    }
    return fields.fail('typed_config', unknownFilter(name, typeUrl, httpFilters));
  }
  return { name, typeUrl, disabled, config: parseAt(fields.at('typed_config'), () => factory.parse(config)) };
}

/** typed_per_filter_config[name] of a route, virtual host or weighted cluster. */
export function perFilterConfig(name: string, json: unknown, path: string): PerFilterConfig {
  const { typeUrl, json: value } = typedConfig(json, path);
  if (typeUrl === FILTER_CONFIG) {
    const wrapper = new Fields(value, path);
    const inner = wrapper.raw('config');
    const disabled = wrapper.boolean('disabled') ?? false;
    if (inner === undefined) return { disabled, config: undefined };
    const typed = typedConfig(inner, wrapper.at('config'));
    if (wrapper.boolean('is_optional') === true && routeFilters.get(typed.typeUrl) === undefined) {
      return { disabled, config: undefined };
    }
    return { disabled, config: parseRouteConfig(name, typed, path) };
  }
  return { disabled: false, config: parseRouteConfig(name, { typeUrl, json: value }, path) };
}

function parseRouteConfig(name: string, { typeUrl, json }: TypedConfig, path: string): unknown {
  const factory = routeFilters.get(typeUrl);
  if (factory?.parseRoute === undefined) {
    throw new ConfigError(path, unknownFilter(name, typeUrl, routeFilters));
  }
  const { parseRoute } = factory;
  return parseAt(path, () => parseRoute.call(factory, json));
}

/** Of a type URL, what people call it by. */
export function shortName(typeUrl: string): string {
  return typeUrl.slice(typeUrl.lastIndexOf('/') + 1);
}

function unknownFilter(name: string, typeUrl: string, known: ReadonlyMap<string, AnyFilterFactory>): string {
  const types = [...known.keys()].map(shortName);
  return `filter "${name}" has type ${shortName(typeUrl)}, which this version does not execute; it executes ${types.join(', ')}`;
}
