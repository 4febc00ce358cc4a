/**
 * A cluster's hosts by priority, and the choice among them.
 * Source: Envoy docs "Priority levels", "Degraded endpoints", "Panic threshold"; load_balancer_base recalculatePerPriorityState.
 */
import { createLoadBalancer } from '../load_balancers/index.ts';
import type { LoadBalancer, LoadBalancerConfig, LoadBalancerContext } from '../load_balancers/load_balancer.ts';
import { type SocketAddress, socketAddress } from '../net/connection_info.ts';
import type { Metadata } from '../http/stream_info.ts';
import { type HealthStatus, type Host, type Locality, noHostCounts } from './host.ts';
import type { Endpoint, LoadAssignment } from './load_assignment.ts';

export interface HostSetOptions {
  readonly loadBalancer: LoadBalancerConfig;
  readonly panicThresholdPercent: number;
  readonly random: () => number;
}

/** The hosts of one priority that one kind of request may get, with their balancer made on first use. */
interface Group {
  readonly share: number;
  readonly hosts: readonly Host[];
  balancer: LoadBalancer | undefined;
}

export class ClusterHost implements Host {
  readonly address: SocketAddress;
  readonly hostname: string;
  weight: number;
  priority: number;
  locality: Locality;
  metadata: Metadata | undefined;
  activeRequests = 0;
  readonly counts = noHostCounts();
  configuredHealth: HealthStatus;
  health: HealthStatus;

  constructor(endpoint: Endpoint) {
    this.address = socketAddress(endpoint.ip, endpoint.port);
    this.hostname = endpoint.hostname;
    this.weight = endpoint.weight;
    this.priority = endpoint.priority;
    this.locality = endpoint.locality;
    this.metadata = endpoint.metadata;
    this.configuredHealth = endpoint.health;
    this.health = endpoint.health;
  }
}

export class HostSet {
  readonly #options: HostSetOptions;
  #byAddress = new Map<string, ClusterHost>();
  /** Groups with a share of the load, in order of preference. */
  #groups: readonly Group[] = [];

  constructor(options: HostSetOptions) {
    this.#options = options;
  }

  get hosts(): readonly Host[] {
    return [...this.#byAddress.values()];
  }

  get healthyCount(): number {
    let count = 0;
    for (const host of this.#byAddress.values()) if (host.health === 'healthy') count++;
    return count;
  }

  /** Takes a new membership over; hosts whose address stays are the same objects. */
  update(assignment: LoadAssignment): { added: Host[]; removed: Host[] } {
    const before = this.#byAddress;
    const next = new Map<string, ClusterHost>();
    const added: Host[] = [];
    for (const endpoint of assignment.endpoints) {
      const { text } = socketAddress(endpoint.ip, endpoint.port);
      if (next.has(text)) continue;
      const kept = before.get(text);
      if (kept === undefined) {
        const made = new ClusterHost(endpoint);
        next.set(text, made);
        added.push(made);
        continue;
      }
      kept.weight = endpoint.weight;
      kept.priority = endpoint.priority;
      kept.locality = endpoint.locality;
      kept.metadata = endpoint.metadata;
      kept.configuredHealth = endpoint.health;
      kept.health = endpoint.health;
      next.set(text, kept);
    }
    const removed = [...before.values()].filter((host) => !next.has(host.address.text));
    this.#byAddress = next;
    this.#groups = this.#share([...next.values()], assignment.overprovisioningFactor);
    return { added, removed };
  }

  choose(context: LoadBalancerContext): Host | undefined {
    const groups = this.#groups;
    let group = groups[0];
    if (group === undefined) return undefined;
    if (groups.length > 1) {
      let point = this.#options.random() * 100;
      for (const candidate of groups) {
        group = candidate;
        point -= candidate.share;
        if (point < 0) break;
      }
    }
    group.balancer ??= createLoadBalancer(this.#options.loadBalancer, {
      hosts: group.hosts,
      random: this.#options.random,
    });
    return group.balancer.chooseHost(context);
  }

  /** Splits 100 % of the load over priorities: healthy hosts first, then degraded ones; all hosts in panic. */
  #share(hosts: readonly Host[], overprovisioningFactor: number): Group[] {
    const count = hosts.reduce((highest, host) => Math.max(highest, host.priority + 1), 0);
    const priorities = Array.from({ length: count }, (_, priority) => {
      const all = hosts.filter((host) => host.priority === priority);
      const healthy = all.filter((host) => host.health === 'healthy');
      const degraded = all.filter((host) => host.health === 'degraded');
      const availability = (some: readonly Host[]): number =>
        all.length === 0 ? 0 : Math.min(100, (overprovisioningFactor * some.length) / all.length);
      return { all, healthy, degraded, healthyShare: availability(healthy), degradedShare: availability(degraded) };
    });
    const totalHealth = Math.min(
      100,
      priorities.reduce((sum, { healthyShare, degradedShare }) => sum + healthyShare + degradedShare, 0),
    );
    const groups: Group[] = [];
    if (totalHealth === 0) {
      // Nobody is healthy: everybody, or nobody, depending on the threshold.
      const first = priorities.find(({ all }) => all.length > 0);
      if (first !== undefined && this.#options.panicThresholdPercent > 0) {
        groups.push({ share: 100, hosts: first.all, balancer: undefined });
      }
      return groups;
    }
    let left = 100;
    const allot = (availability: number): number => {
      const share = Math.min(left, Math.round((availability * 100) / totalHealth));
      left -= share;
      return share;
    };
    const inPanic = ({ all, healthy, degraded }: (typeof priorities)[number]): boolean =>
      totalHealth < 100 &&
      ((healthy.length + degraded.length) * 100) / all.length < this.#options.panicThresholdPercent;
    for (const kind of ['healthy', 'degraded'] as const) {
      for (const priority of priorities) {
        const share = allot(kind === 'healthy' ? priority.healthyShare : priority.degradedShare);
        if (share === 0) continue;
        groups.push({ share, hosts: inPanic(priority) ? priority.all : priority[kind], balancer: undefined });
      }
    }
    // What rounding left goes to the first that takes any.
    const [first] = groups;
    if (first !== undefined && left > 0) groups[0] = { ...first, share: first.share + left };
    return groups;
  }
}
