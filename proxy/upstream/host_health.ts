/** Who of all clusters' hosts may be sent requests: outlier detection on the control thread, told to all threads. */
import type { Logger } from '../telemetry/log.ts';
import type { Statistics } from '../telemetry/statistics.ts';
import { socketAddress } from '../net/connection_info.ts';
import { BreakerGauges } from './breaker_gauges.ts';
import type { ClusterConfig } from './cluster_config.ts';
import {
  clearStreaks,
  createReportRow,
  type HostReport,
  HostReports,
  rateOf,
  type ReportMemory,
  type ReportRow,
} from './host_reports.ts';
import type { VerdictMessage } from './host_verdicts.ts';
import type { LoadAssignment } from './load_assignment.ts';
import type { OutlierCause } from './outlier_config.ts';
import type { BreakerMemory } from './shared_breakers.ts';
import { type OutlierEvent, OutlierMonitor } from './outlier_monitor.ts';

export interface HostHealthDeps {
  readonly memory: ReportMemory;
  readonly breakers: BreakerMemory;
  /** The control thread's own way to the slots: what it watches stays while threads come and go. */
  readonly reports: HostReports;
  /** Of living threads. */
  rows(): readonly ReportRow[];
  readonly statistics: Statistics;
  readonly log: Logger;
  /** ClusterLoadAssignment. */
  readAssignment(json: unknown): LoadAssignment;
  broadcast(message: VerdictMessage): void;
}

/** The data threads. */
interface Threads {
  readonly breakers: BreakerMemory;
  readonly reports: ReportMemory;
  readonly reportRows: readonly ReportRow[];
  broadcast(message: VerdictMessage): void;
}

interface Watched {
  readonly config: ClusterConfig;
  readonly monitor: OutlierMonitor;
  readonly timer: NodeJS.Timeout;
  readonly reports: Map<string, HostReport | undefined>;
}

export class HostHealth {
  readonly #deps: HostHealthDeps;
  readonly #gauges: BreakerGauges;
  readonly #watched = new Map<string, Watched>();
  /** Newest memberships by their own name, of clusters that are watched. */
  readonly #wantedBy = new Map<string, Set<string>>();

  constructor(deps: HostHealthDeps) {
    this.#deps = deps;
    this.#gauges = new BreakerGauges(deps.breakers, deps.statistics);
  }

  static over(
    threads: Threads,
    statistics: Statistics,
    log: Logger,
    readAssignment: HostHealthDeps['readAssignment'],
  ): HostHealth {
    const { reports: memory } = threads;
    return new HostHealth({
      breakers: threads.breakers,
      memory,
      reports: new HostReports(memory, createReportRow(memory)),
      rows: () => threads.reportRows,
      statistics,
      log,
      readAssignment,
      broadcast: (message) => threads.broadcast(message),
    });
  }

  /** A version of a cluster is served. `endpoints`: a load assignment by name, as JSON. */
  serve(config: ClusterConfig, endpoints: (name: string) => unknown): void {
    this.#gauges.serve(config);
    const known = this.#watched.get(config.name);
    if (config.outlier === undefined) {
      this.#unwatch(config.name);
      return;
    }
    let watched: Watched;
    if (known === undefined) watched = this.#watch(config, config.outlier);
    else {
      known.monitor.setConfig(config.outlier);
      clearInterval(known.timer);
      watched = { ...known, config, timer: this.#timer(known.monitor) };
      this.#watched.set(config.name, watched);
    }
    this.#want(membershipName(config), config.name);
    const own = endpoints(membershipName(config));
    const members = own === undefined ? config.inlineAssignment : this.#deps.readAssignment(own);
    if (members !== undefined) this.#members(watched, members);
  }

  drop(cluster: string): void {
    this.#gauges.drop(cluster);
    this.#unwatch(cluster);
  }

  #unwatch(cluster: string): void {
    const watched = this.#watched.get(cluster);
    if (watched === undefined) return;
    clearInterval(watched.timer);
    watched.monitor.close();
    for (const address of watched.reports.keys()) this.#deps.reports.close(cluster, address);
    this.#watched.delete(cluster);
    this.#wantedBy.get(membershipName(watched.config))?.delete(cluster);
  }

  /** New members of the clusters that want them: others are not decoded. */
  endpoints(resource: { readonly name: string; readonly json: unknown }): void {
    const { name } = resource;
    if ((this.#wantedBy.get(name)?.size ?? 0) === 0) return;
    const assignment = this.#deps.readAssignment(resource.json);
    for (const cluster of this.#wantedBy.get(name) ?? []) {
      const watched = this.#watched.get(cluster);
      if (watched !== undefined) this.#members(watched, assignment);
    }
  }

  /** From a data thread. */
  found(cluster: string, address: string, cause: OutlierCause): void {
    this.#watched.get(cluster)?.monitor.found(address, cause);
  }

  /** For a thread that is new. */
  verdicts(): VerdictMessage[] {
    const messages: VerdictMessage[] = [];
    for (const [cluster, { monitor }] of this.#watched) {
      const hosts = [...monitor.ejectedAddresses()].map((address) => [address, true, false] as const);
      if (hosts.length > 0) messages.push({ kind: 'host-verdicts', cluster, hosts });
    }
    return messages;
  }

  stop(): void {
    this.#gauges.stop();
    for (const { timer } of this.#watched.values()) clearInterval(timer);
  }

  #watch(config: ClusterConfig, outlier: NonNullable<ClusterConfig['outlier']>): Watched {
    const { memory, statistics, broadcast, rows } = this.#deps;
    const { name } = config;
    const reports: Watched['reports'] = new Map();
    const reportOf = (address: string): HostReport | undefined => {
      if (!reports.has(address)) reports.set(address, this.#deps.reports.open(name, address));
      return reports.get(address);
    };
    const monitor = new OutlierMonitor(outlier, {
      cluster: name,
      statistics,
      statName: config.altStatName,
      nowMs: () => performance.now(),
      random: Math.random,
      publish: (address, ejected) =>
        broadcast({ kind: 'host-verdicts', cluster: name, hosts: [[address, ejected, false]] }),
      clearStreaks: (address) => {
        const report = reportOf(address);
        if (report !== undefined) clearStreaks(memory, report.slot);
      },
      rate: (address, local) => {
        const report = reportOf(address);
        return report === undefined ? [0, 0] : rateOf(rows(), report.slot, local);
      },
      log: (event) => this.#log(event),
    });
    const watched: Watched = { config, monitor, timer: this.#timer(monitor), reports };
    this.#watched.set(name, watched);
    return watched;
  }

  #timer(monitor: OutlierMonitor): NodeJS.Timeout {
    return setInterval(() => monitor.look(), monitor.intervalMs).unref();
  }

  #members({ config, monitor, reports }: Watched, { endpoints }: LoadAssignment): void {
    const addresses = new Set(endpoints.map(({ ip, port }) => socketAddress(ip, port).text));
    monitor.setHosts([...addresses]);
    for (const address of [...reports.keys()]) {
      if (addresses.has(address)) continue;
      if (reports.get(address) !== undefined) this.#deps.reports.close(config.name, address);
      reports.delete(address);
    }
  }

  #want(membership: string, cluster: string): void {
    const set = this.#wantedBy.get(membership);
    if (set === undefined) this.#wantedBy.set(membership, new Set([cluster]));
    else set.add(cluster);
  }

  #log({ action, cluster, address, cause, ejections, enforced, durationMs }: OutlierEvent): void {
    const seconds = Math.round(durationMs / 100) / 10;
    const text =
      action === 'uneject'
        ? `Host ${address} of cluster "${cluster}" is back after ${seconds} s`
        : enforced
          ? `Host ${address} of cluster "${cluster}" is ejected for ${seconds} s: ${WORDS[cause as OutlierCause]}`
          : `Host ${address} of cluster "${cluster}" would be ejected, were it enforced: ${WORDS[cause as OutlierCause]}`;
    this.#deps.log.log(action === 'eject' ? 'warning' : 'info', 'outlier', text, {
      action,
      cluster_name: cluster,
      upstream_url: address,
      ...(cause !== undefined && { type: cause.toUpperCase() }),
      num_ejections: ejections,
      enforced,
    });
  }
}

const WORDS: Readonly<Record<OutlierCause, string>> = {
  consecutive_5xx: 'too many 5xx answers in a row',
  consecutive_gateway_failure: 'too many gateway failures in a row',
  consecutive_local_origin_failure: 'too many failed connections or timeouts in a row',
  success_rate: 'its success rate is far below that of the others',
  local_origin_success_rate: 'its connections succeed far more rarely than those of the others',
  failure_percentage: 'too large a share of its answers are failures',
  local_origin_failure_percentage: 'too large a share of its connections fail',
};

/** Under which name endpoints of a cluster come. */
function membershipName({ name, discovery }: ClusterConfig): string {
  return discovery.kind === 'eds' ? discovery.serviceName : name;
}
