/**
 * Hosts by priority, and the choice among them. Membership never changes (a new one is made for it); health does, in
 * steps that cost the same however many hosts there are.
 */
import type { LoadBalancerContext } from '../load_balancers/load_balancer.ts';
import { allOf, type ChooserOptions, type HostChooser, localityChooser, plainChooser } from './host_chooser.ts';
import type { HealthStatus, Host } from './host.ts';
import { type LoadKind, type PanicOptions, pickLoad, type PriorityLoad, sharePriorities } from './priority_loads.ts';

export interface HostSetOptions extends ChooserOptions, PanicOptions {
  readonly localityWeighted: boolean;
  /** Told of each choice among all hosts because too few are healthy. */
  readonly onPanic?: () => void;
}

export class Priority {
  readonly hosts: Host[] = [];
  readonly overprovisioningPercent: number;
  healthy = 0;
  degraded = 0;
  readonly choosers: Record<LoadKind, HostChooser | undefined> = {
    healthy: undefined,
    degraded: undefined,
    all: undefined,
  };

  constructor(overprovisioningPercent: number) {
    this.overprovisioningPercent = overprovisioningPercent;
  }

  get total(): number {
    return this.hosts.length;
  }

  count(health: HealthStatus, by: number): void {
    if (health === 'healthy') this.healthy += by;
    else if (health === 'degraded') this.degraded += by;
  }
}

export class HostSet {
  readonly hosts: readonly Host[];
  readonly #options: HostSetOptions;
  readonly #priorities: Priority[] = [];
  #loads: readonly PriorityLoad[];
  /** Hosts can be chosen by these loads without building anything. */
  #readyFor: readonly PriorityLoad[] | undefined = undefined;

  constructor(hosts: readonly Host[], overprovisioningPercent: number, options: HostSetOptions) {
    this.hosts = hosts;
    this.#options = options;
    for (const host of hosts) {
      for (let missing = this.#priorities.length; missing <= host.priority; missing++)
        this.#priorities.push(new Priority(overprovisioningPercent));
      const priority = this.#priorities[host.priority] as Priority;
      priority.hosts.push(host);
      priority.count(host.health, 1);
    }
    this.#loads = sharePriorities(this.#priorities, options);
  }

  get priorities(): readonly Priority[] {
    return this.#priorities;
  }

  get healthyCount(): number {
    return this.#priorities.reduce((sum, { healthy }) => sum + healthy, 0);
  }

  /** `before`: what host.health was. */
  healthChanged(host: Host, before: HealthStatus): void {
    const priority = this.#priorities[host.priority] as Priority;
    priority.count(before, -1);
    priority.count(host.health, 1);
    const { healthy, degraded } = priority.choosers;
    healthy?.changed(host);
    degraded?.changed(host);
    this.#loads = sharePriorities(this.#priorities, this.#options);
  }

  /** Resolves when hosts can be chosen without building anything; undefined: they can. */
  get ready(): Promise<unknown> | undefined {
    const loads = this.#loads;
    if (this.#readyFor === loads) return undefined;
    const ready = allOf(
      loads.map(({ index, kind }) => this.#chooserOf(this.#priorities[index] as Priority, kind).ready),
    );
    if (ready === undefined) this.#readyFor = loads;
    return ready;
  }

  choose(context: LoadBalancerContext): Host | undefined {
    const tried = context.triedPriorities;
    const load = pickLoad(tried === undefined ? this.#loads : this.#without(tried), this.#options.random);
    return load === undefined ? undefined : this.#chooseOf(load.index, load.kind, context);
  }

  /** Somebody else has chosen the priority (an aggregate cluster); whether it is in panic is decided here. */
  chooseAt(index: number, kind: LoadKind, context: LoadBalancerContext): Host | undefined {
    const { panicThresholdPercent, failOnPanic } = this.#options;
    if (kind === 'all') {
      return panicThresholdPercent > 0 && !failOnPanic ? this.#chooseOf(index, kind, context) : undefined;
    }
    const own = this.#loads.find((load) => load.index === index);
    return this.#chooseOf(index, own?.kind === 'all' ? 'all' : kind, context);
  }

  #chooseOf(index: number, kind: LoadKind, context: LoadBalancerContext): Host | undefined {
    const priority = this.#priorities[index];
    if (kind === 'all') this.#options.onPanic?.();
    return priority === undefined ? undefined : this.#chooserOf(priority, kind).choose(context);
  }

  #chooserOf(priority: Priority, kind: LoadKind): HostChooser {
    priority.choosers[kind] ??= this.#chooser(priority, kind);
    return priority.choosers[kind];
  }

  #chooser({ hosts, overprovisioningPercent }: Priority, kind: LoadKind): HostChooser {
    const options = this.#options;
    if (kind === 'all') return plainChooser(hosts, undefined, options);
    return options.localityWeighted
      ? localityChooser(hosts, kind, overprovisioningPercent, options)
      : plainChooser(hosts, kind, options);
  }

  /** For attempts that should go elsewhere; when every priority was tried, all count again. */
  #without(tried: ReadonlySet<number>): readonly PriorityLoad[] {
    const untried = this.#priorities.some(
      ({ healthy, degraded }, index) => healthy + degraded > 0 && !tried.has(index),
    );
    return untried ? sharePriorities(this.#priorities, this.#options, tried) : this.#loads;
  }
}
