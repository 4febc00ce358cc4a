/** Which circuit breakers are open, and what remains of them: read by the control thread from what all threads count. */
import type { Gauge, Statistics } from '../telemetry/statistics.ts';
import type { Breaker, BreakerLimits, Priority } from './circuit_breakers.ts';
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

export class BreakerGauges {
  readonly #breakers: SharedBreakers;
  readonly #statistics: Statistics;
  readonly #watched = new Map<string, Watched[]>();
  readonly #timer: NodeJS.Timeout;

  constructor(memory: BreakerMemory, statistics: Statistics) {
    this.#breakers = new SharedBreakers(memory, createBreakerRow());
    this.#statistics = statistics;
    this.#timer = setInterval(() => this.read(), INTERVAL_MS).unref();
  }

  /** Only clusters with limits that can be reached are looked at. */
  serve(config: ClusterConfig): void {
    this.drop(config.name);
    const watched = (['default', 'high'] as const).flatMap((priority) => this.#watch(config, priority));
    if (watched.length > 0) this.#watched.set(config.name, watched);
  }

  drop(cluster: string): void {
    if (!this.#watched.delete(cluster)) return;
    this.#breakers.close(cluster, 'default');
    this.#breakers.close(cluster, 'high');
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  read(): void {
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

  #watch({ name, altStatName, breakers }: ClusterConfig, priority: Priority): Watched[] {
    const limits = breakers[priority];
    if (!breakers.configured || RESOURCES.every(([, , limit]) => limits[limit] >= NO_LIMIT)) return [];
    const prefix = `cluster.${altStatName}.circuit_breakers.${priority}`;
    const gauge = (suffix: string): Gauge => this.#statistics.gauge(`${prefix}.${suffix}`);
    return [
      {
        breaker: this.#breakers.open(name, priority, limits),
        limits,
        open: RESOURCES.map(([, short]) => gauge(`${short}_open`)),
        remaining:
          limits.trackRemaining === true
            ? RESOURCES.map(([resource]) => gauge(`remaining_${REMAINING[resource]}`))
            : [],
      },
    ];
  }
}
