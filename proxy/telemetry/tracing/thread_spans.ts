/** Finished spans of a data thread on their way to the control thread: in batches, bounded, never waited for. */
import type { Counter } from '../statistics.ts';
import type { SpanRecord } from './span.ts';
import type { TracerConfig } from './tracing_config.ts';

export interface SpanSink {
  add(tracer: TracerConfig, span: SpanRecord): void;
}

export interface SpanBatch {
  readonly tracer: TracerConfig;
  readonly spans: readonly SpanRecord[];
}

const BATCH_SPANS = 128;
const BATCH_MS = 500;
/** Handed over and not yet taken; beyond, spans are dropped and counted. */
const MAX_UNTAKEN_SPANS = 4096;

export class ThreadSpans implements SpanSink {
  readonly #send: (batch: SpanBatch) => void;
  readonly #sent: Counter;
  readonly #dropped: Counter;
  readonly #batches = new Map<TracerConfig, SpanRecord[]>();
  #untaken = 0;
  #timer: NodeJS.Timeout | undefined = undefined;

  constructor(send: (batch: SpanBatch) => void, counters: { readonly sent: Counter; readonly dropped: Counter }) {
    this.#send = send;
    this.#sent = counters.sent;
    this.#dropped = counters.dropped;
  }

  add(tracer: TracerConfig, span: SpanRecord): void {
    if (this.#untaken >= MAX_UNTAKEN_SPANS) {
      this.#dropped.inc();
      return;
    }
    this.#untaken++;
    this.#sent.inc();
    const batch = this.#batches.get(tracer);
    if (batch === undefined) this.#batches.set(tracer, [span]);
    else if (batch.push(span) >= BATCH_SPANS) this.flush();
    this.#timer ??= setTimeout(() => this.flush(), BATCH_MS).unref();
  }

  /** The control thread has taken so many. */
  taken(count: number): void {
    this.#untaken -= count;
  }

  flush(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const [tracer, spans] of this.#batches) this.#send({ tracer, spans });
    this.#batches.clear();
  }
}
