/**
 * Attempts that took longer than a try may take and were left to go on while another was begun; the first good answer
 * wins, the others are abandoned. Source: envoy.config.route.v3.HedgePolicy; Envoy router.cc onSoftPerTryTimeout.
 */
import type { UpstreamRequest } from './upstream_request.ts';

export class HedgedAttempts {
  readonly #attempts: UpstreamRequest[] = [];

  get size(): number {
    return this.#attempts.length;
  }

  add(attempt: UpstreamRequest): void {
    this.#attempts.push(attempt);
  }

  has(attempt: UpstreamRequest): boolean {
    return this.#attempts.includes(attempt);
  }

  /** The last one that was left to go on. */
  pop(): UpstreamRequest | undefined {
    return this.#attempts.pop();
  }

  remove(attempt: UpstreamRequest): void {
    const at = this.#attempts.indexOf(attempt);
    if (at >= 0) this.#attempts.splice(at, 1);
  }

  readDisable(disabled: boolean): void {
    for (const attempt of this.#attempts) attempt.readDisable(disabled);
  }

  /** `except`: the one whose answer is taken. */
  abandon(except: UpstreamRequest | undefined): void {
    for (const attempt of this.#attempts.splice(0)) if (attempt !== except) attempt.abandon();
  }

  /** The time of the whole request is over: each of them failed as the newest does (`status`). */
  timedOut(status: number, internal: boolean): void {
    for (const { cluster, host } of this.#attempts) {
      cluster.statistics.rqTimeout.inc();
      cluster.statistics.response(status, internal);
      host.counts.rqTimeout++;
      host.counts.rqError++;
    }
  }
}
