/** /clusters and /listeners. Source: envoy.admin.v3.Clusters, Listeners; the text is Envoy's, line by line. */
import type { Json, ResourceType } from '../../config/resources.ts';
import type { HeldResource } from '../held_resource.ts';
import { Slices } from '../telemetry/slices.ts';
import type { ClusterDescription, HostDescription } from '../thread_messages.ts';
import { joined } from './json_writer.ts';
import { addressOf } from './live_endpoints.ts';
import { type AdminAnswer, type AdminEndpoint, type AdminState, json, text } from './state.ts';
import { compileRe2 } from '../re2.ts';

export const listeners: AdminEndpoint = {
  path: '/listeners',
  help: 'print listener info',
  parameters: { format: 'File format to use; One of (text, json)' },
  mutates: false,
  answer(state, query) {
    const all = state.listeners();
    if (query.get('format') === 'json') {
      return json({
        ...(all.length > 0 && {
          listener_statuses: all.map(([name, { ip, port }]) => ({ name, local_address: addressJson(ip, port) })),
        }),
      });
    }
    return text(
      all.map(([name, { ip, port }]) => `${name}::${ip.startsWith('/') ? ip : addressText(ip, port)}\n`).join(''),
    );
  },
};

export const clusters: AdminEndpoint = {
  path: '/clusters',
  help: 'upstream cluster status',
  parameters: {
    filter: 'Regular expression (Google re2) for filtering clusters by name',
    format: 'File format to use; One of (text, json)',
  },
  mutates: false,
  async answer(state, query): Promise<AdminAnswer> {
    const pattern = query.get('filter') ?? '';
    let matches: (name: string) => boolean = () => true;
    if (pattern !== '') {
      if (pattern.length > 1024) return text('Invalid re2 regex: longer than 1024 characters\n', 400);
      try {
        const regex = compileRe2(pattern);
        matches = (name) => regex.test(name);
      } catch (error) {
        return text(`Invalid re2 regex: ${(error as Error).message}\n`, 400);
      }
    }
    const all = await statuses(state, matches);
    return query.get('format') === 'json'
      ? { status: 200, type: 'application/json', body: joined(jsonBody(all)) }
      : { status: 200, type: 'text/plain; charset=UTF-8', body: joined(textBody(all)) };
  },
};

interface ClusterStatus {
  readonly name: string;
  readonly isStatic: boolean;
  readonly cluster: Json;
  readonly hosts: readonly HostDescription[];
}

/** One after the other: each is decoded when it is written. */
async function statuses(state: AdminState, matches: (name: string) => boolean): Promise<() => Iterable<ClusterStatus>> {
  const seen = await mergeClusters(state.describeClusters());
  const resources = state.resources();
  const assignments = await byName(resources, 'endpoint');
  return function* () {
    for (const resource of resources) {
      const { type, name, isStatic } = resource;
      if (type !== 'cluster' || !matches(name)) continue;
      const cluster = resource.json;
      const hosts = seen.get(name);
      yield {
        name,
        isStatic,
        cluster,
        hosts: hosts === undefined ? configuredHosts(cluster, assignments) : [...hosts.values()],
      };
    }
  };
}

/** Resources of one type, a slice at a time. */
export async function byName(
  resources: readonly HeldResource[],
  type: ResourceType,
): Promise<ReadonlyMap<string, HeldResource>> {
  const slices = new Slices();
  const found = new Map<string, HeldResource>();
  let count = 0;
  for (const resource of resources) {
    if (resource.type === type) found.set(resource.name, resource);
    if ((++count & 255) === 0 && slices.over) await slices.next();
  }
  return found;
}

/** By cluster and address. Hosts that several threads know are one; their requests and connections are added up. */
export async function mergeClusters(
  descriptions: AsyncIterable<ClusterDescription>,
): Promise<ReadonlyMap<string, ReadonlyMap<string, HostDescription>>> {
  const slices = new Slices();
  const merged = new Map<string, Map<string, HostDescription>>();
  for await (const { name, hosts } of descriptions) {
    const known = merged.get(name) ?? new Map<string, HostDescription>();
    for (const host of hosts) {
      const before = known.get(host.address);
      known.set(host.address, before === undefined ? host : { ...host, counts: added(host.counts, before.counts) });
    }
    merged.set(name, known);
    if (slices.over) await slices.next();
  }
  return merged;
}

function added(a: HostDescription['counts'], b: HostDescription['counts']): HostDescription['counts'] {
  return {
    cxTotal: a.cxTotal + b.cxTotal,
    cxActive: a.cxActive + b.cxActive,
    cxConnectFail: a.cxConnectFail + b.cxConnectFail,
    rqTotal: a.rqTotal + b.rqTotal,
    rqActive: a.rqActive + b.rqActive,
    rqPendingActive: a.rqPendingActive + b.rqPendingActive,
    rqSuccess: a.rqSuccess + b.rqSuccess,
    rqError: a.rqError + b.rqError,
    rqTimeout: a.rqTimeout + b.rqTimeout,
  };
}

const NO_COUNTS: HostDescription['counts'] = {
  cxTotal: 0,
  cxActive: 0,
  cxConnectFail: 0,
  rqTotal: 0,
  rqActive: 0,
  rqPendingActive: 0,
  rqSuccess: 0,
  rqError: 0,
  rqTimeout: 0,
};

/** Of a cluster that no traffic has asked for. */
function configuredHosts(cluster: Json, assignments: ReadonlyMap<string, HeldResource>): HostDescription[] {
  const name = String(cluster['name']);
  const eds = (cluster['eds_cluster_config'] as { readonly service_name?: string } | undefined)?.service_name;
  const assignment = assignments.get(eds || name)?.json ?? (cluster['load_assignment'] as Json | undefined);
  const health = { UNKNOWN: 'healthy', HEALTHY: 'healthy', DEGRADED: 'degraded' } as Readonly<Record<string, string>>;
  return ((assignment?.['endpoints'] ?? []) as readonly Json[]).flatMap((locality) => {
    const {
      region = '',
      zone = '',
      sub_zone: subZone = '',
    } = (locality['locality'] ?? {}) as {
      readonly region?: string;
      readonly zone?: string;
      readonly sub_zone?: string;
    };
    return ((locality['lb_endpoints'] ?? []) as readonly Json[]).map((endpoint) => ({
      address: addressOf(endpoint),
      hostname: String((endpoint['endpoint'] as Json | undefined)?.['hostname'] ?? ''),
      weight: Number(endpoint['load_balancing_weight'] ?? 1),
      priority: Number(locality['priority'] ?? 0),
      health: health[String(endpoint['health_status'] ?? 'UNKNOWN')] ?? 'unhealthy',
      region,
      zone,
      subZone,
      counts: NO_COUNTS,
    }));
  });
}

interface Thresholds {
  readonly priority?: 'HIGH';
  readonly max_connections: number;
  readonly max_pending_requests: number;
  readonly max_requests: number;
  readonly max_retries: number;
}

/** Envoy's defaults: 1024, 1024, 1024, 3. */
function thresholds(cluster: Json, priority: 'DEFAULT' | 'HIGH'): Thresholds {
  const list = ((cluster['circuit_breakers'] as Json | undefined)?.['thresholds'] ?? []) as readonly Json[];
  const found = list.find((item) => (item['priority'] ?? 'DEFAULT') === priority) ?? {};
  const of = (name: string, absent: number): number => Number(found[name] ?? absent);
  return {
    ...(priority === 'HIGH' && { priority }),
    max_connections: of('max_connections', 1024),
    max_pending_requests: of('max_pending_requests', 1024),
    max_requests: of('max_requests', 1024),
    max_retries: of('max_retries', 3),
  };
}

async function* textBody(all: () => Iterable<ClusterStatus>): AsyncGenerator<string> {
  const slices = new Slices();
  for (const { name, cluster, isStatic, hosts } of all()) {
    const line = (key: string, value: string | number | boolean): string => `${name}::${key}::${value}\n`;
    let out = line('observability_name', observabilityName(name, cluster));
    for (const [priority, label] of [
      ['DEFAULT', 'default_priority'],
      ['HIGH', 'high_priority'],
    ] as const) {
      const { priority: _, ...limits } = thresholds(cluster, priority);
      for (const [limit, value] of Object.entries(limits)) out += line(`${label}::${limit}`, value);
    }
    out += line('added_via_api', !isStatic);
    const eds = (cluster['eds_cluster_config'] as { readonly service_name?: string } | undefined)?.service_name;
    if (eds !== undefined && eds !== '') out += line('eds_service_name', eds);
    for (const host of hosts) out += hostLines(name, host);
    yield out;
    if (slices.over) await slices.next();
  }
}

function hostLines(cluster: string, host: HostDescription): string {
  const { counts } = host;
  const line = (key: string, value: string | number | boolean): string =>
    `${cluster}::${host.address}::${key}::${value}\n`;
  return (
    line('cx_active', counts.cxActive) +
    line('cx_connect_fail', counts.cxConnectFail) +
    line('cx_total', counts.cxTotal) +
    line('rq_active', counts.rqActive) +
    line('rq_error', counts.rqError) +
    line('rq_pending_active', counts.rqPendingActive) +
    line('rq_success', counts.rqSuccess) +
    line('rq_timeout', counts.rqTimeout) +
    line('rq_total', counts.rqTotal) +
    line('hostname', host.hostname) +
    line('health_flags', healthFlags(host)) +
    line('weight', host.weight) +
    line('region', host.region) +
    line('zone', host.zone) +
    line('sub_zone', host.subZone) +
    line('canary', false) +
    line('priority', host.priority) +
    line('success_rate', -1) +
    line('local_origin_success_rate', -1)
  );
}

/** Envoy's words; `healthy` where there is none. */
function healthFlags({ flags, health }: HostDescription): string {
  const set = Object.entries(flags ?? {}).flatMap(([flag, on]) => (on ? [`/${flag}`] : []));
  if (set.length > 0) return set.join('');
  return health === 'healthy' ? 'healthy' : health === 'degraded' ? '/degraded_eds_health' : '/failed_eds_health';
}

async function* jsonBody(all: () => Iterable<ClusterStatus>): AsyncGenerator<string> {
  const slices = new Slices();
  let separator = '{\n "cluster_statuses": [\n';
  for (const { name, cluster, isStatic, hosts } of all()) {
    const eds = (cluster['eds_cluster_config'] as { readonly service_name?: string } | undefined)?.service_name;
    const status = {
      name,
      ...(!isStatic && { added_via_api: true }),
      ...(hosts.length > 0 && { host_statuses: hosts.map(hostStatus) }),
      circuit_breakers: { thresholds: [thresholds(cluster, 'DEFAULT'), thresholds(cluster, 'HIGH')] },
      observability_name: observabilityName(name, cluster),
      ...(eds !== undefined && eds !== '' && { eds_service_name: eds }),
    };
    yield `${separator}  ${JSON.stringify(status, undefined, 1).replaceAll('\n', '\n  ')}`;
    separator = ',\n';
    if (slices.over) await slices.next();
  }
  yield separator === ',\n' ? '\n ]\n}\n' : '{}\n';
}

function observabilityName(name: string, { alt_stat_name: alt }: Json): string {
  return typeof alt === 'string' && alt !== '' ? alt : name;
}

/** Values that are zero are left out, as protobuf JSON does. */
function hostStatus(host: HostDescription): object {
  const { counts, flags } = host;
  const counter = (name: string, value: number): object => ({ ...(value !== 0 && { value: String(value) }), name });
  const gauge = (name: string, value: number): object => ({ type: 'GAUGE', ...counter(name, value) });
  return {
    address: addressJson(...splitAddress(host.address)),
    stats: [
      counter('cx_connect_fail', counts.cxConnectFail),
      counter('cx_total', counts.cxTotal),
      counter('rq_error', counts.rqError),
      counter('rq_success', counts.rqSuccess),
      counter('rq_timeout', counts.rqTimeout),
      counter('rq_total', counts.rqTotal),
      gauge('cx_active', counts.cxActive),
      gauge('rq_active', counts.rqActive),
      gauge('rq_pending_active', counts.rqPendingActive),
    ],
    health_status: {
      ...(flags?.failed_active_hc === true && { failed_active_health_check: true }),
      ...(flags?.failed_outlier_check === true && { failed_outlier_check: true }),
      ...(flags?.degraded_active_hc === true && { failed_active_degraded_check: true }),
      eds_health_status: edsHealth(host),
    },
    weight: host.weight,
    ...(host.hostname !== '' && { hostname: host.hostname }),
    ...(host.priority !== 0 && { priority: host.priority }),
    locality: {
      ...(host.region !== '' && { region: host.region }),
      ...(host.zone !== '' && { zone: host.zone }),
      ...(host.subZone !== '' && { sub_zone: host.subZone }),
    },
  };
}

function edsHealth({ configuredHealth, health }: HostDescription): string {
  const word = configuredHealth ?? health;
  return word === 'healthy' || word === 'unknown' ? 'HEALTHY' : word === 'degraded' ? 'DEGRADED' : 'UNHEALTHY';
}

function splitAddress(address: string): [string, number] {
  if (address.startsWith('/')) return [address, 0];
  const colon = address.lastIndexOf(':');
  return [address.slice(0, colon).replace(/[[\]]/g, ''), Number(address.slice(colon + 1))];
}

function addressJson(ip: string, port: number): Json {
  return ip.startsWith('/') ? { pipe: { path: ip } } : { socket_address: { address: ip, port_value: port } };
}

function addressText(ip: string, port: number): string {
  return ip.includes(':') ? `[${ip}]:${port}` : `${ip}:${port}`;
}
