/** Parts of an Envoy bootstrap that Pillion does not execute, refused by name; the rest is used, or means nothing here. */
import { buildSocketOptions } from './build/socket_options.ts';
import { buildAdminLogs } from './build/admin.ts';
import { buildDns } from './build/dns.ts';
import { shortName } from './build/extensions.ts';
import { ConfigError } from '../proxy/config_error.ts';
import { parseOverload } from '../proxy/overload/overload_config.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { RuntimeLayers } from '../proxy/runtime_layers.ts';
import { parseFlush } from '../proxy/telemetry/flush_interval.ts';
import { parseApplicationLog } from '../proxy/telemetry/log_format.ts';
import { parseStatsConfig } from '../proxy/telemetry/stats_config.ts';
import { parseWatchdogs } from '../proxy/watchdog.ts';
import type { Json } from './resources.ts';

/** Field, and what to do instead. */
const REFUSED: Readonly<Record<string, string>> = {
  hds_config: 'health checks ordered by a server are not supported',
  stats_sinks: 'statistics are not pushed: scrape /stats/prometheus',
  tracing: 'is the old place: name a tracing provider in each HTTP connection manager',
  header_prefix: 'another prefix than x-envoy is not supported',
  fatal_actions: 'are not supported',
  config_sources: 'authorities are not supported: use ads_config',
  default_config_source: 'authorities are not supported: use ads_config',
  certificate_provider_instances: 'certificate providers are not supported: use SDS',
  xds_delegate_extension: 'is not supported',
  xds_config_tracker_extension: 'is not supported',
  perf_tracing_file_path: 'is not supported: use /cpuprofiler',
  node_context_params: 'are for xdstp names, which are not supported',
  enable_dispatcher_stats: 'is not supported: server.watchdog_miss counts when an event loop was late',
};

/** What is read when the proxy starts: its complaints come before. */
const READ_AT_START: readonly (readonly [field: string, read: (bootstrap: Fields) => unknown])[] = [
  ['watchdog', parseWatchdogs],
  ['admin', (bootstrap) => buildAdminLogs(bootstrap.raw('admin'))],
  ['overload_manager', (bootstrap) => parseOverload(bootstrap.raw('overload_manager'), undefined)],
  ['stats_config', (bootstrap) => parseStatsConfig(bootstrap.raw('stats_config'))],
  ['layered_runtime', (bootstrap) => new RuntimeLayers(bootstrap.raw('layered_runtime'))],
  ['application_log_config', (bootstrap) => parseApplicationLog(bootstrap.raw('application_log_config'))],
  ['stats_flush_interval', parseFlush],
  ['typed_dns_resolver_config', (bootstrap) => buildDns(bootstrap, undefined)],
];

const INTERNAL_LISTENER = 'type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener';
const SOCKET_INTERFACE = 'type.googleapis.com/envoy.extensions.network.socket_interface.v3.DefaultSocketInterface';
const DEFAULT_SOCKETS = 'envoy.extensions.network.socket_interface.default_socket_interface';
const GOOGLE_RE2 = 'type.googleapis.com/envoy.extensions.regex_engines.v3.GoogleRE2';
const LISTENER_MANAGER = 'type.googleapis.com/envoy.config.listener.v3.ListenerManager';

/** The first field that cannot be executed, and why; undefined: all of it can. */
export function unsupportedPart(bootstrap: Json): { readonly field: string; readonly sentence: string } | undefined {
  for (const [field, sentence] of Object.entries(REFUSED)) {
    const value = bootstrap[field];
    if (value !== undefined && value !== false && !(Array.isArray(value) && value.length === 0))
      return { field, sentence };
  }
  const fields = new Fields(bootstrap);
  const sockets = fields.string('default_socket_interface') ?? '';
  if (sockets !== '' && sockets !== DEFAULT_SOCKETS) {
    return { field: 'default_socket_interface', sentence: 'other socket interfaces are not supported' };
  }
  for (const extension of fields.messages('bootstrap_extensions')) {
    const typeUrl = innerType(extension.message('typed_config'));
    if (typeUrl === INTERNAL_LISTENER || (typeUrl === SOCKET_INTERFACE && !hasOptions(extension))) continue;
    return { field: 'bootstrap_extensions', sentence: `the extension ${shortName(typeUrl)} is not supported` };
  }
  for (const [field, known] of [
    ['default_regex_engine', GOOGLE_RE2],
    ['listener_manager', LISTENER_MANAGER],
  ] as const) {
    const typeUrl = innerType(fields.message(field)?.message('typed_config'));
    if (typeUrl !== '' && typeUrl !== known) return { field, sentence: `${shortName(typeUrl)} is not supported` };
  }
  for (const [field, read] of READ_AT_START) {
    const complaint = complaintOf(() => read(fields));
    if (complaint === undefined) continue;
    const [first = ''] = complaint.path.split('.', 1);
    return { field: fields.has(first) ? first : field, sentence: complaint.message };
  }
  const manager = fields.message('cluster_manager');
  for (const [field, sentence] of [
    ['load_stats_config', 'load reports to a server are not supported'],
    ['local_cluster_name', 'zone-aware routing is not supported: use localities and priorities'],
  ] as const) {
    if (manager?.has(field) === true) return { field: 'cluster_manager', sentence: `${field} ${sentence}` };
  }
  if (manager !== undefined) {
    const complaint = complaintOf(() => buildSocketOptions(manager));
    if (complaint !== undefined) {
      return { field: 'cluster_manager', sentence: complaint.message.replace(/^cluster_manager\./, '') };
    }
  }
  for (const name of ['event_log_path', 'event_service']) {
    if (manager?.message('outlier_detection')?.has(name) !== true) continue;
    return { field: 'cluster_manager', sentence: `outlier_detection.${name} ejections are in statistics only` };
  }
  if (fields.boolean('use_tcp_for_dns_lookups') === true) {
    return { field: 'use_tcp_for_dns_lookups', sentence: 'names are looked up as the system does' };
  }
  return undefined;
}

function complaintOf(read: () => unknown): ConfigError | undefined {
  try {
    read();
    return undefined;
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    return error;
  }
}

/** io_uring and the like. */
function hasOptions(extension: Fields): boolean {
  const { '@type': _, ...options } = extension.messageOrEmpty('typed_config').json;
  return Object.keys(options).length > 0;
}

function innerType(any: Fields | undefined): string {
  const typeUrl = any?.string('@type') ?? '';
  return typeUrl.endsWith('.TypedStruct') ? (any?.string('type_url') ?? '') : typeUrl;
}
