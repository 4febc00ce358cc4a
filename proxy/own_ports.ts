/** The ports that the proxy opens for itself: admin, readiness, metrics, Istio's agent port, names. */
import { writeFile } from 'node:fs/promises';
import { startAdmin } from './admin/server.ts';
import type { AdminServer, AdminState } from './admin/state.ts';
import { DnsThread } from './dns/dns_thread.ts';
import type { NameTableData } from './dns/name_table.ts';
import type { ListenAddress, ProxyOptions } from './proxy_options.ts';
import type { Statistics } from './telemetry/statistics.ts';

const NAMES: ReadonlySet<string> = new Set(['admin', 'status', 'metrics', 'agent', 'dns']);

export class OwnPorts {
  readonly #options: ProxyOptions;
  readonly #dns: DnsThread | undefined;
  readonly #admins: AdminServer[] = [];

  constructor(options: ProxyOptions, statistics: Statistics) {
    this.#options = options;
    this.#dns = options.dns === undefined ? undefined : new DnsThread(options.dns, options.log, statistics);
  }

  /** Whether a name of `RunningProxy.addresses` is one of these, not a listener's. */
  static has(name: string): boolean {
    return NAMES.has(name);
  }

  /** What a start waits for, in words. */
  get waiting(): readonly string[] {
    return this.#dns?.ready === false ? ['DNS names'] : [];
  }

  /** Puts the real addresses into `addresses`. Rejects with BindError at the first that is taken. */
  async open(state: AdminState, addresses: Map<string, ListenAddress>): Promise<void> {
    const { admin, status, metrics, agent, adminAddressPath, dns } = this.#options;
    if (this.#dns !== undefined) addresses.set('dns', { ip: dns?.ip ?? '', port: await this.#dns.listen() });
    for (const [kind, address] of [
      ['admin', admin],
      ['status', status],
      ['metrics', metrics],
      ['agent', agent?.address],
    ] as const) {
      if (address === undefined) continue;
      const server = await startAdmin(state, address, kind);
      this.#admins.push(server);
      addresses.set(kind, server.address);
      if (kind === 'admin' && adminAddressPath !== undefined) {
        await writeFile(adminAddressPath, `${server.address.ip}:${server.address.port}`);
      }
    }
  }

  setNames(names: NameTableData): void {
    this.#dns?.setTable(names);
  }

  async close(): Promise<void> {
    await this.#dns?.close();
    await Promise.all(this.#admins.map((server) => server.close()));
  }
}
