/** Static resources of an Envoy bootstrap. */
import { createHash } from 'node:crypto';
import { ConfigError } from '../proxy/config_error.ts';
import { Fields } from '../proxy/resource_fields.ts';
import type { Json, Resource, ResourceType } from './resources.ts';
import type { ParsedDocument } from './yaml_documents.ts';

export interface Bootstrap {
  readonly resources: readonly Resource[];
  readonly admin: { readonly ip: string; readonly port: number } | undefined;
  readonly node: { readonly id: string; readonly cluster: string; readonly metadata: Json };
  readonly json: Json;
}

const LISTS: readonly (readonly [string, ResourceType])[] = [
  ['listeners', 'listener'],
  ['clusters', 'cluster'],
  ['secrets', 'secret'],
];

/** @throws {ConfigError} with `file:line:col`. */
export function readBootstrap({ json, source }: ParsedDocument): Bootstrap {
  const fail = (path: readonly (string | number)[], message: string): never => {
    const origin = source.locate(path);
    throw new ConfigError('', `Cannot use ${origin}: ${message}`, { origin });
  };
  const canonical = snakeCase(json) as Record<string, unknown>;
  const fields = new Fields(canonical);
  for (const field of ['dynamic_resources', 'hds_config', 'xds_config_tracker_extension']) {
    if (fields.has(field))
      fail([field], `${field}: configuration pushed by xDS comes with a later version; static_resources work`);
  }
  const statics = fields.message('static_resources');
  const resources: Resource[] = [];
  const seen = new Set<string>();
  for (const [list, type] of LISTS) {
    (statics?.list(list) ?? []).forEach((item, index) => {
      const resource = item as Json;
      const name = typeof resource['name'] === 'string' ? resource['name'] : `${list}[${index}]`;
      if (seen.has(`${type} ${name}`))
        fail(['static_resources', list, index], `the ${type} "${name}" is configured twice`);
      seen.add(`${type} ${name}`);
      const version = createHash('sha256').update(JSON.stringify(resource)).digest('hex').slice(0, 16);
      resources.push({ type, name, version, json: resource, origin: source.locate(['static_resources', list, index]) });
    });
  }
  const socket = fields.message('admin')?.message('address')?.message('socket_address');
  const node = fields.message('node');
  return {
    resources,
    admin:
      socket === undefined
        ? undefined
        : { ip: socket.requiredString('address'), port: socket.integer('port_value', 0, 65535) ?? 0 },
    node: {
      id: node?.string('id') ?? '',
      cluster: node?.string('cluster') ?? '',
      metadata: node?.message('metadata')?.json ?? {},
    },
    json: canonical,
  };
}

/** Protobuf JSON may spell fields either way; maps keyed by names of people's choice are left alone. */
const OPAQUE = new Set([
  'filter_metadata',
  'typed_per_filter_config',
  'metadata',
  'match',
  'typed_extension_protocol_options',
  'json_format',
]);

function snakeCase(value: unknown, opaque = false): unknown {
  if (Array.isArray(value)) return value.map((item) => snakeCase(item));
  if (value === null || typeof value !== 'object') return value;
  const out: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const [key, item] of Object.entries(value)) {
    const name =
      opaque || key.startsWith('@') || key.includes('.')
        ? key
        : key.replace(/[A-Z]/g, (upper) => `_${upper.toLowerCase()}`);
    out[name] = snakeCase(item, OPAQUE.has(name) && name !== 'match');
  }
  return out;
}
