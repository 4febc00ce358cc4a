/** Makes an OTLP log record of each stream, on the data thread. */
import { compileFormat, type FormatInput } from '../../http/formatter.ts';
import type { AccessLog } from '../access_log.ts';
import { w3c } from '../tracing/propagation.ts';
import type { OtelLogConfig, OtelLogRecord } from './otel_log_config.ts';

export interface OtelLogSink {
  add(config: OtelLogConfig, record: OtelLogRecord): void;
}

/** @param filter undefined: every stream */
export function otelAccessLog(
  config: OtelLogConfig,
  filter: ((input: FormatInput) => boolean) | undefined,
  sink: OtelLogSink,
): AccessLog {
  const format = (text: string) => compileFormat(text, { absent: 'dash' }).format;
  const body = config.body === undefined ? undefined : format(config.body);
  const attributes = config.attributes.map(([name, text]) => [name, format(text)] as const);
  return {
    log(input) {
      if (filter !== undefined && !filter(input)) return;
      const flat: string[] = [];
      for (const [name, value] of attributes) flat.push(name, value(input));
      // What was injected for the upstream is this request's own span.
      const context = input.requestHeaders === undefined ? undefined : w3c.extract(input.requestHeaders);
      const traced = context !== undefined && context !== 'invalid';
      sink.add(config, {
        timeMs: input.info.startTimeMs,
        body: body?.(input),
        attributes: flat,
        traceId: traced ? context.traceId : '',
        spanId: traced ? context.spanId : '',
      });
    },
  };
}
