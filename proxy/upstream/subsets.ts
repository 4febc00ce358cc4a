/** Subsets of a cluster's hosts by endpoint metadata. Envoy: envoy.config.cluster.v3.Cluster.LbSubsetConfig. */
import type { LoadBalancerContext } from '../load_balancers/load_balancer.ts';
import type { HealthStatus, Host } from './host.ts';
import { allOf } from './host_chooser.ts';
import { HostSet, type HostSetOptions } from './host_set.ts';
import type { Counter, Gauge } from '../telemetry/statistics.ts';

export type SubsetFallback = 'none' | 'any_endpoint' | 'default_subset';

export interface SubsetConfig {
  /** What happens where no subset fits. Default none: 503. */
  readonly fallback: SubsetFallback;
  readonly defaultSubset: Readonly<Record<string, unknown>>;
  readonly selectors: readonly SubsetSelector[];
}

export interface SubsetSelector {
  /** Sorted. */
  readonly keys: readonly string[];
  /** undefined: the configuration's. */
  readonly fallback: SubsetFallback | undefined;
}

type Labels = Readonly<Record<string, unknown>>;

/** Envoy's `cluster.<name>.lb_subsets_…`. */
export interface SubsetStatistics {
  readonly active: Gauge;
  readonly created: Counter;
  readonly removed: Counter;
  readonly selected: Counter;
  readonly fallback: Counter;
}

export class Subsets {
  readonly #config: SubsetConfig;
  readonly #statistics: SubsetStatistics | undefined;
  /** By selector (its keys), then by values; made when the membership comes. */
  readonly #sets = new Map<string, { readonly selector: SubsetSelector; readonly byValues: Map<string, HostSet> }>();
  readonly #default: HostSet;
  /** Of each host: the sets that it is in. */
  readonly #of = new Map<Host, HostSet[]>();

  constructor(
    config: SubsetConfig,
    hosts: readonly Host[],
    overprovisioningPercent: number,
    options: HostSetOptions,
    statistics?: SubsetStatistics,
  ) {
    this.#config = config;
    this.#statistics = statistics;
    const make = (members: readonly Host[]): HostSet => {
      const set = new HostSet(members, overprovisioningPercent, options);
      for (const host of members) {
        const sets = this.#of.get(host);
        if (sets === undefined) this.#of.set(host, [set]);
        else sets.push(set);
      }
      return set;
    };
    for (const selector of config.selectors) {
      const members = new Map<string, Host[]>();
      for (const host of hosts) {
        const values = valuesOf(selector.keys, labelsOf(host));
        if (values === undefined) continue;
        const some = members.get(values);
        if (some === undefined) members.set(values, [host]);
        else some.push(host);
      }
      const byValues = new Map([...members].map(([values, some]) => [values, make(some)]));
      this.#sets.set(selector.keys.join('\0'), { selector, byValues });
    }
    const wanted = Object.entries(config.defaultSubset);
    this.#default = make(
      config.fallback === 'default_subset' || config.selectors.some(({ fallback }) => fallback === 'default_subset')
        ? hosts.filter((host) => wanted.every(([key, value]) => same(labelsOf(host)[key], value)))
        : [],
    );
  }

  /** Counts what has come and gone since `before`. */
  countChanges(before: Subsets | undefined): void {
    if (this.#statistics === undefined) return;
    const [old, now] = [before === undefined ? new Set<string>() : before.#keys(), this.#keys()];
    this.#statistics.created.add([...now].filter((key) => !old.has(key)).length);
    this.#statistics.removed.add([...old].filter((key) => !now.has(key)).length);
    this.#statistics.active.set(now.size);
  }

  #keys(): Set<string> {
    return new Set(
      [...this.#sets].flatMap(([keys, { byValues }]) => [...byValues.keys()].map((key) => `${keys} ${key}`)),
    );
  }

  /** Resolves when hosts can be chosen for this request without building anything; undefined: they can. */
  ready(context: LoadBalancerContext, all: HostSet): Promise<unknown> | undefined {
    const wanted = context.metadataMatch?.['envoy.lb'];
    if (wanted === undefined) return allOf([all.ready, this.#default.ready]);
    const keys = Object.keys(wanted).sort();
    const set = this.#sets.get(keys.join('\0'))?.byValues.get(valuesOf(keys, wanted) as string);
    return (set ?? all).ready;
  }

  /** `all`: the whole membership. */
  choose(context: LoadBalancerContext, all: HostSet): Host | undefined {
    const wanted = context.metadataMatch?.['envoy.lb'];
    let fallback = this.#config.fallback;
    if (wanted !== undefined) {
      const keys = Object.keys(wanted).sort();
      const found = this.#sets.get(keys.join('\0'));
      if (found !== undefined) {
        const set = found.byValues.get(valuesOf(keys, wanted) as string);
        const host = set?.choose(context);
        if (host !== undefined) {
          this.#statistics?.selected.inc();
          return host;
        }
        fallback = found.selector.fallback ?? fallback;
      }
    }
    if (fallback === 'none') return undefined;
    this.#statistics?.fallback.inc();
    return (fallback === 'any_endpoint' ? all : this.#default).choose(context);
  }

  healthChanged(host: Host, before: HealthStatus): void {
    for (const set of this.#of.get(host) ?? []) set.healthChanged(host, before);
  }
}

function labelsOf(host: Host): Labels {
  return host.metadata?.['envoy.lb'] ?? {};
}

/** undefined: one of the keys is not there. */
function valuesOf(keys: readonly string[], labels: Labels): string | undefined {
  const values: unknown[] = [];
  for (const key of keys) {
    if (!Object.hasOwn(labels, key)) return undefined;
    values.push(labels[key]);
  }
  return JSON.stringify(values);
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b);
}
