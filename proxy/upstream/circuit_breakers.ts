/** Circuit breakers shared by all data threads. */

export type Priority = 'default' | 'high';

/** Limits of one (cluster, priority). Envoy defaults 1024/1024/1024/3; istiod sends 2^32-1. */
export interface BreakerLimits {
  readonly maxConnections: number;
  readonly maxPendingRequests: number;
  readonly maxRequests: number;
  readonly maxRetries: number;
  /** Gauges say what remains. */
  readonly trackRemaining?: boolean;
  /** Instead of maxRetries. */
  readonly retryBudget?: RetryBudget | undefined;
}

/** envoy.config.cluster.v3.CircuitBreakers.Thresholds.RetryBudget. */
export interface RetryBudget {
  /** Of active and pending requests; default 20. */
  readonly percent: number;
  /** Default 3. */
  readonly minConcurrency: number;
}

export type BreakerResource = 'connections' | 'pending' | 'requests' | 'retries';

export interface Breaker {
  /** Exact across threads. @returns false at the limit: 503 UO. */
  tryAcquire(resource: BreakerResource): boolean;
  /** Counts without asking (a connection that Envoy opens over the limit). */
  acquire(resource: BreakerResource): void;
  release(resource: BreakerResource): void;
  count(resource: BreakerResource): number;
}

export interface CircuitBreakers {
  /** The same (cluster, priority) gives the same counts, on every thread and across updates. */
  open(cluster: string, priority: Priority, limits: BreakerLimits): Breaker;
  /** The thread no longer uses it. */
  close(cluster: string, priority: Priority): void;
}

/** What a thread makes known with a cluster's statistics: so it is in use. */
export const breakerSignal = (altStatName: string): string => `cluster.${altStatName}.circuit_breakers.default.cx_open`;
