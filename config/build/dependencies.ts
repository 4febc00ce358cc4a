/** Which resources a cluster or a listener names, and from where they are to come: what it warms for. */
import { Fields } from '../../proxy/resource_fields.ts';
import { fileSecretName } from '../../proxy/net/tls/secrets.ts';
import { ALL_SCOPES, type Dependency, type Json, type Resource } from '../resources.ts';
import { DNS_CLUSTER } from './dns.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';
import { httpFilters, listenerFilters, networkFilters } from '../../filters/index.ts';

const DEFAULT_FETCH_TIMEOUT_MS = 15_000;
/** A cluster is served without hosts when its name servers have said nothing for so long. */
const DNS_TIMEOUT_MS = 5_000;
/** Below this nothing is looked for: deeper than any of Envoy's messages nests. */
const MAX_DEPTH = 64;

/** Each once. @throws {ConfigError} with the field's path. */
export function dependenciesOf({
  type,
  json,
  routeSource,
}: Pick<Resource, 'type' | 'json' | 'routeSource'>): Dependency[] {
  if (type === 'endpoint' || type === 'route') return [];
  const found = new Map<string, Dependency>();
  if (type === 'scope') addRoutesOfScopes([json], routeSource, found);
  else if (type === 'secret') collectFiles(json, found, 0);
  else if (type === 'extension') collect(json['typed_config'], found, 0);
  else if (type === 'cluster') {
    const fields = new Fields(json);
    if (fields.raw('type') === 'EDS') {
      const eds = fields.message('eds_cluster_config');
      const name = eds?.string('service_name') || fields.requiredString('name');
      add(found, 'endpoint', name, eds?.raw('eds_config'));
    } else if (resolvesNames(fields)) {
      const name = fields.requiredString('name');
      found.set(`endpoint ${name}`, {
        type: 'endpoint',
        name,
        configSource: {},
        initialFetchTimeoutMs: DNS_TIMEOUT_MS,
        byDns: true,
      });
    }
    for (const field of ['transport_socket', 'transport_socket_matches']) collect(json[field], found, 0);
  } else {
    collect(json['filter_chains'], found, 0);
    collect(json['default_filter_chain'], found, 0);
    collect(json['listener_filters'], found, 0);
  }
  return [...found.values()];
}

/** STRICT_DNS and LOGICAL_DNS, in either form. */
function resolvesNames(fields: Fields): boolean {
  const custom = fields.message('cluster_type')?.message('typed_config')?.raw('@type');
  const type = fields.raw('type');
  return custom === undefined ? type === 'STRICT_DNS' || type === 'LOGICAL_DNS' : custom === DNS_CLUSTER;
}

/** Files of TLS: the control thread reads and watches them, and gives them as secrets. */
function collectFiles(value: unknown, found: Map<string, Dependency>, depth: number): void {
  if (value === null || typeof value !== 'object' || depth > MAX_DEPTH) return;
  if (Array.isArray(value)) {
    for (const item of value) collectFiles(item, found, depth + 1);
    return;
  }
  const json = value as Json;
  const { filename } = json;
  if (typeof filename === 'string' && filename !== '') add(found, 'secret', fileSecretName(filename), {});
  for (const key of Object.keys(json)) collectFiles(json[key], found, depth + 1);
}

/** Finds SdsSecretConfig, Rds and ExtensionConfigSource wherever they stand. */
function collect(value: unknown, found: Map<string, Dependency>, depth: number): void {
  if (value === null || typeof value !== 'object' || depth > MAX_DEPTH) return;
  if (Array.isArray(value)) {
    for (const item of value) collect(item, found, depth + 1);
    return;
  }
  const json = value as Json;
  const { name } = json;
  if (json['sds_config'] !== undefined && typeof name === 'string') add(found, 'secret', name, json['sds_config']);
  if (json['common_tls_context'] !== undefined) collectFiles(json, found, depth + 1);
  const rds = json['rds'] as Json | undefined;
  if (rds !== null && typeof rds === 'object' && typeof rds['route_config_name'] === 'string') {
    const routes = rds['route_config_name'];
    const manager = String(json['stat_prefix'] ?? '').replace(/;$/, '');
    add(found, 'route', routes, rds['config_source'], { statPrefix: `http.${manager}.rds.${routes}.` });
  }
  const scoped = json['scoped_routes'] as Json | undefined;
  if (scoped !== null && typeof scoped === 'object') collectScopes(scoped, String(json['stat_prefix'] ?? ''), found);
  const ecds = json['config_discovery'] as Json | undefined;
  if (ecds !== null && typeof ecds === 'object' && typeof name === 'string') {
    const withoutWarming = ecds['apply_default_config_without_warming'] === true;
    const statPrefix = `extension_config_discovery.${kindOf(ecds)}.${name}.`;
    add(found, 'extension', name, ecds['config_source'], { statPrefix, ...(withoutWarming && { withoutWarming }) });
  }
  for (const key of Object.keys(json)) collect(json[key], found, depth + 1);
}

/** Envoy's word for the kind of a filter; what it may be says which. */
function kindOf(discovery: Json): string {
  const [type] = (discovery['type_urls'] as readonly unknown[] | undefined) ?? [];
  const typeUrl = typeof type === 'string' ? `type.googleapis.com/${type.slice(type.lastIndexOf('/') + 1)}` : '';
  if (listenerFilters.has(typeUrl)) return 'tcp_listener_filter';
  return networkFilters.has(typeUrl) && !httpFilters.has(typeUrl) ? 'network_filter' : 'http_filter';
}

/** Scopes that are listed name route configurations; those that are pushed are a dependency themselves. */
function collectScopes(scoped: Json, statPrefix: string, found: Map<string, Dependency>): void {
  const fields = new Fields(scoped, 'scoped_routes');
  const routeSource = fields.message('rds_config_source')?.json;
  const list = fields.message('scoped_route_configurations_list');
  if (list !== undefined) {
    addRoutesOfScopes(
      list.messages('scoped_route_configurations').map(({ json }) => json),
      routeSource,
      found,
    );
    return;
  }
  const source = fields.message('scoped_rds')?.raw('scoped_rds_config_source');
  const prefix = `http.${statPrefix.replace(/;$/, '')}.scoped_rds.${fields.string('name') ?? ''}.`;
  add(found, 'scope', ALL_SCOPES, source, { statPrefix: prefix, ...(routeSource !== undefined && { routeSource }) });
}

function addRoutesOfScopes(scopes: readonly Json[], source: Json | undefined, found: Map<string, Dependency>): void {
  for (const scope of scopes) {
    const name = scope['route_configuration_name'];
    if (typeof name === 'string' && name !== '') add(found, 'route', name, source, { statPrefix: `rds.${name}.` });
    // The set as a whole: see ALL_SCOPES.
    for (const each of (scope['route_configuration_names'] as readonly string[] | undefined) ?? []) {
      add(found, 'route', each, source, { statPrefix: `rds.${each}.` });
    }
  }
}

function add(
  found: Map<string, Dependency>,
  type: Dependency['type'],
  name: string,
  configSource: unknown,
  more: Pick<Dependency, 'withoutWarming' | 'statPrefix' | 'routeSource'> = {},
): void {
  const key = `${type} ${name}`;
  if (found.has(key)) return;
  const source = new Fields(configSource ?? {}, 'config_source');
  refuseUnexecuted(source, 'ConfigSource');
  refuseUnexecuted(source.message('path_config_source'), 'PathConfigSource');
  const initialFetchTimeoutMs = source.durationMs('initial_fetch_timeout') ?? DEFAULT_FETCH_TIMEOUT_MS;
  found.set(key, { type, name, configSource: source.json, initialFetchTimeoutMs, ...more });
}
