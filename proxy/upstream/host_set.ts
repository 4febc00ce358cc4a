/**
 * Hosts by priority, and the choice among them. Membership never changes (a new one is made for it); health does, in
 * steps that cost the same however many hosts there are.
 * Source: Envoy docs "Priority levels", "Degraded endpoints", "Panic threshold"; load_balancer_base recalculatePerPriorityState.
 */
import type { LoadBalancerContext } from '../load_balancers/load_balancer.ts';
import { type ChooserOptions, type HostChooser, localityChooser, plainChooser } from './host_chooser.ts';
import type { HealthStatus, Host } from './host.ts';

export interface HostSetOptions extends ChooserOptions {
  readonly panicThresholdPercent: number;
  /** In panic nobody is chosen, instead of everybody. */
  readonly failOnPanic: boolean;
  readonly localityWeighted: boolean;
}

type Kind = 'healthy' | 'degraded' | 'all';

class Priority {
  readonly hosts: Host[] = [];
  healthy = 0;
  degraded = 0;
  readonly choosers: Record<Kind, HostChooser | undefined> = {
    healthy: undefined,
    degraded: undefined,
    all: undefined,
  };

  count(health: HealthStatus, by: number): void {
    if (health === 'healthy') this.healthy += by;
    else if (health === 'degraded') this.degraded += by;
  }
}

/** What one priority gets of the load, in percent. */
interface Load {
  readonly share: number;
  readonly priority: Priority;
  readonly kind: Kind;
}

const NO_CONTEXT_PRIORITIES: ReadonlySet<number> = new Set();

export class HostSet {
  readonly hosts: readonly Host[];
  readonly #options: HostSetOptions;
  readonly #overprovisioningPercent: number;
  readonly #priorities: Priority[] = [];
  #loads: readonly Load[];

  constructor(hosts: readonly Host[], overprovisioningPercent: number, options: HostSetOptions) {
    this.hosts = hosts;
    this.#options = options;
    this.#overprovisioningPercent = overprovisioningPercent;
    for (const host of hosts) {
      for (let missing = this.#priorities.length; missing <= host.priority; missing++)
        this.#priorities.push(new Priority());
      const priority = this.#priorities[host.priority] as Priority;
      priority.hosts.push(host);
      priority.count(host.health, 1);
    }
    this.#loads = this.#share(NO_CONTEXT_PRIORITIES);
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
    this.#loads = this.#share(NO_CONTEXT_PRIORITIES);
  }

  choose(context: LoadBalancerContext): Host | undefined {
    const tried = context.triedPriorities;
    const loads = tried === undefined ? this.#loads : this.#without(tried);
    let load = loads[0];
    if (load === undefined) return undefined;
    if (loads.length > 1) {
      let point = this.#options.random() * 100;
      for (let i = 0; i < loads.length; i++) {
        load = loads[i] as Load;
        point -= load.share;
        if (point < 0) break;
      }
    }
    const { priority, kind } = load;
    priority.choosers[kind] ??= this.#chooser(priority, kind);
    return priority.choosers[kind].choose(context);
  }

  #chooser({ hosts }: Priority, kind: Kind): HostChooser {
    const options = this.#options;
    if (kind === 'all') return plainChooser(hosts, undefined, options);
    return options.localityWeighted
      ? localityChooser(hosts, kind, this.#overprovisioningPercent, options)
      : plainChooser(hosts, kind, options);
  }

  /** For attempts that should go elsewhere; when every priority was tried, all count again. */
  #without(tried: ReadonlySet<number>): readonly Load[] {
    const untried = this.#priorities.some(
      ({ healthy, degraded }, index) => healthy + degraded > 0 && !tried.has(index),
    );
    return untried ? this.#share(tried) : this.#loads;
  }

  /** Splits 100 % of the load over priorities: healthy hosts first, then degraded ones; all hosts in panic. */
  #share(excluded: ReadonlySet<number>): Load[] {
    const { panicThresholdPercent, failOnPanic } = this.#options;
    const availability = (some: number, of: number): number =>
      of === 0 ? 0 : Math.min(100, (this.#overprovisioningPercent * some) / of);
    const levels = this.#priorities
      .filter((_, index) => !excluded.has(index))
      .map((priority) => ({
        priority,
        healthy: availability(priority.healthy, priority.hosts.length),
        degraded: availability(priority.degraded, priority.hosts.length),
      }));
    const totalHealth = Math.min(
      100,
      levels.reduce((sum, { healthy, degraded }) => sum + healthy + degraded, 0),
    );
    const loads: Load[] = [];
    if (totalHealth === 0) {
      // Nobody is healthy: everybody, or nobody, depending on the threshold.
      const first = levels.find(({ priority }) => priority.hosts.length > 0);
      if (first !== undefined && panicThresholdPercent > 0 && !failOnPanic) {
        loads.push({ share: 100, priority: first.priority, kind: 'all' });
      }
      return loads;
    }
    let left = 100;
    const allot = (part: number): number => {
      const share = Math.min(left, Math.round((part * 100) / totalHealth));
      left -= share;
      return share;
    };
    const inPanic = ({ hosts, healthy, degraded }: Priority): boolean =>
      totalHealth < 100 && ((healthy + degraded) * 100) / hosts.length < panicThresholdPercent;
    for (const kind of ['healthy', 'degraded'] as const) {
      for (const level of levels) {
        const share = allot(level[kind]);
        if (share === 0) continue;
        const { priority } = level;
        if (!inPanic(priority)) loads.push({ share, priority, kind });
        else if (!failOnPanic) loads.push({ share, priority, kind: 'all' });
      }
    }
    // What rounding left goes to the first that takes any.
    const [first] = loads;
    if (first !== undefined && left > 0) loads[0] = { ...first, share: first.share + left };
    return loads;
  }
}
