/**
 * What one request remembers of its retries: how many are left, where it has been, the back-off, its place among the
 * cluster's concurrent retries. Made when the first attempt fails. Source: Envoy retry_state_impl.cc.
 */
import type { ResponseHeaders } from '../http/headers.ts';
import type { Breaker } from '../upstream/circuit_breakers.ts';
import type { ClusterStatistics } from '../upstream/cluster_statistics.ts';
import type { Host } from '../upstream/host.ts';
import { rateLimitResetMs, type RetryPolicy } from './retry_policy.ts';

export interface RetryStateOptions {
  readonly policy: RetryPolicy;
  readonly breaker: Breaker;
  readonly statistics: ClusterStatistics;
  readonly random: () => number;
}

/** again: after `delayMs`. exhausted: no attempt is left (URX). overflow: too many retries at the same time (UO). */
export type RetryAnswer = 'again' | 'exhausted' | 'overflow';

export class RetryState {
  readonly #options: RetryStateOptions;
  #left: number;
  #nextMs: number;
  #counted = false;
  /** Hosts that were tried, the last one last. */
  readonly #hosts: Host[] = [];
  /** Until the next attempt, in whole milliseconds. */
  delayMs = 0;
  /** Priorities that the next attempt avoids: those of the hosts that were tried. */
  triedPriorities: ReadonlySet<number> | undefined = undefined;
  triedHosts: readonly Host[] | undefined = undefined;

  constructor(options: RetryStateOptions) {
    this.#options = options;
    this.#left = options.policy.retries;
    this.#nextMs = options.policy.backOffBaseMs;
  }

  /** An attempt failed in a way that the policy sends again. `headers`: of its response, if there was one. */
  ask(host: Host | undefined, headers: ResponseHeaders | undefined): RetryAnswer {
    const { policy, breaker, statistics, random } = this.#options;
    this.release();
    if (this.#left === 0) {
      statistics.rqRetryLimitExceeded.inc();
      return 'exhausted';
    }
    this.#left--;
    if (!breaker.tryAcquire('retries')) {
      statistics.rqRetryOverflow.inc();
      return 'overflow';
    }
    this.#counted = true;
    statistics.rqRetry.inc();
    if (host !== undefined) this.#remember(host);
    const askedMs =
      policy.rateLimited === undefined || headers === undefined
        ? undefined
        : rateLimitResetMs(policy.rateLimited, headers, Date.now());
    if (askedMs === undefined) {
      statistics.rqRetryBackoffExponential.inc();
      this.delayMs = Math.round(random() * this.#nextMs);
      this.#nextMs = Math.min(policy.backOffMaxMs, this.#nextMs * 2);
    } else {
      statistics.rqRetryBackoffRatelimited.inc();
      // Never before the time that was asked for; up to half as much later.
      this.delayMs = Math.round(askedMs * (1 + random() / 2));
    }
    return 'again';
  }

  /** Whether the balancer should look for another host. */
  shouldSkip(host: Host): boolean {
    const { hosts } = this.#options.policy;
    if (hosts === undefined) return false;
    return (hosts.previousHosts && this.#hosts.includes(host)) || hosts.omits?.(host) === true;
  }

  /** No retry is on its way (any more). */
  release(): void {
    if (!this.#counted) return;
    this.#counted = false;
    this.#options.breaker.release('retries');
  }

  #remember(host: Host): void {
    this.#hosts.push(host);
    const { priorityUpdateFrequency } = this.#options.policy;
    if (priorityUpdateFrequency > 0 && this.#hosts.length % priorityUpdateFrequency === 0) {
      this.triedPriorities = new Set(this.#hosts.map(({ priority }) => priority));
      this.triedHosts = [...this.#hosts];
    }
  }
}
