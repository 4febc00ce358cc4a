/**
 * Counts what hosts of one cluster answer, and tells the control thread when one has failed too often.
 * Source: Envoy source/common/upstream/outlier_detection_impl.cc, DetectorHostMonitorImpl.
 */
import type { Host } from './host.ts';
import { type HostReport, type HostReports, STREAK } from './host_reports.ts';
import type { OutlierCause, OutlierConfig } from './outlier_config.ts';

/** What happens between us and a host, before it can answer. */
export type LocalResult = 'connected' | 'connect_failed' | 'timeout';

/** To the control thread, which decides. */
export type OutlierFound = (cluster: string, address: string, slot: number, cause: OutlierCause) => void;

export class OutlierReporter {
  readonly #cluster: string;
  readonly #config: OutlierConfig;
  readonly #reports: HostReports;
  readonly #found: OutlierFound;
  readonly #byHost = new Map<Host, HostReport | undefined>();
  readonly #gone = new WeakSet<Host>();
  #isClosed = false;

  constructor(cluster: string, config: OutlierConfig, reports: HostReports, found: OutlierFound) {
    this.#cluster = cluster;
    this.#config = config;
    this.#reports = reports;
    this.#found = found;
  }

  /** The host answered, or its gRPC status said as much. */
  answered(host: Host, status: number): void {
    const report = this.#of(host);
    if (report === undefined) return;
    const config = this.#config;
    const good = status < 500;
    report.count(false, good);
    if (good) {
      report.succeeded(STREAK.all5xx);
      report.succeeded(STREAK.gateway);
      return;
    }
    if (status >= 502 && status <= 504) {
      if (report.failed(STREAK.gateway) === config.consecutiveGatewayFailure)
        this.#found(this.#cluster, host.address.text, report.slot, 'consecutive_gateway_failure');
    } else report.succeeded(STREAK.gateway);
    if (report.failed(STREAK.all5xx) === config.consecutive5xx)
      this.#found(this.#cluster, host.address.text, report.slot, 'consecutive_5xx');
  }

  /** Something happened on our side of the host. Unless they are counted apart, failures count as 503 and 504. */
  local(host: Host, result: LocalResult): void {
    const config = this.#config;
    if (!config.splitLocalOrigin) {
      if (result !== 'connected') this.answered(host, result === 'timeout' ? 504 : 503);
      return;
    }
    const report = this.#of(host);
    if (report === undefined) return;
    const good = result === 'connected';
    report.count(true, good);
    if (good) report.succeeded(STREAK.local);
    else if (report.failed(STREAK.local) === config.consecutiveLocalOriginFailure)
      this.#found(this.#cluster, host.address.text, report.slot, 'consecutive_local_origin_failure');
  }

  /** A TCP connection stands: that is all that TCP can say. */
  connected(host: Host): void {
    if (this.#config.splitLocalOrigin) this.local(host, 'connected');
    else this.answered(host, 200);
  }

  forget(host: Host): void {
    if (this.#byHost.get(host) !== undefined) this.#reports.close(this.#cluster, host.address.text);
    this.#byHost.delete(host);
    this.#gone.add(host);
  }

  close(): void {
    this.#isClosed = true;
    for (const host of [...this.#byHost.keys()]) this.forget(host);
  }

  #of(host: Host): HostReport | undefined {
    const known = this.#byHost.get(host);
    if (known !== undefined || this.#byHost.has(host)) return known;
    // A response under way when its host or cluster went is nobody's news any more.
    if (this.#isClosed || this.#gone.has(host)) return undefined;
    const report = this.#reports.open(this.#cluster, host.address.text);
    this.#byHost.set(host, report);
    return report;
  }
}
