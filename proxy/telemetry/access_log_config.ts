/** A configured access logger, parsed; the data thread makes the logger of it. */
import type { GrpcLogConfig } from './grpc_logs/grpc_log_config.ts';
import type { OtelLogConfig } from './otel_logs/otel_log_config.ts';

export type AccessLogConfig = FileLogConfig | OtelAccessLogConfig | GrpcAccessLogConfig;

export interface FileLogConfig {
  readonly kind: 'file';
  /** `/dev/stdout`, `/dev/stderr` or a path. */
  readonly path: string;
  readonly format: AccessLogFormat;
  /** envoy.config.accesslog.v3.AccessLogFilter as it stands; undefined: every request. */
  readonly filter: unknown;
}

/** To an OpenTelemetry collector. */
export interface OtelAccessLogConfig {
  readonly kind: 'otel';
  readonly otel: OtelLogConfig;
  readonly filter: unknown;
}

/** To Envoy's access log service. */
export interface GrpcAccessLogConfig {
  readonly kind: 'grpc';
  readonly grpc: GrpcLogConfig;
  readonly filter: unknown;
}

/** text: one line with its newline. json: keys to format strings, possibly nested; `omitEmpty` leaves null out. */
export type AccessLogFormat =
  | { readonly kind: 'text'; readonly format: string }
  | { readonly kind: 'json'; readonly fields: Readonly<Record<string, unknown>>; readonly omitEmpty: boolean };
