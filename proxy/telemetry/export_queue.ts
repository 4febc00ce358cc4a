/** Records on their way to a collector: bounded, in order, one request at a time, on the control thread. */
import CircuitBreaker from 'opossum';
import { limitedLog } from './log_limit.ts';
import type { Logger } from './log.ts';
import type { Counter } from './statistics.ts';

/** Waiting for one collector; beyond, records are dropped and counted. */
const MAX_QUEUED = 8192;
const MAX_A_REQUEST = 512;

export interface ExportQueueOptions<T> {
  /** `spans`, `log records`: for complaints. */
  readonly what: string;
  /** Where to, for complaints. */
  readonly place: string;
  readonly component: string;
  readonly log: Logger;
  readonly sent: Counter;
  readonly dropped: Counter;
  send(records: readonly T[]): Promise<void>;
}

export class ExportQueue<T> {
  readonly #options: ExportQueueOptions<T>;
  readonly #queue: T[] = [];
  readonly #complain: (level: 'warning', message: string) => void;
  /** A collector that is down is asked again every ten seconds, not with every batch. */
  readonly #breaker: CircuitBreaker<[readonly T[]], void>;
  #sending: Promise<void> | undefined = undefined;

  constructor(options: ExportQueueOptions<T>) {
    this.#options = options;
    this.#complain = limitedLog(options.log, options.component);
    this.#breaker = new CircuitBreaker((records: readonly T[]) => options.send(records), {
      timeout: false,
      errorThresholdPercentage: 50,
      volumeThreshold: 3,
      resetTimeout: 10_000,
    });
  }

  add(records: readonly T[]): void {
    const room = MAX_QUEUED - this.#queue.length;
    for (const record of records.slice(0, room)) this.#queue.push(record);
    if (records.length > room) this.#options.dropped.add(records.length - room);
    this.#sending ??= this.#drain();
  }

  /** Resolves when what is queued was sent, or could not be. */
  async flush(): Promise<void> {
    await this.#sending;
  }

  async #drain(): Promise<void> {
    const { sent, dropped, what, place } = this.#options;
    while (this.#queue.length > 0) {
      const records = this.#queue.splice(0, MAX_A_REQUEST);
      try {
        await this.#breaker.fire(records);
        sent.add(records.length);
      } catch (error) {
        dropped.add(records.length);
        this.#complain('warning', `Cannot send ${records.length} ${what} to ${place}: ${(error as Error).message}`);
      }
    }
    this.#sending = undefined;
  }
}
