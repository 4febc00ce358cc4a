/** What the control thread says of hosts, as a thread keeps it: it outlives versions of clusters and their endpoints. */
import type { HostVerdict } from './cluster_hosts.ts';

/** From the control thread. Hosts that are neither ejected nor failed are forgotten. */
export interface VerdictMessage {
  readonly kind: 'host-verdicts';
  readonly cluster: string;
  readonly hosts: readonly (readonly [address: string, ejected: boolean, failedActiveCheck: boolean])[];
}

export class HostVerdicts {
  readonly #byCluster = new Map<string, Map<string, HostVerdict>>();

  /** Live: changes with later messages. */
  of(cluster: string): ReadonlyMap<string, HostVerdict> {
    return this.#map(cluster);
  }

  apply({ cluster, hosts }: VerdictMessage): void {
    const map = this.#map(cluster);
    for (const [address, ejected, failedActiveCheck] of hosts) {
      if (ejected || failedActiveCheck) map.set(address, { ejected, failedActiveCheck });
      else map.delete(address);
    }
  }

  #map(cluster: string): Map<string, HostVerdict> {
    let map = this.#byCluster.get(cluster);
    if (map === undefined) {
      map = new Map();
      this.#byCluster.set(cluster, map);
    }
    return map;
  }
}
