/**
 * Which circuit breakers are open, and what remains of them: read by the control thread from what all threads count.
 * Of a cluster without limits that can be reached they are there once a thread uses it, as all its statistics are.
 */
import type { Gauge, Statistics } from '../telemetry/statistics.ts';
import { type Breaker, type BreakerLimits, breakerSignal, type Priority } from './circuit_breakers.ts';
import type { ClusterConfig } from './cluster_config.ts';
import { type BreakerMemory, createBreakerRow, SharedBreakers } from './shared_breakers.ts';

/** Limits above are never reached: istiod sends 2^32 − 1 for "none". */
const NO_LIMIT = 2 ** 31;
const INTERVAL_MS = 500;
const RESOURCES = [
  ['connections', 'cx', 'maxConnections'],
  ['pending', 'rq_pending', 'maxPendingRequests'],
  ['requests', 'rq', 'maxRequests'],
  ['retries', 'rq_retry', 'maxRetries'],
] as const;
/** Envoy's names after `remaining_`. */
const REMAINING = { connections: 'cx', pending: 'pending', requests: 'rq', retries: 'retries' } as const;

interface Watched {
  readonly breaker: Breaker;
  readonly limits: BreakerLimits;
  readonly open: readonly Gauge[];
  readonly remaining: readonly Gauge[];
}

interface Idle extends Pick<ClusterConfig, 'altStatName' | 'breakers'> {
  readonly signal: string;
}

const PRIORITIES: readonly Priority[] = ['default', 'high'];

export class BreakerGauges {
  readonly #breakers: SharedBreakers;
  readonly #statistics: Statistics;
  readonly #inUse: (series: string) => boolean;
  readonly #watched = new Map<string, Watched[]>();
  /** Not in use so far: by name the series that will say it. */
  readonly #idle = new Map<string, Idle>();
  readonly #timer: NodeJS.Timeout;

  /** `inUse`: whether some thread has made that series known. */
  constructor(memory: BreakerMemory, statistics: Statistics, inUse: (series: string) => boolean) {
    this.#breakers = new SharedBreakers(memory, createBreakerRow());
    this.#statistics = statistics;
    this.#inUse = inUse;
    this.#timer = setInterval(() => this.read(), INTERVAL_MS).unref();
  }

  serve({ name, altStatName, breakers }: Pick<ClusterConfig, 'name' | 'altStatName' | 'breakers'>): void {
    this.drop(name);
    const cluster = { signal: breakerSignal(altStatName), altStatName, breakers };
    if (breakers.configured && PRIORITIES.some((priority) => isReachable(breakers[priority])))
      this.#watch(name, cluster);
    else this.#idle.set(name, cluster);
  }

  drop(cluster: string): void {
    this.#idle.delete(cluster);
    if (!this.#watched.delete(cluster)) return;
    this.#breakers.close(cluster, 'default');
    this.#breakers.close(cluster, 'high');
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  read(): void {
    for (const [name, cluster] of this.#idle) {
      if (!this.#inUse(cluster.signal)) continue;
      this.#idle.delete(name);
      this.#watch(name, cluster);
    }
    for (const list of this.#watched.values()) {
      for (const { breaker, limits, open, remaining } of list) {
        RESOURCES.forEach(([resource, , limit], index) => {
          const left = limits[limit] - breaker.count(resource);
          open[index]?.set(left <= 0 ? 1 : 0);
          remaining[index]?.set(Math.max(0, left));
        });
      }
    }
  }

  #watch(name: string, { altStatName, breakers }: Idle): void {
    const watched = PRIORITIES.map((priority): Watched => {
      const limits = breakers[priority];
      const prefix = `cluster.${altStatName}.circuit_breakers.${priority}`;
      const gauge = (suffix: string): Gauge => this.#statistics.gauge(`${prefix}.${suffix}`);
      // Pools have no limit here, as by default in Envoy.
      gauge('cx_pool_open').set(0);
      return {
        breaker: this.#breakers.open(name, priority, limits),
        limits,
        open: RESOURCES.map(([, short]) => gauge(`${short}_open`)),
        remaining:
          limits.trackRemaining === true
            ? RESOURCES.map(([resource]) => gauge(`remaining_${REMAINING[resource]}`))
            : [],
      };
    });
    this.#watched.set(name, watched);
  }
}

/** istiod sends limits that nothing reaches for "none". */
function isReachable(limits: BreakerLimits): boolean {
  return RESOURCES.some(([, , limit]) => limits[limit] < NO_LIMIT);
}
