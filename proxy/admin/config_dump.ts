/**
 * /config_dump: what is configured, in the shapes that istioctl decodes, written a slice at a time.
 * Source: envoy.admin.v3 config_dump.proto and config_dump_shared.proto.
 */
import { ALL_SCOPES, type Json, type ResourceType } from '../../config/resources.ts';
import type { FailedVersion } from '../configuration_state.ts';
import type { HeldResource } from '../held_resource.ts';
import { redactJson } from '../telemetry/redaction.ts';
import { Slices } from '../telemetry/slices.ts';
import { trim } from './field_mask.ts';
import { liveEndpoints } from './live_endpoints.ts';
import { nodeJson } from './node_json.ts';
import type { AdminAnswer, AdminEndpoint, AdminState } from './state.ts';
import { compileRe2 } from '../re2.ts';

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
/** The repeated fields of each dump, and the message each element is. */
const ELEMENTS: Readonly<Record<string, string>> = {
  static_clusters: 'ClustersConfigDump.StaticCluster',
  dynamic_active_clusters: 'ClustersConfigDump.DynamicCluster',
  dynamic_warming_clusters: 'ClustersConfigDump.DynamicCluster',
  static_endpoint_configs: 'EndpointsConfigDump.StaticEndpointConfig',
  dynamic_endpoint_configs: 'EndpointsConfigDump.DynamicEndpointConfig',
  static_listeners: 'ListenersConfigDump.StaticListener',
  dynamic_listeners: 'ListenersConfigDump.DynamicListener',
  static_route_configs: 'RoutesConfigDump.StaticRouteConfig',
  dynamic_route_configs: 'RoutesConfigDump.DynamicRouteConfig',
  inline_scoped_route_configs: 'ScopedRoutesConfigDump.InlineScopedRouteConfigs',
  dynamic_scoped_route_configs: 'ScopedRoutesConfigDump.DynamicScopedRouteConfigs',
  static_secrets: 'SecretsConfigDump.StaticSecret',
  dynamic_active_secrets: 'SecretsConfigDump.DynamicSecret',
  dynamic_warming_secrets: 'SecretsConfigDump.DynamicSecret',
  ecds_filters: 'EcdsConfigDump.EcdsFilterConfig',
};
const SINGULAR = ['bootstrap', 'last_updated', 'version_info'];
const MAX_REGEX_LENGTH = 1024;

/** A dump message: its fields one after the other, repeated ones made element by element. */
interface Section {
  readonly type: string;
  /** Fields that stand for themselves. */
  readonly fields: Json;
  readonly lists: readonly (readonly [field: string, elements: () => Iterable<Json>])[];
}

export const configDump: AdminEndpoint = {
  path: '/config_dump',
  help: 'dump current Envoy configs',
  parameters: {
    resource: 'The resource to dump',
    mask: 'The mask to apply. When both resource and mask are specified, the mask is applied to every element in the desired repeated field',
    name_regex: 'Dump only the currently loaded configurations whose names match the specified regex',
    include_eds: 'Dump currently loaded configuration including EDS',
  },
  mutates: false,
  async answer(state, query) {
    const pattern = query.get('name_regex');
    let matches: (name: string) => boolean = () => true;
    if (pattern !== null && pattern !== '') {
      if (pattern.length > MAX_REGEX_LENGTH) return plain('name_regex is too long', 400);
      try {
        const regex = compileRe2(pattern);
        matches = (name) => regex.testExact(name);
      } catch (error) {
        return plain(`Error while parsing name_regex from ${pattern}: ${(error as Error).message}`, 400);
      }
    }
    const mask = query.get('mask')?.split(',').filter(Boolean) ?? [];
    const sections = await sectionsOf(state, matches, query.has('include_eds'));
    const field = query.get('resource');
    if (field !== null && field !== '') return oneField(sections, field, mask);
    if (mask.length > 0) return masked(sections, mask);
    return { status: 200, type: 'application/json', body: written(sections) };
  },
};

const plain = (body: string, status: number): AdminAnswer => ({ status, type: 'text/plain', body });

/** ?resource=: the elements of one repeated field, typed one by one. */
function oneField(sections: readonly Section[], field: string, mask: readonly string[]): AdminAnswer {
  if (SINGULAR.includes(field)) {
    return plain(`${field} is not a repeated field. Use ?mask=${field} to get only this field`, 400);
  }
  const message = Object.hasOwn(ELEMENTS, field) ? ELEMENTS[field] : undefined;
  if (message === undefined) return plain(`${field.slice(0, 200)} not found in config dump`, 404);
  const elements = sections.flatMap(({ lists }) => lists.filter(([name]) => name === field));
  function* configs(): Generator<Json> {
    for (const [, make] of elements) {
      for (const element of make()) {
        const kept = mask.length === 0 ? element : trim(element, mask);
        if (kept !== undefined) yield { '@type': `${ANY}envoy.admin.v3.${message}`, ...kept };
      }
    }
  }
  return { status: 200, type: 'application/json', body: listed(configs()) };
}

/** ?mask=: of each dump that has all these fields, only these. */
async function masked(sections: readonly Section[], mask: readonly string[]): Promise<AdminAnswer> {
  const slices = new Slices();
  const configs: Json[] = [];
  for (const { type, fields, lists } of sections) {
    const known = [...Object.keys(fields), ...lists.map(([name]) => name), 'version_info'];
    if (!mask.every((path) => known.includes(path.split('.', 1)[0] as string))) continue;
    const whole: Record<string, unknown> = { ...fields };
    for (const [name, make] of lists) {
      if (!mask.some((path) => path.split('.', 1)[0] === name)) continue;
      const elements: Json[] = [];
      for (const element of make()) {
        elements.push(element);
        if (slices.over) await slices.next();
      }
      whole[name] = elements;
    }
    const kept = trim(whole, mask);
    if (kept !== undefined) configs.push({ '@type': type, ...kept });
  }
  if (configs.length === 0) {
    return plain(`FieldMask ${mask.join().slice(0, 200)} could not be successfully applied to any configs.`, 400);
  }
  return { status: 200, type: 'application/json', body: listed(configs) };
}

/** `{"configs": […]}` with the items a slice at a time. */
async function* listed(items: Iterable<Json>): AsyncGenerator<string> {
  const slices = new Slices();
  let separator = '{\n "configs": [\n';
  let any = false;
  for (const item of items) {
    yield separator + indented(item, 2);
    separator = ',\n';
    any = true;
    if (slices.over) await slices.next();
  }
  yield any ? '\n ]\n}\n' : '{}\n';
}

async function* written(sections: readonly Section[]): AsyncGenerator<string> {
  const slices = new Slices();
  let before = '{\n "configs": [\n';
  for (const { type, fields, lists } of sections) {
    let piece = `${before}  {\n   "@type": ${JSON.stringify(type)}`;
    for (const [name, value] of Object.entries(fields))
      piece += `,\n   ${JSON.stringify(name)}: ${indented(value, 3).trimStart()}`;
    for (const [name, make] of lists) {
      let separator = `,\n   ${JSON.stringify(name)}: [\n`;
      let any = false;
      for (const element of make()) {
        yield `${piece}${separator}${indented(element, 4)}`;
        piece = '';
        separator = ',\n';
        any = true;
        if (slices.over) await slices.next();
      }
      if (any) piece = '\n   ]';
    }
    yield `${piece}\n  }`;
    before = ',\n';
  }
  yield '\n ]\n}\n';
}

function indented(value: unknown, depth: number): string {
  const prefix = ' '.repeat(depth);
  return prefix + JSON.stringify(value, undefined, 1).replaceAll('\n', `\n${prefix}`);
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

function any(resource: HeldResource): Json {
  return { '@type': `${ANY}${TYPES[resource.type]}`, ...(redactJson(resource.json) as Json) };
}

async function sectionsOf(
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
  for (const { type, json, updatedMs } of state.resources()) {
    if (type !== 'listener') continue;
    for (const route of inlineRoutes(json)) {
      if (!matches(typeof route['name'] === 'string' ? route['name'] : '')) continue;
      yield {
        route_config: { '@type': `${ANY}${TYPES.route}`, ...(redactJson(route) as Json) },
        last_updated: time(updatedMs),
      };
    }
  }
}

function* inlineRoutes(value: unknown): Generator<Json> {
  if (Array.isArray(value)) {
    for (const item of value) yield* inlineRoutes(item);
  } else if (value !== null && typeof value === 'object') {
    for (const [key, item] of Object.entries(value)) {
      if (key === 'route_config' && item !== null && typeof item === 'object') yield item as Json;
      else if (item !== null && typeof item === 'object') yield* inlineRoutes(item);
    }
  }
}
