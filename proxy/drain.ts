/** When answers ask for their connection to be closed: a data thread's view of a drain. Envoy: DrainManagerImpl. */

export type DrainStrategy = 'gradual' | 'immediate';
/** Which listeners, by traffic_direction. `not outbound` leaves the application's own last calls alone. */
export type DrainScope = 'all' | 'inbound' | 'not outbound';
export type Direction = 'inbound' | 'outbound' | undefined;

export interface DrainOrder {
  readonly scope: DrainScope;
  readonly strategy: DrainStrategy;
  /** Gradual: from the first connection asked to the last. */
  readonly timeMs: number;
}

export function inScope(scope: DrainScope, direction: Direction): boolean {
  return scope === 'all' || (scope === 'inbound' ? direction === 'inbound' : direction !== 'outbound');
}

export class ThreadDrain {
  /** /healthcheck/fail: whoever asks is sent elsewhere. */
  healthFailed = false;
  readonly #nowMs: () => number;
  readonly #random: () => number;
  #order: DrainOrder | undefined = undefined;
  #sinceMs = 0;

  constructor(nowMs: () => number, random: () => number) {
    this.#nowMs = nowMs;
    this.#random = random;
  }

  /** `elapsedMs`: it began so long ago, in a thread's life before. */
  begin(order: DrainOrder, elapsedMs: number): void {
    this.#order = order;
    this.#sinceMs = this.#nowMs() - elapsedMs;
  }

  /**
   * Asked once for each response. Gradual: the probability grows from 0 to 1 over the drain time, so that clients do
   * not all come back at once. `drainType` as in envoy.config.listener.v3.Listener.DrainType.
   */
  closes(direction: Direction, drainType: 'default' | 'modify_only'): boolean {
    if (drainType === 'modify_only') return false;
    if (this.healthFailed) return true;
    const order = this.#order;
    if (order === undefined || !inScope(order.scope, direction)) return false;
    if (order.strategy === 'immediate' || order.timeMs === 0) return true;
    return this.#random() * order.timeMs < this.#nowMs() - this.#sinceMs;
  }
}
