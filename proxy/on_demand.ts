/**
 * Requests of a data thread that wait for configuration which only they want: a virtual host by VHDS, a cluster by CDS.
 * The control thread asks the server for it; whoever waits goes on when it is there, when the server says that there is
 * none, or when the wait is over.
 */
import type { Demand } from '../config/resources.ts';

/** Requests of one thread that wait. More go on without. */
export const MAX_WAITING = 1000;

/** there: look again. absent: the server has none, or nobody can be asked. */
export type DemandOutcome = 'there' | 'absent' | 'late' | 'full';

interface Waiter {
  readonly demand: Demand;
  settle(outcome: DemandOutcome): void;
}

export interface OnDemandOptions {
  /** To the control thread. */
  send(demand: Demand): void;
  /** @returns what calls it off. */
  setTimer(delayMs: number, callback: () => void): () => void;
}

/** What a demand waits to see changed: a route configuration that gets a host, or the cluster itself. */
const placeOf = (demand: Demand): string =>
  demand.kind === 'host' ? `route ${demand.routes}` : `cluster ${demand.name}`;

/** Who asks for the same. */
export const demandKey = (demand: Demand): string =>
  demand.kind === 'host' ? `host ${demand.routes}/${demand.host}` : `cluster ${demand.name}`;

export class OnDemand {
  readonly #options: OnDemandOptions;
  readonly #waiting = new Map<string, Set<Waiter>>();
  #count = 0;

  constructor(options: OnDemandOptions) {
    this.#options = options;
  }

  wait(demand: Demand, timeoutMs: number, signal: AbortSignal): Promise<DemandOutcome> {
    if (this.#count >= MAX_WAITING) return Promise.resolve('full');
    const place = placeOf(demand);
    const waiters = this.#waiting.get(place) ?? new Set();
    this.#waiting.set(place, waiters);
    const key = demandKey(demand);
    const isAsked = [...waiters].some((waiter) => demandKey(waiter.demand) === key);
    return new Promise((resolve) => {
      const waiter: Waiter = {
        demand,
        settle: (outcome) => {
          if (!waiters.delete(waiter)) return;
          this.#count--;
          if (waiters.size === 0 && this.#waiting.get(place) === waiters) this.#waiting.delete(place);
          cancel();
          signal.removeEventListener('abort', gone);
          resolve(outcome);
        },
      };
      const gone = (): void => waiter.settle('late');
      const cancel = this.#options.setTimer(timeoutMs, gone);
      signal.addEventListener('abort', gone);
      waiters.add(waiter);
      this.#count++;
      if (!isAsked) this.#options.send(demand);
    });
  }

  /** A resource of this thread has a new version. */
  changed(type: string, name: string): void {
    for (const waiter of [...(this.#waiting.get(`${type} ${name}`) ?? [])]) waiter.settle('there');
  }

  /** Word from the control thread: nobody will give it. */
  absent(demand: Demand): void {
    const key = demandKey(demand);
    for (const waiter of [...(this.#waiting.get(placeOf(demand)) ?? [])]) {
      if (demandKey(waiter.demand) === key) waiter.settle('absent');
    }
  }
}
