/** Records of a data thread on their way to the control thread: in batches, bounded, never waited for. */
import type { Counter } from './statistics.ts';

const BATCH_RECORDS = 128;
const BATCH_MS = 500;
/** Handed over and not yet taken; beyond, records are dropped and counted. */
const MAX_UNTAKEN = 4096;

/** By the configuration of the exporter that is to send them. */
export class ThreadRecords<C, R> {
  readonly #send: (config: C, records: readonly R[]) => void;
  readonly #sent: Counter;
  readonly #dropped: Counter;
  readonly #batches = new Map<C, R[]>();
  #untaken = 0;
  #timer: NodeJS.Timeout | undefined = undefined;

  constructor(
    send: (config: C, records: readonly R[]) => void,
    counters: { readonly sent: Counter; readonly dropped: Counter },
  ) {
    this.#send = send;
    this.#sent = counters.sent;
    this.#dropped = counters.dropped;
  }

  add(config: C, record: R): void {
    if (this.#untaken >= MAX_UNTAKEN) {
      this.#dropped.inc();
      return;
    }
    this.#untaken++;
    this.#sent.inc();
    const batch = this.#batches.get(config);
    if (batch === undefined) this.#batches.set(config, [record]);
    else if (batch.push(record) >= BATCH_RECORDS) this.flush();
    this.#timer ??= setTimeout(() => this.flush(), BATCH_MS).unref();
  }

  /** The control thread has taken so many. */
  taken(count: number): void {
    this.#untaken -= count;
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [config, records] of this.#batches) this.#send(config, records);
    this.#batches.clear();
  }
}
