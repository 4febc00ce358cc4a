/** What the control thread has decided of hosts, from all sides together; threads are told each change. */
import type { VerdictMessage } from './host_verdicts.ts';

interface Verdict {
  ejected: boolean;
  failed: boolean;
}

export class VerdictBoard {
  readonly #broadcast: (message: VerdictMessage) => void;
  readonly #byCluster = new Map<string, Map<string, Verdict>>();

  constructor(broadcast: (message: VerdictMessage) => void) {
    this.#broadcast = broadcast;
  }

  setEjected(cluster: string, address: string, ejected: boolean): void {
    this.#change(cluster, address, (verdict) => {
      verdict.ejected = ejected;
    });
  }

  setFailed(cluster: string, address: string, failed: boolean): void {
    this.#change(cluster, address, (verdict) => {
      verdict.failed = failed;
    });
  }

  /** For a thread that is new. */
  messages(): VerdictMessage[] {
    return [...this.#byCluster].map(([cluster, hosts]) => ({
      kind: 'host-verdicts',
      cluster,
      hosts: [...hosts].map(([address, { ejected, failed }]) => [address, ejected, failed] as const),
    }));
  }

  #change(cluster: string, address: string, change: (verdict: Verdict) => void): void {
    const hosts = this.#byCluster.get(cluster) ?? new Map<string, Verdict>();
    const verdict = hosts.get(address) ?? { ejected: false, failed: false };
    change(verdict);
    if (verdict.ejected || verdict.failed) hosts.set(address, verdict);
    else hosts.delete(address);
    if (hosts.size === 0) this.#byCluster.delete(cluster);
    else this.#byCluster.set(cluster, hosts);
    this.#broadcast({ kind: 'host-verdicts', cluster, hosts: [[address, verdict.ejected, verdict.failed]] });
  }
}
