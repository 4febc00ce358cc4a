/**
 * Decides which hosts of one cluster are ejected, and for how long. On the control thread.
 *
 *   in ──too many failures, and not too many are out already──► out ──base × number of ejections──► in
 *
 * Source: Envoy source/common/upstream/outlier_detection_impl.cc, DetectorImpl.
 */
import type { Counter, Gauge, Statistics } from '../telemetry/statistics.ts';
import type { OutlierCause, OutlierConfig } from './outlier_config.ts';
import { failureOutliers, type HostRate, type RateOutlier, successOutliers } from './outlier_rates.ts';

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
  /** Where a rate was the cause. */
  readonly rate?: RateOutlier | undefined;
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

const CAUSES =
  'consecutive_5xx consecutive_gateway_failure consecutive_local_origin_failure failure_percentage ' +
  'local_origin_failure_percentage success_rate local_origin_success_rate';
/** Made at the start: they are there before the first ejection. */
const COUNTERS: readonly string[] = [
  ...CAUSES.split(' ').flatMap((cause) => [`ejections_detected_${cause}`, `ejections_enforced_${cause}`]),
  'ejections_enforced_total',
  'ejections_total',
  'ejections_consecutive_5xx',
  'ejections_success_rate',
  'ejections_overflow',
];
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
    for (const name of COUNTERS) this.#counter(name);
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
    if (host === undefined || host.ejected) return;
    this.#countDetected(cause);
    this.#eject(address, host, cause);
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
    const { successRateMinimumHosts, failurePercentageMinimumHosts, splitLocalOrigin } = this.#config;
    if (this.#hosts.size < Math.min(successRateMinimumHosts, failurePercentageMinimumHosts)) return;
    this.#lookAtRates(false);
    if (splitLocalOrigin) this.#lookAtRates(true);
  }

  /** Nobody is watched any more: everybody comes back. */
  close(): void {
    this.setHosts([]);
  }

  #eject(address: string, host: Watched, cause: OutlierCause, rate?: RateOutlier): void {
    const config = this.#config;
    const wouldBe = (100 * (this.#ejected + 1)) / this.#hosts.size;
    if (wouldBe > config.maxEjectionPercent && !(config.alwaysEjectOneHost && this.#ejected === 0)) {
      this.#counter('ejections_overflow').inc();
      return;
    }
    const enforced = this.#deps.random() * 100 < config.enforcing[cause];
    if (enforced) host.ejections++;
    const forMs =
      Math.min(config.maxEjectionMs, config.baseEjectionMs * (host.backOff + 1)) +
      this.#deps.random() * config.maxEjectionJitterMs;
    const { cluster } = this.#deps;
    const { ejections } = host;
    this.#deps.log({ action: 'eject', cluster, address, cause, ejections, enforced, durationMs: forMs, rate });
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

  /** What is not enforced is found, counted and logged all the same. */
  #lookAtRates(local: boolean): void {
    const kind = local ? 'local' : 'external';
    const rates: HostRate[] = [];
    for (const [address, host] of this.#hosts) {
      const [all, good] = this.#deps.rate(address, local);
      const [allBefore, goodBefore] = host.seen[kind];
      host.seen[kind] = [all, good];
      // A thread that died took its counts along: the next interval begins anew.
      const requests = all - allBefore;
      if (host.ejected || requests <= 0) continue;
      rates.push({ address, requests, successPercent: (100 * (good - goodBefore)) / requests });
    }
    const config = this.#config;
    this.#ejectOutliers(successOutliers(rates, config), local ? 'local_origin_success_rate' : 'success_rate');
    this.#ejectOutliers(
      failureOutliers(rates, config),
      local ? 'local_origin_failure_percentage' : 'failure_percentage',
    );
  }

  #ejectOutliers(found: readonly RateOutlier[], cause: OutlierCause): void {
    for (const outlier of found) {
      const host = this.#hosts.get(outlier.address);
      // Both rules may mean the same host.
      if (host === undefined || host.ejected) continue;
      this.#countDetected(cause);
      this.#eject(outlier.address, host, cause, outlier);
    }
  }

  /** Enforced or not; under Envoy's old names too. */
  #countDetected(cause: OutlierCause): void {
    this.#counter(`ejections_detected_${cause}`).inc();
    this.#counter('ejections_total').inc();
    if (cause === 'consecutive_5xx' || cause === 'success_rate') this.#counter(`ejections_${cause}`).inc();
  }

  #countEjected(by: 1 | -1): void {
    this.#ejected += by;
    this.#active.set(this.#ejected);
  }

  #counter(name: string): Counter {
    return this.#deps.statistics.counter(`cluster.${this.#deps.statName}.outlier_detection.${name}`);
  }
}
