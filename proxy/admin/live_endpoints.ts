/** Endpoints of all clusters as they stand: configuration, and the health that threads see. envoy.admin.v3.EndpointsConfigDump. */
import type { Json } from '../../config/resources.ts';
import type { HostDescription } from '../thread_messages.ts';
import type { HeldResource } from '../held_resource.ts';
import { Slices } from '../telemetry/slices.ts';
import { byName, mergeClusters } from './clusters.ts';
import type { AdminState } from './state.ts';

const TYPE = 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment';

export interface LiveEndpoints {
  /** Of clusters that have theirs in their own configuration, or from DNS. */
  statics(): Iterable<Json>;
  /** By EDS. */
  dynamics(): Iterable<Json>;
}

export async function liveEndpoints(state: AdminState, served: readonly HeldResource[]): Promise<LiveEndpoints> {
  const hosts = await mergeClusters(state.describeClusters());
  const slices = new Slices();
  /** By the name under which endpoints are known. */
  const clusterOf = new Map<string, { readonly cluster: HeldResource; readonly eds: boolean }>();
  for (const cluster of served) {
    if (cluster.type !== 'cluster') continue;
    const name = edsName(cluster.json);
    clusterOf.set(name ?? cluster.name, { cluster, eds: name !== undefined });
    if (slices.over) await slices.next();
  }
  const assignments = await byName(served, 'endpoint');
  return {
    *statics() {
      for (const { cluster, eds } of clusterOf.values()) {
        if (eds) continue;
        const assignment = assignments.get(cluster.name)?.json ?? (cluster.json['load_assignment'] as Json | undefined);
        if (assignment !== undefined) yield { endpoint_config: live(assignment, hosts.get(cluster.name)) };
      }
    },
    *dynamics() {
      for (const item of assignments.values()) {
        const of = clusterOf.get(item.name);
        if (of?.eds === false) continue;
        yield {
          version_info: item.version,
          endpoint_config: live(item.json, hosts.get(of?.cluster.name ?? item.name)),
          last_updated: new Date(item.updatedMs).toISOString(),
        };
      }
    },
  };
}

/** The name under which a cluster asks for endpoints; undefined: it does not. */
function edsName(cluster: Json): string | undefined {
  if (cluster['type'] !== 'EDS') return undefined;
  const { service_name: service } = (cluster['eds_cluster_config'] ?? {}) as { readonly service_name?: string };
  return service || String(cluster['name']);
}

const STATUS: Readonly<Record<string, string>> = { healthy: 'HEALTHY', degraded: 'DEGRADED', unhealthy: 'UNHEALTHY' };

function live(assignment: Json, hosts: ReadonlyMap<string, HostDescription> | undefined): Json {
  const endpoints = (assignment['endpoints'] ?? []) as readonly Json[];
  return {
    '@type': TYPE,
    ...assignment,
    endpoints: endpoints.map((locality) => ({
      ...locality,
      lb_endpoints: ((locality['lb_endpoints'] ?? []) as readonly Json[]).map((endpoint) => {
        const seen = STATUS[hosts?.get(addressOf(endpoint))?.health ?? ''];
        return {
          ...endpoint,
          health_status: seen ?? endpoint['health_status'] ?? 'HEALTHY',
          load_balancing_weight: endpoint['load_balancing_weight'] ?? 1,
        };
      }),
    })),
  };
}

/** `ip:port`, `[v6]:port` or the path, as hosts are called. */
export function addressOf(lbEndpoint: Json): string {
  const address = ((lbEndpoint['endpoint'] as Json | undefined)?.['address'] ?? {}) as Json;
  const pipe = address['pipe'] as { readonly path?: string } | undefined;
  if (pipe !== undefined) return pipe.path ?? '';
  const { address: ip = '', port_value: port = 0 } = (address['socket_address'] ?? {}) as {
    readonly address?: string;
    readonly port_value?: number;
  };
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}
