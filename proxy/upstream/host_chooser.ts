/** Chooses among the hosts of one priority and one kind of health, by locality weights where those are asked for. */
import { createLoadBalancer } from '../load_balancers/index.ts';
import type { HashTables } from '../load_balancers/hash_tables.ts';
import { LiveHosts, type SlowStart } from '../load_balancers/live_hosts.ts';
import type { LoadBalancer, LoadBalancerConfig, LoadBalancerContext } from '../load_balancers/load_balancer.ts';
import type { HealthStatus, Host } from './host.ts';

export interface ChooserOptions {
  readonly loadBalancer: LoadBalancerConfig;
  readonly slowStart: SlowStart | undefined;
  readonly random: () => number;
  readonly tables?: HashTables;
}

export interface HostChooser {
  /** Resolves when it can choose without building anything; undefined: it can. */
  readonly ready: Promise<unknown> | undefined;
  choose(context: LoadBalancerContext): Host | undefined;
  /** A host's health has changed. */
  changed(host: Host): void;
}

/** `kind` undefined: every host, in panic. */
export function plainChooser(
  hosts: readonly Host[],
  kind: HealthStatus | undefined,
  options: ChooserOptions,
): HostChooser {
  const live = new LiveHosts(hosts, kind, options.slowStart);
  const { loadBalancer, random, tables } = options;
  let made: LoadBalancer | undefined;
  const balancer = (): LoadBalancer =>
    (made ??= createLoadBalancer(loadBalancer, { hosts, live, random, ...(tables !== undefined && { tables }) }));
  return {
    get ready() {
      return balancer().ready;
    },
    choose: (context) => (made ?? balancer()).chooseHost(context),
    changed: (host) => live.changed(host),
  };
}

interface LocalityGroup {
  readonly weight: number;
  readonly hosts: Host[];
  chooser: HostChooser | undefined;
}

/**
 * Localities by weight, less where too few of their hosts are there. Source: Envoy docs "Locality weighted load
 * balancing": weight × min(1, overprovisioning × available / total).
 */
export function localityChooser(
  hosts: readonly Host[],
  kind: HealthStatus,
  overprovisioningPercent: number,
  options: ChooserOptions,
): HostChooser {
  const groups = new Map<string, LocalityGroup>();
  const keyOf = ({ locality: { region, zone, subZone } }: Host): string => `${region}\0${zone}\0${subZone}`;
  for (const host of hosts) {
    const key = keyOf(host);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, { weight: host.localityWeight, hosts: [host], chooser: undefined });
    else group.hosts.push(host);
  }
  const list = [...groups.values()];
  let sums: number[] | undefined;
  const weigh = (): number[] => {
    let total = 0;
    return list.map((group) => {
      let available = 0;
      for (const host of group.hosts) if (host.health === kind) available++;
      total += group.weight * Math.min(1, (overprovisioningPercent * available) / (100 * group.hosts.length));
      return total;
    });
  };
  const chooserOf = (group: LocalityGroup): HostChooser => (group.chooser ??= plainChooser(group.hosts, kind, options));
  return {
    get ready() {
      return allOf(list.map((group) => chooserOf(group).ready));
    },
    choose(context) {
      sums ??= weigh();
      const total = sums[sums.length - 1] as number;
      // No locality has a weight: nobody gets anything, as in Envoy.
      if (total === 0) return undefined;
      const point = options.random() * total;
      let index = 0;
      while (index < sums.length - 1 && point >= (sums[index] as number)) index++;
      const group = list[index] as LocalityGroup;
      return chooserOf(group).choose(context);
    },
    changed(host) {
      sums = undefined;
      groups.get(keyOf(host))?.chooser?.changed(host);
    },
  };
}

/** undefined where none of them is to be waited for. */
export function allOf(promises: readonly (Promise<unknown> | undefined)[]): Promise<unknown> | undefined {
  const some = promises.filter((promise) => promise !== undefined);
  return some.length === 0 ? undefined : Promise.all(some);
}
