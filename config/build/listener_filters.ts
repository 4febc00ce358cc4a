/** The listener filters of a listener, with those that Envoy adds by itself. */
import { listenerFilters } from '../../filters/index.ts';
import { MISSING_FILTER_CONFIG } from '../../proxy/build_context.ts';
import type { FilterChainConfig, ListenerFilterConfig, ListenerFilterPredicate } from '../../proxy/listener_config.ts';
import type { Fields } from '../../proxy/resource_fields.ts';
import { type ExtensionLookup, filterConfig } from './discovered_filter.ts';
import { parseAt, shortName } from './extensions.ts';
import { needsTlsInspector } from './filter_chain_match.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.listener';
const TLS_INSPECTOR = `${TYPE}.tls_inspector.v3.TlsInspector`;
const ORIGINAL_DST = `${TYPE}.original_dst.v3.OriginalDst`;

/** @param warn is told in a sentence what was added. @throws {ConfigError} */
export function buildListenerFilters(
  listener: Fields,
  chains: readonly FilterChainConfig[],
  lookup: ExtensionLookup,
  warn: (warning: string) => void,
): ListenerFilterConfig[] {
  const filters = listener.messages('listener_filters').map((filter) => buildOne(filter, lookup));
  const has = (typeUrl: string): boolean => filters.some((filter) => filter.typeUrl === typeUrl);
  if (listener.boolean('use_original_dst') === true && !has(ORIGINAL_DST)) {
    filters.unshift(ready('envoy.filters.listener.original_dst', ORIGINAL_DST));
  }
  const needing = chains.findIndex(needsTlsInspector);
  if (needing >= 0 && !has(TLS_INSPECTOR)) {
    warn(
      `filter_chains[${needing}].filter_chain_match asks for what only a TLS inspector finds out, and there is none: one is added`,
    );
    filters.push(ready('envoy.filters.listener.tls_inspector', TLS_INSPECTOR));
  }
  return filters;
}

function ready(name: string, typeUrl: string): ListenerFilterConfig {
  return { name, typeUrl, config: listenerFilters.get(typeUrl)?.parse({}), disabled: undefined };
}

function buildOne(filter: Fields, lookup: ExtensionLookup): ListenerFilterConfig {
  const name = filter.requiredString('name');
  const predicate = filter.message('filter_disabled');
  const disabled = predicate === undefined ? undefined : buildPredicate(predicate);
  const found = filterConfig(filter, lookup, 'listener');
  if (found === undefined) return { name, typeUrl: MISSING_FILTER_CONFIG, config: undefined, disabled };
  const { typeUrl, json, path } = found;
  const factory = listenerFilters.get(typeUrl);
  if (factory === undefined) {
    const type = shortName(typeUrl);
    return filter.fail(
      'typed_config',
      `listener filter "${name}" has type ${type}, which this version does not execute`,
    );
  }
  return { name, typeUrl, config: parseAt(path, () => factory.parse(json)), disabled };
}

/** envoy.config.listener.v3.ListenerFilterChainMatchPredicate. */
function buildPredicate(fields: Fields): ListenerFilterPredicate {
  for (const kind of ['and', 'or'] as const) {
    const rules = fields.message(`${kind}_match`)?.messages('rules');
    if (rules !== undefined) return { kind, rules: rules.map(buildPredicate) };
  }
  const inner = fields.message('not_match');
  if (inner !== undefined) return { kind: 'not', rule: buildPredicate(inner) };
  if (fields.boolean('any_match') === true) return { kind: 'any' };
  const range = fields.message('destination_port_range');
  if (range !== undefined) {
    return { kind: 'port', start: range.integer('start', 0, 65536) ?? 0, end: range.integer('end', 0, 65536) ?? 0 };
  }
  return fields.fail(
    'any_match',
    'one of or_match, and_match, not_match, any_match, destination_port_range is required',
  );
}
