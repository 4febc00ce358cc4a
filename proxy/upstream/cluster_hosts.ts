/** A cluster's membership on one thread: hosts by address, what is known of their health, and the sets to choose from. */
import type { Metadata } from '../http/stream_info.ts';
import type { LoadBalancerContext } from '../load_balancers/load_balancer.ts';
import { type SocketAddress, socketAddress } from '../net/connection_info.ts';
import {
  type ConfiguredHealth,
  healthOf,
  type HealthStatus,
  type Host,
  type HostCounts,
  type Locality,
  noHostCounts,
} from './host.ts';
import { HostSet, type HostSetOptions, type Priority } from './host_set.ts';
import type { LoadKind } from './priority_loads.ts';
import type { Endpoint, LoadAssignment } from './load_assignment.ts';
import { type SubsetConfig, type SubsetStatistics, Subsets } from './subsets.ts';

/** What the control thread says of a host, by address; health that is not in here is what configuration says. */
export interface HostVerdict {
  readonly ejected: boolean;
  readonly failedActiveCheck: boolean;
}

export interface ClusterHostsOptions extends HostSetOptions {
  readonly subsets: SubsetConfig | undefined;
  readonly subsetStatistics?: SubsetStatistics | undefined;
  /** What a host may be that a session asks for. */
  readonly sessionHealth: ReadonlySet<ConfiguredHealth>;
  nowMs(): number;
}

const NONE: readonly SocketAddress[] = [];

export class ClusterHost implements Host {
  readonly address: SocketAddress;
  readonly hostname: string;
  additionalAddresses!: readonly SocketAddress[];
  weight!: number; // What an update may change is set by `take`, which the constructor calls.
  priority!: number;
  locality!: Locality;
  localityWeight!: number;
  metadata!: Metadata | undefined;
  activeRequests = 0;
  readonly counts: HostCounts = noHostCounts();
  configuredHealth!: ConfiguredHealth;
  health: HealthStatus;
  ejected = false;
  failedActiveCheck = false;
  healthySinceMs = 0;

  constructor(endpoint: Endpoint) {
    this.address = socketAddress(endpoint.ip, endpoint.port);
    this.hostname = endpoint.hostname;
    this.take(endpoint);
    this.health = healthOf(endpoint.health);
  }

  /** The same address, as a new membership has it. */
  take({
    additionalAddresses: more,
    weight,
    priority,
    locality,
    localityWeight = 0,
    metadata,
    health,
  }: Endpoint): void {
    this.additionalAddresses = more === undefined ? NONE : more.map(({ ip, port }) => socketAddress(ip, port));
    this.weight = weight;
    this.priority = priority;
    this.locality = locality;
    this.localityWeight = localityWeight;
    this.metadata = metadata;
    this.configuredHealth = health;
  }
}

export class ClusterHosts {
  readonly #options: ClusterHostsOptions;
  readonly #verdicts: ReadonlyMap<string, HostVerdict>;
  /** Hosts are chosen by tables that take time to build. */
  readonly #hashes: boolean;
  #byAddress = new Map<string, ClusterHost>();
  #set: HostSet;
  #subsets: Subsets | undefined = undefined;
  /** The membership before, while the tables of this one are built. */
  #former: HostSet | undefined = undefined;

  /** `verdicts`: live, kept by whoever receives them. */
  constructor(options: ClusterHostsOptions, verdicts: ReadonlyMap<string, HostVerdict>) {
    this.#options = options;
    this.#verdicts = verdicts;
    const { policy } = options.loadBalancer;
    this.#hashes = policy === 'ring_hash' || policy === 'maglev';
    this.#set = new HostSet([], 140, options);
  }

  get hosts(): readonly Host[] {
    return this.#set.hosts;
  }

  get healthyCount(): number {
    return this.#set.healthyCount;
  }

  get priorities(): readonly Priority[] {
    return this.#set.priorities;
  }

  /** Takes a new membership over; hosts whose address stays are the same objects. */
  update(assignment: LoadAssignment): { added: Host[]; removed: Host[] } {
    const before = this.#byAddress;
    const next = new Map<string, ClusterHost>();
    const added: Host[] = [];
    let moved = false;
    for (const endpoint of assignment.endpoints) {
      const { text } = socketAddress(endpoint.ip, endpoint.port);
      if (next.has(text)) continue;
      let host = before.get(text);
      if (host === undefined) {
        host = new ClusterHost(endpoint);
        added.push(host);
      } else {
        moved ||= host.priority !== endpoint.priority;
        host.take(endpoint);
      }
      judge(host, this.#verdicts.get(text));
      next.set(text, host);
    }
    // The first hosts of a cluster are all as new as each other.
    if (before.size > 0) for (const host of added) host.healthySinceMs = this.#options.nowMs();
    const removed = [...before.values()].filter((host) => !next.has(host.address.text));
    this.#byAddress = next;
    const hosts = [...next.values()];
    const former = this.#former ?? this.#set;
    this.#set = new HostSet(hosts, assignment.overprovisioningFactor, this.#options);
    const { subsets, subsetStatistics } = this.#options;
    if (subsets !== undefined) {
      const made = new Subsets(subsets, hosts, assignment.overprovisioningFactor, this.#options, subsetStatistics);
      made.countChanges(this.#subsets);
      this.#subsets = made;
    }
    this.#former = undefined;
    // A host of another priority would not be found where the former set has it.
    if (this.#hashes && this.#subsets === undefined && !moved && former.hosts.length > 0) this.#bridge(former, removed);
    return { added, removed };
  }

  /** The former membership goes on until the tables of the new one are there: without hosts that are gone. */
  #bridge(former: HostSet, removed: readonly ClusterHost[]): void {
    const set = this.#set;
    const { ready } = set;
    if (ready === undefined) return;
    for (const host of removed) host.health = 'unhealthy';
    this.#former = former;
    void ready.then(() => {
      if (this.#set === set) this.#former = undefined;
    });
  }

  /** Resolves when a host can be chosen for this request without building a table; undefined: it can. */
  ready(context: LoadBalancerContext): Promise<unknown> | undefined {
    if (!this.#hashes || this.#former !== undefined) return undefined;
    return this.#subsets === undefined ? this.#set.ready : this.#subsets.ready(context, this.#set);
  }

  /** A verdict has changed: nothing is built again. @returns the host, where its health is another now. */
  verdictChanged(address: string): Host | undefined {
    const host = this.#byAddress.get(address);
    if (host === undefined) return undefined;
    const before = host.health;
    judge(host, this.#verdicts.get(address));
    if (host.health === before) return undefined;
    if (host.health === 'healthy') host.healthySinceMs = this.#options.nowMs();
    this.#set.healthChanged(host, before);
    this.#subsets?.healthChanged(host, before);
    return host;
  }

  choose(context: LoadBalancerContext): Host | undefined {
    const session = this.#hostOfSession(context);
    if (session !== 'any') return session;
    if (this.#former !== undefined) return this.#former.choose(context);
    return this.#subsets === undefined ? this.#set.choose(context) : this.#subsets.choose(context, this.#set);
  }

  /** The priority is chosen already. */
  chooseAt(priority: number, kind: LoadKind, context: LoadBalancerContext): Host | undefined {
    const session = this.#hostOfSession(context);
    if (session !== 'any') return session;
    return this.#subsets === undefined
      ? (this.#former ?? this.#set).chooseAt(priority, kind, context)
      : this.#subsets.choose(context, this.#set);
  }

  #hostOfSession({ overrideHost }: LoadBalancerContext): Host | undefined | 'any' {
    if (overrideHost !== undefined) {
      const host = this.#byAddress.get(overrideHost.address);
      if (host !== undefined && this.#options.sessionHealth.has(detailedHealth(host))) return host;
      if (overrideHost.strict) return undefined;
    }
    return 'any';
  }
}

function judge(host: ClusterHost, verdict: HostVerdict | undefined): void {
  host.ejected = verdict?.ejected ?? false;
  host.failedActiveCheck = verdict?.failedActiveCheck ?? false;
  host.health = healthOf(detailedHealth(host));
}

/** Source: Envoy Upstream::HostImplBase::healthStatus. */
function detailedHealth(host: ClusterHost): ConfiguredHealth {
  return host.ejected || host.failedActiveCheck ? 'unhealthy' : host.configuredHealth;
}
