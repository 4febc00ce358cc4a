/** The parts of /config_dump: each a dump message, its elements made when they are written. Source: envoy.admin.v3 config_dump.proto, config_dump_shared.proto. */
import { ALL_SCOPES, type Json, type ResourceType } from '../../config/resources.ts';
import type { FailedVersion } from '../configuration_state.ts';
import type { HeldResource } from '../held_resource.ts';
import { redactJson } from '../telemetry/redaction.ts';
import { Slices } from '../telemetry/slices.ts';
import { jsonChildren, objectsNamed } from './json_ranges.ts';
import { PackedAny } from './json_writer.ts';
import { liveEndpoints } from './live_endpoints.ts';
import { nodeJson } from './node_json.ts';
import type { AdminState } from './state.ts';

const ANY = 'type.googleapis.com/';
const TYPES: Readonly<Record<ResourceType, string>> = {
  cluster: 'envoy.config.cluster.v3.Cluster',
  endpoint: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
  listener: 'envoy.config.listener.v3.Listener',
  route: 'envoy.config.route.v3.RouteConfiguration',
  secret: 'envoy.extensions.transport_sockets.tls.v3.Secret',
  extension: 'envoy.config.core.v3.TypedExtensionConfig',
  scope: 'envoy.config.route.v3.ScopedRouteConfiguration',
};

/** A dump message: its fields one after the other, repeated ones made element by element. */
export interface Section {
  readonly type: string;
  /** Fields that stand for themselves. */
  readonly fields: Json;
  readonly lists: readonly (readonly [field: string, elements: () => Iterable<Json>])[];
}

/** By name, a slice at a time: RE2 takes a microsecond a name. */
async function matching(
  resources: readonly HeldResource[],
  matches: (name: string) => boolean,
): Promise<HeldResource[]> {
  const slices = new Slices();
  const found: HeldResource[] = [];
  let count = 0;
  for (const resource of resources) {
    if (matches(resource.name)) found.push(resource);
    if ((++count & 63) === 0 && slices.over) await slices.next();
  }
  return found;
}

const time = (epochMs: number): string => new Date(epochMs).toISOString();

function any(resource: HeldResource): PackedAny {
  return PackedAny.of(`${ANY}${TYPES[resource.type]}`, resource);
}

/** What is configured, section by section; `matches`: which names are wanted. */
export async function sectionsOf(
  state: AdminState,
  matches: (name: string) => boolean,
  includeEds: boolean,
): Promise<Section[]> {
  const served = await matching(state.resources(), matches);
  const warming = state.warming().filter(({ name }) => matches(name));
  const failed = state.failed().filter(({ name }) => matches(name));
  const of = (type: ResourceType, list = served): HeldResource[] => list.filter((resource) => resource.type === type);
  const dump = (name: string): string => `${ANY}envoy.admin.v3.${name}`;
  const versionOf = (list: readonly HeldResource[]): Json => {
    const [newest] = list.filter(({ isStatic }) => isStatic !== true);
    return newest === undefined ? {} : { version_info: newest.version };
  };
  const sections: Section[] = [
    {
      type: dump('BootstrapConfigDump'),
      fields: { bootstrap: bootstrapJson(state), last_updated: time(state.startedMs) },
      lists: [],
    },
    {
      type: dump('ClustersConfigDump'),
      fields: versionOf(of('cluster')),
      lists: [
        ['static_clusters', () => statics(of('cluster'), 'cluster')],
        ['dynamic_active_clusters', () => dynamics(of('cluster'), 'cluster', failed)],
        ['dynamic_warming_clusters', () => dynamics(of('cluster', warming), 'cluster', [])],
      ],
    },
  ];
  if (includeEds) {
    const live = await liveEndpoints(state, served);
    sections.push({
      type: dump('EndpointsConfigDump'),
      fields: {},
      lists: [
        ['static_endpoint_configs', () => live.statics()],
        ['dynamic_endpoint_configs', () => live.dynamics()],
      ],
    });
  }
  sections.push(
    {
      type: dump('ListenersConfigDump'),
      fields: versionOf(of('listener')),
      lists: [
        ['static_listeners', () => statics(of('listener'), 'listener')],
        ['dynamic_listeners', () => listenerElements(of('listener'), of('listener', warming), failed)],
      ],
    },
    {
      type: dump('ScopedRoutesConfigDump'),
      fields: {},
      lists: [['dynamic_scoped_route_configs', () => scopes(of('scope'))]],
    },
    {
      type: dump('RoutesConfigDump'),
      fields: {},
      lists: [
        ['static_route_configs', () => staticRoutes(state, matches)],
        ['dynamic_route_configs', () => dynamics(of('route'), 'route_config', failed)],
      ],
    },
    {
      type: dump('SecretsConfigDump'),
      fields: {},
      lists: [
        ['static_secrets', () => secrets(of('secret').filter(({ isStatic }) => isStatic === true))],
        ['dynamic_active_secrets', () => secrets(of('secret').filter(({ isStatic }) => isStatic !== true))],
        ['dynamic_warming_secrets', () => secrets(of('secret', warming))],
      ],
    },
  );
  if (of('extension').length > 0) {
    sections.push({
      type: dump('EcdsConfigDump'),
      fields: {},
      lists: [['ecds_filters', () => dynamics(of('extension'), 'ecds_filter', failed)]],
    });
  }
  return sections;
}

/** The bootstrap as it was read; without one, what stands in its place: who we are and where admin listens. */
function bootstrapJson(state: AdminState): unknown {
  const { bootstrap, admin } = state.options;
  const given = (redactJson(bootstrap ?? {}) as Json) ?? {};
  const address = admin === undefined ? undefined : { socket_address: { address: admin.ip, port_value: admin.port } };
  return {
    ...(address !== undefined && { admin: { address } }),
    ...given,
    node: { ...((given['node'] as Json | undefined) ?? {}), ...nodeJson(state.options) },
  };
}

function* scopes(resources: readonly HeldResource[]): Generator<Json> {
  for (const resource of resources) {
    if (resource.name === ALL_SCOPES) continue;
    const { name, version, updatedMs } = resource;
    yield { name, version_info: version, scoped_route_configs: [any(resource)], last_updated: time(updatedMs) };
  }
}

function* statics(resources: readonly HeldResource[], field: string): Generator<Json> {
  for (const resource of resources) {
    if (resource.isStatic === true) yield { [field]: any(resource), last_updated: time(resource.updatedMs) };
  }
}

function* dynamics(
  resources: readonly HeldResource[],
  field: string,
  failed: readonly FailedVersion[],
): Generator<Json> {
  for (const resource of resources) {
    if (resource.isStatic === true) continue;
    const failure = failed.find(({ type, name }) => type === resource.type && name === resource.name);
    yield {
      version_info: resource.version,
      [field]: any(resource),
      last_updated: time(resource.updatedMs),
      ...(failure !== undefined && { error_state: errorState(failure) }),
    };
  }
}

function* secrets(resources: readonly HeldResource[]): Generator<Json> {
  for (const resource of resources) {
    yield {
      name: resource.name,
      ...(resource.isStatic !== true && { version_info: resource.version }),
      last_updated: time(resource.updatedMs),
      secret: any(resource),
    };
  }
}

/** One element a name: what is served, what warms, what was refused. */
function* listenerElements(
  active: readonly HeldResource[],
  warming: readonly HeldResource[],
  failed: readonly FailedVersion[],
): Generator<Json> {
  const failures = failed.filter(({ type }) => type === 'listener');
  const names = new Set(
    [...active.filter(({ isStatic }) => isStatic !== true), ...warming, ...failures].map(({ name }) => name),
  );
  const stateOf = (list: readonly HeldResource[], name: string): Json | undefined => {
    const found = list.find((resource) => resource.name === name);
    if (found === undefined) return undefined;
    return { version_info: found.version, listener: any(found), last_updated: time(found.updatedMs) };
  };
  for (const name of names) {
    const failure = failures.find((item) => item.name === name);
    const [activeState, warmingState] = [stateOf(active, name), stateOf(warming, name)];
    yield {
      name,
      ...(activeState !== undefined && { active_state: activeState }),
      ...(warmingState !== undefined && { warming_state: warmingState }),
      ...(failure !== undefined && { error_state: errorState(failure) }),
    };
  }
}

/** envoy.admin.v3.UpdateFailureState. */
function errorState({ type, json, failedMs, details, version }: FailedVersion): Json {
  return {
    ...(json !== undefined && {
      failed_configuration: { '@type': `${ANY}${TYPES[type]}`, ...(redactJson(json) as Json) },
    }),
    last_update_attempt: time(failedMs),
    details,
    version_info: version,
  };
}

/** Route configurations that stand in a listener. */
function* staticRoutes(state: AdminState, matches: (name: string) => boolean): Generator<Json> {
  for (const resource of state.resources()) {
    // Only then: looking at it decodes it.
    if (resource.type !== 'listener') continue;
    for (const { name, config } of inlineRoutes(resource)) {
      if (matches(name)) yield { route_config: config, last_updated: time(resource.updatedMs) };
    }
  }
}

interface InlineRoute {
  readonly name: string;
  readonly config: PackedAny;
}

function* inlineRoutes(listener: HeldResource): Generator<InlineRoute> {
  const type = `${ANY}${TYPES.route}`;
  const bytes = listener.packed?.bytes;
  if (bytes === undefined) {
    for (const json of routesIn(listener.json))
      yield { name: nameOf(json['name']), config: new PackedAny(type, () => json, undefined) };
    return;
  }
  for (const { start, end } of objectsNamed(bytes, 'route_config')) {
    let name: unknown;
    for (const field of jsonChildren(bytes, start, end)) {
      if (field?.key !== 'name') continue;
      name = JSON.parse(bytes.toString('utf8', field.start, field.end));
      break;
    }
    yield { name: nameOf(name), config: PackedAny.part(type, { bytes, start, end }) };
  }
}

const nameOf = (name: unknown): string => (typeof name === 'string' ? name : '');

function* routesIn(value: unknown): Generator<Json> {
  if (Array.isArray(value)) {
    for (const item of value) yield* routesIn(item);
  } else if (value !== null && typeof value === 'object') {
    for (const [key, item] of Object.entries(value)) {
      if (key === 'route_config' && item !== null && typeof item === 'object') yield item as Json;
      else if (item !== null && typeof item === 'object') yield* routesIn(item);
    }
  }
}
