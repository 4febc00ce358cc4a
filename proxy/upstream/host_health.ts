/** Who of all clusters' hosts may be sent requests: outlier detection on the control thread, told to all threads. */
import type { Logger } from '../telemetry/log.ts';
import type { Aggregate } from '../telemetry/aggregate.ts';
import type { Statistics } from '../telemetry/statistics.ts';
import { socketAddress } from '../net/connection_info.ts';
import { ActiveChecks, type ActiveChecksDeps } from './active_checks.ts';
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
import type { HealthCheck, ProbeAnswer } from './health_check.ts';
import type { OutlierCause, OutlierConfig } from './outlier_config.ts';
import type { BreakerMemory } from './shared_breakers.ts';
import { VerdictBoard } from './verdict_board.ts';
import { type OutlierEvent, OutlierMonitor } from './outlier_monitor.ts';

export interface HostHealthDeps {
  readonly memory: ReportMemory;
  readonly breakers: BreakerMemory;
  /** The control thread's own way to the slots: what it watches stays while threads come and go. */
  readonly reports: HostReports;
  /** Of living threads. */
  rows(): readonly ReportRow[];
  readonly statistics: Statistics;
  /** Whether some thread has made that series known. */
  inUse(series: string): boolean;
  readonly log: Logger;
  /** ClusterLoadAssignment. */
  readAssignment(json: unknown): LoadAssignment;
  broadcast(message: VerdictMessage): void;
  /** One of the threads asks. */
  readonly probe: ActiveChecksDeps['probe'];
}

/** The data threads. */
interface Threads {
  readonly breakers: BreakerMemory;
  readonly reports: ReportMemory;
  readonly reportRows: readonly ReportRow[];
  broadcast(message: VerdictMessage): void;
  probe(cluster: string, address: string, check: HealthCheck, timeoutMs: number): Promise<ProbeAnswer>;
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
  readonly #board: VerdictBoard;
  readonly #checks: ActiveChecks;
  readonly #watched = new Map<string, Watched>();
  /** Newest memberships by their own name, of clusters that are watched. */
  readonly #wantedBy = new Map<string, Set<string>>();

  constructor(deps: HostHealthDeps) {
    this.#deps = deps;
    this.#gauges = new BreakerGauges(deps.breakers, deps.statistics, (series) => deps.inUse(series));
    this.#board = new VerdictBoard((message) => deps.broadcast(message));
    const { statistics, log, probe } = deps;
    this.#checks = new ActiveChecks({ statistics, log, board: this.#board, probe });
  }

  static over(
    threads: Threads,
    statistics: Pick<Aggregate, 'own' | 'has'>,
    log: Logger,
    readAssignment: HostHealthDeps['readAssignment'],
  ): HostHealth {
    const { reports: memory } = threads;
    return new HostHealth({
      breakers: threads.breakers,
      memory,
      reports: new HostReports(memory, createReportRow(memory)),
      rows: () => threads.reportRows,
      statistics: statistics.own,
      inUse: (series) => statistics.has(series),
      log,
      readAssignment,
      broadcast: (message) => threads.broadcast(message),
      probe: (cluster, address, check, timeoutMs) => threads.probe(cluster, address, check, timeoutMs),
    });
  }

  /** A version of a cluster is served. `endpoints`: a load assignment by name, as JSON. */
  serve(config: ClusterConfig, endpoints: (name: string) => unknown): void {
    const { name, outlier, healthChecks } = config;
    const membership = membershipName(config);
    this.#gauges.serve(config);
    this.#checks.serve(config);
    if (outlier === undefined) this.#unwatch(name);
    else this.#watchOutliers(config, outlier);
    this.#forgetWish(name);
    if (outlier === undefined && healthChecks.length === 0) return;
    this.#want(membership, name);
    const own = endpoints(membership);
    const members = own === undefined ? config.inlineAssignment : this.#deps.readAssignment(own);
    if (members !== undefined) this.#members(name, members);
  }

  /** A version is served of which only the breakers are shown. */
  servePlain(name: string, shown: Pick<ClusterConfig, 'altStatName' | 'breakers'>): void {
    this.drop(name);
    this.#gauges.serve({ name, ...shown });
  }

  #watchOutliers(config: ClusterConfig, outlier: OutlierConfig): void {
    const known = this.#watched.get(config.name);
    if (known === undefined) {
      this.#watch(config, outlier);
      return;
    }
    known.monitor.setConfig(outlier);
    clearInterval(known.timer);
    this.#watched.set(config.name, { ...known, config, timer: this.#timer(known.monitor) });
  }

  drop(cluster: string): void {
    this.#gauges.drop(cluster);
    this.#checks.drop(cluster);
    this.#unwatch(cluster);
    this.#forgetWish(cluster);
  }

  #unwatch(cluster: string): void {
    const watched = this.#watched.get(cluster);
    if (watched === undefined) return;
    clearInterval(watched.timer);
    watched.monitor.close();
    for (const address of watched.reports.keys()) this.#deps.reports.close(cluster, address);
    this.#watched.delete(cluster);
  }

  /** New members of the clusters that want them: others are not decoded. */
  endpoints(resource: { readonly name: string; readonly json: unknown }): void {
    const { name } = resource;
    if ((this.#wantedBy.get(name)?.size ?? 0) === 0) return;
    const assignment = this.#deps.readAssignment(resource.json);
    for (const cluster of this.#wantedBy.get(name) ?? []) this.#members(cluster, assignment);
  }

  /** From a data thread. */
  found(cluster: string, address: string, cause: OutlierCause): void {
    this.#watched.get(cluster)?.monitor.found(address, cause);
  }

  /** For a thread that is new. */
  verdicts(): VerdictMessage[] {
    return this.#board.messages();
  }

  stop(): void {
    this.#gauges.stop();
    this.#checks.stop();
    for (const { timer } of this.#watched.values()) clearInterval(timer);
  }

  #watch(config: ClusterConfig, outlier: OutlierConfig): void {
    const { memory, statistics, rows } = this.#deps;
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
      publish: (address, ejected) => this.#board.setEjected(name, address, ejected),
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
    this.#watched.set(name, { config, monitor, timer: this.#timer(monitor), reports });
  }

  #timer(monitor: OutlierMonitor): NodeJS.Timeout {
    return setInterval(() => monitor.look(), monitor.intervalMs).unref();
  }

  #members(cluster: string, { endpoints }: LoadAssignment): void {
    const addresses = new Set(endpoints.map(({ ip, port }) => socketAddress(ip, port).text));
    this.#checks.setHosts(cluster, [...addresses]);
    const watched = this.#watched.get(cluster);
    if (watched === undefined) return;
    const { monitor, reports } = watched;
    monitor.setHosts([...addresses]);
    for (const address of [...reports.keys()]) {
      if (addresses.has(address)) continue;
      if (reports.get(address) !== undefined) this.#deps.reports.close(cluster, address);
      reports.delete(address);
    }
  }

  #forgetWish(cluster: string): void {
    for (const [membership, clusters] of this.#wantedBy) {
      if (clusters.delete(cluster) && clusters.size === 0) this.#wantedBy.delete(membership);
    }
  }

  #want(membership: string, cluster: string): void {
    const set = this.#wantedBy.get(membership);
    if (set === undefined) this.#wantedBy.set(membership, new Set([cluster]));
    else set.add(cluster);
  }

  #log({ action, cluster, address, cause, ejections, enforced, durationMs, rate }: OutlierEvent): void {
    const seconds = Math.round(durationMs / 100) / 10;
    const text =
      action === 'uneject'
        ? `Host ${address} of cluster "${cluster}" is back after ${seconds} s`
        : enforced
          ? `Host ${address} of cluster "${cluster}" is ejected for ${seconds} s: ${WORDS[cause as OutlierCause]}`
          : `Host ${address} of cluster "${cluster}" would be ejected, were it enforced: ${WORDS[cause as OutlierCause]}`;
    this.#deps.log.log(action === 'eject' && enforced ? 'warning' : 'info', 'outlier', text, {
      action,
      cluster_name: cluster,
      upstream_url: address,
      ...(cause !== undefined && { type: cause.toUpperCase() }),
      num_ejections: ejections,
      enforced,
      // envoy.data.cluster.v3.OutlierEjectSuccessRate, whole percents.
      ...(rate !== undefined && { host_success_rate: Math.floor(rate.successPercent) }),
      ...(rate?.average !== undefined && { cluster_average_success_rate: Math.floor(rate.average) }),
      ...(rate?.threshold !== undefined && {
        cluster_success_rate_ejection_threshold: Math.max(0, Math.floor(rate.threshold)),
      }),
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
