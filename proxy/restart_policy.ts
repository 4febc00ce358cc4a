/** When a dead data thread is started again: at once, unless it dies again and again. */

/** A thread that lived less long died of its start or of its first work, and the next one may do the same. */
export const FAST_DEATH_MS = 1000;
const FIRST_DELAY_MS = 100;
const MAX_DELAY_MS = 10_000;

/** One thread's deaths. */
export class RestartPolicy {
  #fastDeaths = 0;

  /** @returns how long to wait; 0 for the first death, then 100 ms, doubled with each fast death up to 10 s. */
  died(livedMs: number): number {
    this.#fastDeaths = livedMs < FAST_DEATH_MS ? this.#fastDeaths + 1 : 1;
    return this.#fastDeaths === 1 ? 0 : Math.min(MAX_DELAY_MS, FIRST_DELAY_MS * 2 ** (this.#fastDeaths - 2));
  }
}
