/** /config_dump, /clusters, /listeners: what is configured, in the shapes that istioctl decodes (envoy.admin.v3). */
import type { ResourceType } from '../../config/resources.ts';
import type { HeldResource } from '../held_resource.ts';
import type { ClusterDescription } from '../thread_messages.ts';
import { type AdminEndpoint, type AdminState, json, text } from './state.ts';

const ANY = 'type.googleapis.com/';
const TYPES: Readonly<Record<ResourceType, string>> = {
  cluster: 'envoy.config.cluster.v3.Cluster',
  endpoint: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
  listener: 'envoy.config.listener.v3.Listener',
  route: 'envoy.config.route.v3.RouteConfiguration',
  secret: 'envoy.extensions.transport_sockets.tls.v3.Secret',
  extension: 'envoy.config.core.v3.TypedExtensionConfig',
};

type Held = HeldResource;

const any = (resource: Held): object => ({ '@type': `${ANY}${TYPES[resource.type]}`, ...resource.json });
const stamp = (resource: Held): string => new Date(resource.updatedMs).toISOString();

const configDump: AdminEndpoint = {
  path: '/config_dump',
  help: 'dump current configuration (?include_eds, ?resource=, ?name_regex=)',
  mutates: false,
  answer(state, query) {
    const pattern = query.get('name_regex');
    let wanted: (resource: Held) => boolean = () => true;
    if (pattern !== null) {
      let regex: RegExp;
      try {
        regex = new RegExp(`^(?:${pattern.slice(0, 256)})$`);
      } catch {
        return text(`Invalid regex: ${pattern.slice(0, 80)}\n`, 400);
      }
      wanted = ({ name }) => regex.test(name);
    }
    const held = state.resources().filter(wanted);
    const of = (type: ResourceType): Held[] => held.filter((resource) => resource.type === type);
    const sections = dumpSections(state, of, query.has('include_eds'));
    const field = query.get('resource');
    if (field === null) return json({ configs: sections });
    const found = sections.flatMap((section) => (Object.hasOwn(section, field) ? [section[field]] : []));
    if (found.length === 0) return text(`${field.slice(0, 80)} not found in config dump\n`, 404);
    return json({ configs: found.flat() });
  },
};

function dumpSections(
  state: AdminState,
  of: (type: ResourceType) => Held[],
  includeEds: boolean,
): Record<string, unknown>[] {
  const dump = (name: string): string => `${ANY}envoy.admin.v3.${name}`;
  const started = new Date(state.startedMs).toISOString();
  const sections: Record<string, unknown>[] = [
    {
      '@type': dump('BootstrapConfigDump'),
      bootstrap: state.options.bootstrap ?? {
        node: { id: state.options.node.id, cluster: state.options.node.cluster },
      },
      last_updated: started,
    },
    {
      '@type': dump('ClustersConfigDump'),
      version_info: '',
      dynamic_active_clusters: of('cluster').map((resource) => ({
        version_info: resource.version,
        cluster: any(resource),
        last_updated: stamp(resource),
      })),
    },
  ];
  if (includeEds) {
    sections.push({
      '@type': dump('EndpointsConfigDump'),
      dynamic_endpoint_configs: of('endpoint').map((resource) => ({
        version_info: resource.version,
        endpoint_config: any(resource),
        last_updated: stamp(resource),
      })),
    });
  }
  sections.push(
    {
      '@type': dump('ListenersConfigDump'),
      version_info: '',
      dynamic_listeners: of('listener').map((resource) => ({
        name: resource.name,
        active_state: { version_info: resource.version, listener: any(resource), last_updated: stamp(resource) },
      })),
    },
    { '@type': dump('ScopedRoutesConfigDump') },
    {
      '@type': dump('RoutesConfigDump'),
      dynamic_route_configs: of('route').map((resource) => ({
        version_info: resource.version,
        route_config: any(resource),
        last_updated: stamp(resource),
      })),
    },
    {
      '@type': dump('SecretsConfigDump'),
      // Names only: a key in a dump is a key in a bug report.
      dynamic_active_secrets: of('secret').map((resource) => ({
        name: resource.name,
        version_info: resource.version,
        last_updated: stamp(resource),
      })),
    },
  );
  return sections;
}

const listeners: AdminEndpoint = {
  path: '/listeners',
  help: 'print listener info (?format=json)',
  mutates: false,
  answer(state, query) {
    const all = state.listeners();
    if (query.get('format') === 'json') {
      return json({
        listener_statuses: all.map(([name, { ip, port }]) => ({
          name,
          local_address: { socket_address: { address: ip, port_value: port } },
        })),
      });
    }
    return text(all.map(([name, { ip, port }]) => `${name}::${ip}:${port}\n`).join(''));
  },
};

const clusters: AdminEndpoint = {
  path: '/clusters',
  help: 'upstream cluster status (?format=json)',
  mutates: false,
  async answer(state, query) {
    const merged = mergeClusters((await state.describe()).flatMap(({ clusters: some }) => some));
    const names = state.resources().flatMap(({ type, name }) => (type === 'cluster' ? [name] : []));
    if (query.get('format') === 'json') {
      return json({
        cluster_statuses: names.map((name) => ({
          name,
          added_via_api: true,
          host_statuses: (merged.get(name) ?? []).map(hostStatus),
        })),
      });
    }
    let out = '';
    for (const name of names) {
      out += `${name}::observability_name::${name}\n${name}::added_via_api::true\n`;
      for (const host of merged.get(name) ?? []) {
        const line = (key: string, value: string | number): string => `${name}::${host.address}::${key}::${value}\n`;
        out += line('rq_active', host.activeRequests) + line('hostname', host.hostname);
        out += line('health_flags', host.health === 'healthy' ? 'healthy' : '/failed_eds_health');
        out += line('weight', host.weight) + line('region', host.region) + line('zone', host.zone);
        out += line('sub_zone', host.subZone) + line('priority', host.priority);
      }
    }
    return text(out);
  },
};

type HostDescription = ClusterDescription['hosts'][number];

/** Hosts that several threads know are one line; their requests are added up. */
function mergeClusters(descriptions: readonly ClusterDescription[]): Map<string, HostDescription[]> {
  const merged = new Map<string, Map<string, HostDescription>>();
  for (const { name, hosts } of descriptions) {
    const known = merged.get(name) ?? new Map<string, HostDescription>();
    for (const host of hosts) {
      const before = known.get(host.address);
      known.set(host.address, {
        ...host,
        activeRequests: host.activeRequests + (before?.activeRequests ?? 0),
      });
    }
    merged.set(name, known);
  }
  return new Map([...merged].map(([name, hosts]) => [name, [...hosts.values()]]));
}

function hostStatus(host: HostDescription): object {
  const colon = host.address.lastIndexOf(':');
  const address = host.address.startsWith('/')
    ? { pipe: { path: host.address } }
    : {
        socket_address: {
          address: host.address.slice(0, colon).replace(/[[\]]/g, ''),
          port_value: Number(host.address.slice(colon + 1)),
        },
      };
  return {
    address,
    stats: [{ name: 'rq_active', type: 'GAUGE', value: String(host.activeRequests) }],
    health_status: {
      eds_health_status: host.health === 'healthy' ? 'HEALTHY' : host.health === 'degraded' ? 'DEGRADED' : 'UNHEALTHY',
    },
    weight: host.weight,
    hostname: host.hostname,
    priority: host.priority,
    locality: { region: host.region, zone: host.zone, sub_zone: host.subZone },
  };
}

export const configEndpoints: readonly AdminEndpoint[] = [configDump, clusters, listeners];
