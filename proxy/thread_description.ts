/** What a data thread says of itself when admin or drain asks. */
import type { Cells } from './cells.ts';
import type { ClusterDescription, HostDescription, OpenWork, ThreadDescription } from './thread_messages.ts';
import type { ClusterRuntime } from './upstream/cluster_runtime.ts';
import type { Host } from './upstream/host.ts';

/** Named when a stop cuts them; the others are counted. */
const MAX_OPEN_WORK = 10;

export function describeThread(cells: Cells, withClusters: boolean): ThreadDescription {
  let activeConnections = 0;
  let activeStreams = 0;
  let openWorkCount = 0;
  const openWork: OpenWork[] = [];
  for (const listener of cells.listeners.values()) {
    activeConnections += listener.activeConnections;
    activeStreams += listener.activeStreams;
    openWorkCount += listener.addOpenWork(openWork, MAX_OPEN_WORK);
  }
  return {
    activeConnections,
    activeStreams,
    openWorkCount,
    openWork,
    clusters: withClusters ? [...cells.builtClusters()].map(describeCluster) : [],
  };
}

function describeCluster(cluster: ClusterRuntime): ClusterDescription {
  return { name: cluster.name, hosts: cluster.hosts.map(describeHost) };
}

function describeHost(host: Host): HostDescription {
  return {
    address: host.address.text,
    hostname: host.hostname,
    weight: host.weight,
    priority: host.priority,
    health: host.health,
    configuredHealth: host.configuredHealth,
    flags: { failed_outlier_check: host.ejected, failed_active_hc: host.failedActiveCheck },
    region: host.locality.region,
    zone: host.locality.zone,
    subZone: host.locality.subZone,
    counts: { ...host.counts, rqActive: host.activeRequests, rqPendingActive: 0 },
  };
}
