/**
 * The hosts of an aggregate cluster: the priorities of its members one after the other, those of the first member first.
 * Load goes to them as to priorities of one cluster; the member whose priority it is chooses the host, and its pools, TLS
 * and limits carry the request. Source: Envoy docs "Aggregate cluster"; extensions/clusters/aggregate.
 */
import type { LoadBalancerContext } from '../load_balancers/load_balancer.ts';
import type { ClusterRequest } from './cluster.ts';
import type { ClusterLookup } from './cluster_lookup.ts';
import type { ClusterRuntime } from './cluster_runtime.ts';
import type { Host } from './host.ts';
import {
  type PanicOptions,
  pickLoad,
  type PriorityHealth,
  type PriorityLoad,
  sharePriorities,
} from './priority_loads.ts';

/** A priority of a member that has hosts. */
export interface AggregateLevel extends PriorityHealth {
  readonly member: ClusterRuntime;
  /** Within the member. */
  readonly priority: number;
}

/** What was found under a member's name, and which of its memberships the levels were made of. */
export interface AggregatePart {
  readonly name: string;
  /** undefined: there was none. */
  readonly member: ClusterRuntime | undefined;
  readonly version: number | undefined;
}

export interface AggregateOptions extends PanicOptions {
  readonly members: readonly string[];
  readonly clusters: ClusterLookup;
  random(): number;
}

export class AggregateHosts {
  readonly #options: AggregateOptions;
  readonly #owners = new WeakMap<Host, AggregateLevel>();
  #levels: readonly AggregateLevel[] = [];
  #loads: readonly PriorityLoad[] = [];
  /** Members and those of members that are aggregates; undefined: nothing was made yet. */
  #madeOf: readonly AggregatePart[] | undefined = undefined;
  #isLooking = false;

  constructor(options: AggregateOptions) {
    this.#options = options;
  }

  choose(request: ClusterRequest): Host | undefined {
    this.#refresh();
    const load = pickLoad(this.#loadsFor(request), this.#options.random);
    const level = load === undefined ? undefined : this.#levels[load.index];
    if (load === undefined || level === undefined) return undefined;
    const host = level.member.chooseAt(level.priority, load.kind, request);
    if (host !== undefined) this.#owners.set(host, level);
    return host;
  }

  /** Until every member can choose at once; undefined: they can. */
  resolve(request: ClusterRequest): Promise<undefined> | undefined {
    this.#refresh();
    let waits: Promise<unknown>[] | undefined;
    for (const { member } of this.#levels) {
      const wait = member.resolve(request);
      if (wait !== undefined) waits = [...(waits ?? []), wait];
    }
    return waits === undefined ? undefined : Promise.all(waits).then(() => undefined);
  }

  /** The member that a host was chosen of. */
  ownerOf(host: Host): ClusterRuntime | undefined {
    return this.#owners.get(host)?.member;
  }

  /** Those of members that are aggregates themselves are in it. A circle ends where it closes. */
  addLevels(into: AggregateLevel[], madeOf: AggregatePart[]): void {
    if (this.#isLooking) return;
    this.#isLooking = true;
    for (const name of this.#options.members) {
      const member = this.#options.clusters.get(name) as ClusterRuntime | undefined;
      madeOf.push({ name, member, version: member?.membershipVersion });
      member?.addLevels(into, madeOf);
    }
    this.#isLooking = false;
  }

  /** Attempts that should go to other priorities: to those of other members too. */
  #loadsFor({ triedHosts }: LoadBalancerContext): readonly PriorityLoad[] {
    if (triedHosts === undefined) return this.#loads;
    const tried = new Set<number>();
    for (const host of triedHosts) {
      const level = this.#owners.get(host);
      if (level === undefined) continue;
      const index = this.#levels.findIndex(
        ({ member, priority }) => member === level.member && priority === level.priority,
      );
      tried.add(index);
    }
    const untried = this.#levels.some(({ healthy, degraded }, index) => healthy + degraded > 0 && !tried.has(index));
    return untried ? sharePriorities(this.#levels, this.#options, tried) : this.#loads;
  }

  #refresh(): void {
    if (this.#isCurrent()) return;
    const levels: AggregateLevel[] = [];
    const madeOf: AggregatePart[] = [];
    this.addLevels(levels, madeOf);
    this.#madeOf = madeOf;
    this.#levels = levels;
    this.#loads = sharePriorities(levels, this.#options);
  }

  /** Asked with each request, so it allocates nothing: the same clusters have the same members of their own. */
  #isCurrent(): boolean {
    const madeOf = this.#madeOf;
    if (madeOf === undefined) return false;
    const { clusters } = this.#options;
    for (let i = 0; i < madeOf.length; i++) {
      const { name, member, version } = madeOf[i] as AggregatePart;
      if (clusters.get(name) !== member || member?.membershipVersion !== version) return false;
    }
    return true;
  }
}
