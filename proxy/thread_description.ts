/** What a data thread says of itself when admin or drain asks. */
import type { Cells } from './cells.ts';
import type { ClusterDescription, HostDescription, ThreadDescription } from './thread_messages.ts';
import type { ClusterRuntime } from './upstream/cluster_runtime.ts';
import type { Host } from './upstream/host.ts';

export function describeThread(cells: Cells): ThreadDescription {
  let activeConnections = 0;
  let activeStreams = 0;
  const activeClients: string[] = [];
  for (const listener of cells.listeners.values()) {
    activeConnections += listener.activeConnections;
    activeStreams += listener.activeStreams;
    activeClients.push(...listener.activeClients());
  }
  return { activeConnections, activeStreams, activeClients, clusters: [...cells.builtClusters()].map(describeCluster) };
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
