/** Exporters that are loaded with their first record: without tracing and OTLP logs nothing of them is in memory. */
import type { OtelLogConfig, OtelLogRecord } from './otel_logs/otel_log_config.ts';
import type { LogExporters, LogExportersOptions } from './otel_logs/log_exporter.ts';
import type { SpanExporters } from './tracing/span_exporter.ts';
import type { SpanRecord } from './tracing/span.ts';
import type { TracerConfig } from './tracing/tracing_config.ts';

export class LazyExporters {
  readonly #options: LogExportersOptions;
  #spans: Promise<SpanExporters> | undefined = undefined;
  #logs: Promise<LogExporters> | undefined = undefined;

  constructor(options: LogExportersOptions) {
    this.#options = options;
  }

  addSpans(tracer: TracerConfig, spans: readonly SpanRecord[]): void {
    this.#spans ??= import('./tracing/span_exporter.ts').then(({ SpanExporters }) => new SpanExporters(this.#options));
    void this.#spans.then((exporters) => exporters.add(tracer, spans));
  }

  addLogs(config: OtelLogConfig, records: readonly OtelLogRecord[]): void {
    this.#logs ??= import('./otel_logs/log_exporter.ts').then(({ LogExporters }) => new LogExporters(this.#options));
    void this.#logs.then((exporters) => exporters.add(config, records));
  }

  /** Resolves when what was added was sent, or could not be. */
  async flush(): Promise<void> {
    await Promise.all([(await this.#spans)?.flush(), (await this.#logs)?.flush()]);
  }
}
