/** Exporters that are loaded with the first span: without tracing nothing of them is in memory. */
import type { SpanExporters, SpanExportersOptions } from './span_exporter.ts';
import type { SpanBatch } from './thread_spans.ts';

export class LazySpanExporters {
  readonly #options: SpanExportersOptions;
  #exporters: Promise<SpanExporters> | undefined = undefined;

  constructor(options: SpanExportersOptions) {
    this.#options = options;
  }

  add(batch: SpanBatch): void {
    this.#exporters ??= import('./span_exporter.ts').then(({ SpanExporters }) => new SpanExporters(this.#options));
    void this.#exporters.then((exporters) => exporters.add(batch));
  }

  /** Resolves when what was added was sent, or could not be. */
  async flush(): Promise<void> {
    await (await this.#exporters)?.flush();
  }
}
