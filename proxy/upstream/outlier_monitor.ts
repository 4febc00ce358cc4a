/**
 * Decides which hosts of one cluster are ejected, and for how long. On the control thread.
 *
 *   in ──too many failures, and not too many are out already──► out ──base × number of ejections──► in
 *
 * Source: Envoy source/common/upstream/outlier_detection_impl.cc, DetectorImpl.
 */
import type { Counter, Gauge, Statistics } from '../telemetry/statistics.ts';
import type { OutlierCause, OutlierConfig } from './outlier_config.ts';

export interface OutlierMonitorDeps {
  readonly cluster: string;
  /** `cluster.<name>.outlier_detection.…` */
  readonly statistics: Statistics;
  readonly statName: string;
  nowMs(): number;
  random(): number;
  /** Tells all threads. */
  publish(address: string, ejected: boolean): void;
  /** A host's clean sheet. */
  clearStreaks(address: string): void;
  /** [all, good] since the host came, of answers or of local events. */
  rate(address: string, local: boolean): readonly [number, number];
  log(event: OutlierEvent): void;
}

/** envoy.data.cluster.v3.OutlierDetectionEvent, in short. */
export interface OutlierEvent {
  readonly action: 'eject' | 'uneject';
  readonly cluster: string;
  readonly address: string;
  /** undefined: it comes back. */
  readonly cause: OutlierCause | undefined;
  readonly ejections: number;
  readonly enforced: boolean;
  /** Until it comes back, in ms; for how long it was away. */
  readonly durationMs: number;
}

interface Watched {
  ejectedAtMs: number;
  ejected: boolean;
  /** Multiplies the base time; falls by one with each quiet interval. */
  backOff: number;
  ejections: number;
  forMs: number;
  /** Rates at the last look. */
  seen: { external: readonly [number, number]; local: readonly [number, number] };
}

const NONE = [0, 0] as const;

export class OutlierMonitor {
  readonly #deps: OutlierMonitorDeps;
  readonly #hosts = new Map<string, Watched>();
  readonly #active: Gauge;
  #config: OutlierConfig;
  #ejected = 0;

  constructor(config: OutlierConfig, deps: OutlierMonitorDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#active = deps.statistics.gauge(`cluster.${deps.statName}.outlier_detection.ejections_active`);
    this.#active.set(0);
  }

  get intervalMs(): number {
    return this.#config.intervalMs;
  }

  setConfig(config: OutlierConfig): void {
    this.#config = config;
  }

  /** The membership has changed. */
  setHosts(addresses: readonly string[]): void {
    const wanted = new Set(addresses);
    for (const [address, host] of this.#hosts) {
      if (wanted.has(address)) continue;
      this.#hosts.delete(address);
      if (host.ejected) {
        this.#countEjected(-1);
        this.#deps.publish(address, false);
      }
    }
    for (const address of wanted) {
      if (this.#hosts.has(address)) continue;
      this.#hosts.set(address, {
        ejectedAtMs: 0,
        ejected: false,
        backOff: 0,
        ejections: 0,
        forMs: 0,
        seen: { external: NONE, local: NONE },
      });
    }
  }

  /** A thread has counted enough failures in a row. */
  found(address: string, cause: OutlierCause): void {
    const host = this.#hosts.get(address);
    if (host === undefined) return;
    this.#counter(`ejections_detected_${cause}`).inc();
    if (!host.ejected) this.#eject(address, host, cause);
    this.#deps.clearStreaks(address);
  }

  /** Once per interval. */
  look(): void {
    const nowMs = this.#deps.nowMs();
    for (const [address, host] of this.#hosts) {
      if (!host.ejected) {
        if (host.backOff > 0) host.backOff--;
      } else if (nowMs - host.ejectedAtMs >= host.forMs) this.#return(address, host, nowMs);
    }
    const { enforcing } = this.#config;
    if (enforcing.success_rate > 0 || enforcing.failure_percentage > 0) this.#lookAtRates(false);
    if (this.#config.splitLocalOrigin) {
      if (enforcing.local_origin_success_rate > 0 || enforcing.local_origin_failure_percentage > 0)
        this.#lookAtRates(true);
    }
  }

  /** Nobody is watched any more: everybody comes back. */
  close(): void {
    this.setHosts([]);
  }

  #eject(address: string, host: Watched, cause: OutlierCause): void {
    const config = this.#config;
    const wouldBe = (100 * (this.#ejected + 1)) / this.#hosts.size;
    if (wouldBe > config.maxEjectionPercent && !(config.alwaysEjectOneHost && this.#ejected === 0)) {
      this.#counter('ejections_overflow').inc();
      return;
    }
    const enforced = this.#deps.random() * 100 < config.enforcing[cause];
    host.ejections++;
    const forMs =
      Math.min(config.maxEjectionMs, config.baseEjectionMs * (host.backOff + 1)) +
      this.#deps.random() * config.maxEjectionJitterMs;
    const { cluster } = this.#deps;
    const { ejections } = host;
    this.#deps.log({ action: 'eject', cluster, address, cause, ejections, enforced, durationMs: forMs });
    if (!enforced) return;
    host.backOff++;
    host.ejected = true;
    host.ejectedAtMs = this.#deps.nowMs();
    host.forMs = forMs;
    this.#countEjected(1);
    this.#counter('ejections_enforced_total').inc();
    this.#counter(`ejections_enforced_${cause}`).inc();
    this.#deps.publish(address, true);
  }

  #return(address: string, host: Watched, nowMs: number): void {
    host.ejected = false;
    this.#countEjected(-1);
    const { cluster } = this.#deps;
    this.#deps.log({
      action: 'uneject',
      cluster,
      address,
      cause: undefined,
      ejections: host.ejections,
      enforced: true,
      durationMs: nowMs - host.ejectedAtMs,
    });
    this.#deps.clearStreaks(address);
    this.#deps.publish(address, false);
  }

  #lookAtRates(local: boolean): void {
    const config = this.#config;
    const rates: { address: string; host: Watched; requests: number; percent: number }[] = [];
    for (const [address, host] of this.#hosts) {
      const kind = local ? 'local' : 'external';
      const [all, good] = this.#deps.rate(address, local);
      const [allBefore, goodBefore] = host.seen[kind];
      host.seen[kind] = [all, good];
      // A thread that died took its counts along: the next interval begins anew.
      const requests = all - allBefore;
      if (host.ejected || requests <= 0) continue;
      rates.push({ address, host, requests, percent: (100 * (good - goodBefore)) / requests });
    }
    const enough = rates.filter(({ requests }) => requests >= config.successRateRequestVolume);
    if (enough.length >= Math.max(1, config.successRateMinimumHosts)) {
      const mean = enough.reduce((sum, { percent }) => sum + percent, 0) / enough.length;
      const variance = enough.reduce((sum, { percent }) => sum + (percent - mean) ** 2, 0) / enough.length;
      const threshold = mean - (Math.sqrt(variance) * config.successRateStdevFactor) / 1000;
      const cause = local ? 'local_origin_success_rate' : 'success_rate';
      for (const { address, host, percent } of enough) {
        if (percent >= threshold || config.enforcing[cause] === 0) continue;
        this.#counter(`ejections_detected_${cause}`).inc();
        this.#eject(address, host, cause);
      }
    }
    const cause = local ? 'local_origin_failure_percentage' : 'failure_percentage';
    const some = rates.filter(({ requests }) => requests >= config.failurePercentageRequestVolume);
    if (some.length < Math.max(1, config.failurePercentageMinimumHosts) || config.enforcing[cause] === 0) return;
    for (const { address, host, percent } of some) {
      if (host.ejected || 100 - percent < config.failurePercentageThreshold) continue;
      this.#counter(`ejections_detected_${cause}`).inc();
      this.#eject(address, host, cause);
    }
  }

  #countEjected(by: 1 | -1): void {
    this.#ejected += by;
    this.#active.set(this.#ejected);
  }

  #counter(name: string): Counter {
    return this.#deps.statistics.counter(`cluster.${this.#deps.statName}.outlier_detection.${name}`);
  }
}
