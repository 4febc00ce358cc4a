/** An Envoy bootstrap: its static resources, its admin, its node. What is pushed: xds/bootstrap_source.ts. */
import { createHash } from 'node:crypto';
import { ConfigError } from '../proxy/config_error.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { circleOf, membersOf } from './build/aggregate_circles.ts';
import { unsupportedPart } from './bootstrap_support.ts';
import type { Json, Resource, ResourceType } from './resources.ts';
import type { ParsedDocument } from './yaml_documents.ts';

export interface Bootstrap {
  readonly resources: readonly Resource[];
  /** `ip`: a path too, of a unix socket. */
  readonly admin: { readonly ip: string; readonly port: number } | undefined;
  readonly node: { readonly id: string; readonly cluster: string; readonly metadata: Json };
  readonly json: Json;
}

const LISTS: readonly (readonly [string, ResourceType])[] = [
  ['listeners', 'listener'],
  ['clusters', 'cluster'],
  ['secrets', 'secret'],
];

export interface BootstrapOptions {
  /** Leaves unknown fields out instead of refusing them. */
  readonly allowUnknownFields: boolean;
}

/** Throws a ConfigError that names the place in the file. */
type Fail = (path: readonly (string | number)[], message: string, cause?: unknown) => never;

/**
 * Loads the protobuf descriptors, which a start without a bootstrap does not need.
 * @throws {ConfigError} with `file:line:col`.
 */
export async function readBootstrap(
  { json, source }: ParsedDocument,
  options: BootstrapOptions = { allowUnknownFields: false },
): Promise<Bootstrap> {
  const at = (path: readonly (string | number)[]): string => source.locate(spelled(json, path));
  const fail: Fail = (path, message, cause) => {
    const origin = at(path);
    throw new ConfigError('', `Cannot use ${origin}: ${message}`, { origin, cause });
  };
  const canonical = await canonicalForm(json, options, fail);
  const fields = new Fields(canonical);
  const unsupported = unsupportedPart(canonical);
  if (unsupported !== undefined) fail([unsupported.field], `${unsupported.field}: ${unsupported.sentence}`);
  const statics = fields.message('static_resources');
  const defaults = clusterDefaults(canonical);
  const resources: Resource[] = [];
  const seen = new Set<string>();
  for (const [list, type] of LISTS) {
    (statics?.list(list) ?? []).forEach((item, index) => {
      const given = item as Json;
      const name = typeof given['name'] === 'string' ? given['name'] : `${list}[${index}]`;
      const named = given['name'] === undefined ? { ...given, name } : given;
      const resource = type === 'cluster' ? withDefaults(named, defaults) : named;
      if (seen.has(`${type} ${name}`))
        fail(['static_resources', list, index], `the ${type} "${name}" is configured twice`);
      seen.add(`${type} ${name}`);
      const version = createHash('sha256').update(JSON.stringify(resource)).digest('hex').slice(0, 16);
      resources.push({
        type,
        name,
        version,
        json: resource,
        origin: at(['static_resources', list, index]),
        isStatic: true,
      });
    });
  }
  refuseCircles(
    resources,
    (name) => {
      const index = resources.filter(({ type }) => type === 'cluster').findIndex((cluster) => cluster.name === name);
      return ['static_resources', 'clusters', index];
    },
    fail,
  );
  const address = fields.message('admin')?.message('address');
  const socket = address?.message('socket_address');
  const pipe = address?.message('pipe')?.requiredString('path');
  const node = fields.message('node');
  return {
    resources,
    admin:
      socket === undefined
        ? pipe === undefined
          ? undefined
          : { ip: pipe, port: 0 }
        : { ip: socket.requiredString('address'), port: socket.integer('port_value', 0, 65535) ?? 0 },
    node: {
      id: node?.string('id') ?? '',
      cluster: node?.string('cluster') ?? '',
      metadata: node?.message('metadata')?.json ?? {},
    },
    json: canonical,
  };
}

/** What clusters have that do not say it themselves. */
export interface ClusterDefaults {
  /** cluster_manager.upstream_bind_config: the source address. */
  readonly bind: Json | undefined;
  /** typed_dns_resolver_config or dns_resolution_config: whom to ask for names. */
  readonly dns: Json;
}

export function clusterDefaults(bootstrap: Json): ClusterDefaults {
  const fields = new Fields(bootstrap);
  const dns = DNS_FIELDS.find((name) => fields.has(name));
  return {
    bind: fields.message('cluster_manager')?.message('upstream_bind_config')?.json,
    dns: dns === undefined ? {} : { [dns]: fields.raw(dns) },
  };
}

/** In the order in which they count. */
const DNS_FIELDS = ['typed_dns_resolver_config', 'dns_resolution_config'];

export function withDefaults(cluster: Json, { bind, dns }: ClusterDefaults): Json {
  const takesBind = bind !== undefined && cluster['upstream_bind_config'] === undefined;
  const takesDns =
    Object.keys(dns).length > 0 &&
    (cluster['type'] === 'STRICT_DNS' || cluster['type'] === 'LOGICAL_DNS' || cluster['cluster_type'] !== undefined) &&
    [...DNS_FIELDS, 'dns_resolvers'].every((name) => cluster[name] === undefined);
  if (!takesBind && !takesDns) return cluster;
  return { ...cluster, ...(takesBind && { upstream_bind_config: bind }), ...(takesDns && dns) };
}

/** Aggregate clusters that contain themselves by way of others. */
function refuseCircles(
  resources: readonly Resource[],
  pathOf: (name: string) => readonly (string | number)[],
  fail: Fail,
): void {
  const clusters = resources.filter(({ type }) => type === 'cluster');
  const graph = new Map(clusters.map(({ name, json }) => [name, membersOf(json) ?? []]));
  for (const { name } of clusters) {
    const circle = circleOf(name, graph);
    if (circle !== undefined)
      fail(pathOf(name), `the cluster "${name}" contains itself: ${[name, ...circle].join(' → ')}`);
  }
}

async function canonicalForm(json: Json, { allowUnknownFields }: BootstrapOptions, fail: Fail): Promise<Json> {
  const { MessageError, readMessage } = await import('./envoy/messages.ts');
  const unknownFields = allowUnknownFields ? 'collect' : 'refuse';
  try {
    return readMessage('envoy.config.bootstrap.v3.Bootstrap', json, { unknownFields }).json;
  } catch (error) {
    if (error instanceof MessageError) return fail(error.keys, error.message, error);
    throw error;
  }
}

/** A path as the document spells it: fields may be in camelCase. */
function spelled(json: unknown, path: readonly (string | number)[]): (string | number)[] {
  let here = json;
  return path.map((key) => {
    const object = (here ?? {}) as Readonly<Record<string | number, unknown>>;
    const camelCase = String(key).replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    const found = Object.hasOwn(object, key) || !Object.hasOwn(object, camelCase) ? key : camelCase;
    here = object[found];
    return found;
  });
}
