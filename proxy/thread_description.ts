/** What a data thread says of itself when admin or drain asks. */
import { getHeapStatistics } from 'node:v8';
import type { Cells } from './cells.ts';
import { deadlineCounts } from './net/deadlines.ts';
import type {
  ClusterCursor,
  ClusterDescription,
  ClustersPart,
  HostDescription,
  OpenWork,
  ThreadDescription,
  ThreadResources,
} from './thread_messages.ts';
import type { Host } from './upstream/host.ts';

/** Named when a stop cuts them; the others are counted. */
const MAX_OPEN_WORK = 10;
/** 3 µs each to describe, as much again for either end of the message. */
const PART_HOSTS = 128;

export function describeThread(cells: Cells): ThreadDescription {
  let activeConnections = 0;
  let activeStreams = 0;
  let openWorkCount = 0;
  const openWork: OpenWork[] = [];
  for (const listener of cells.listeners.values()) {
    activeConnections += listener.activeConnections;
    activeStreams += listener.activeStreams;
    openWorkCount += listener.addOpenWork(openWork, MAX_OPEN_WORK);
  }
  return { activeConnections, activeStreams, openWorkCount, openWork, resources: resources() };
}

function resources(): ThreadResources {
  const { timers, armed } = deadlineCounts();
  return {
    heapBytes: getHeapStatistics().used_heap_size,
    handles: process.getActiveResourcesInfo().length,
    timers,
    deadlines: armed,
  };
}

/** The hosts of clusters that traffic has asked for, from `from` on. */
export function describeClusters(cells: Cells, from: ClusterCursor): ClustersPart {
  const clusters: ClusterDescription[] = [];
  let left = PART_HOSTS;
  let index = -1;
  for (const { name, hosts } of cells.builtClusters()) {
    index++;
    if (index < from.cluster) continue;
    if (left <= 0) return { clusters, next: { cluster: index, host: 0 } };
    const start = index === from.cluster ? from.host : 0;
    const end = Math.min(hosts.length, start + left);
    clusters.push({ name, hosts: hosts.slice(start, end).map(describeHost) });
    if (end < hosts.length) return { clusters, next: { cluster: index, host: end } };
    left -= Math.max(1, end - start);
  }
  return { clusters, next: undefined };
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
