/** A logger to Envoy's access log service, read. Envoy: envoy.extensions.access_loggers.grpc.v3. */
import type { CustomTag } from '../tracing/tracing_config.ts';

export interface GrpcLogConfig {
  /** What entries describe: requests, or connections. */
  readonly entries: 'http' | 'tcp';
  readonly service: GrpcLogService;
  /** Lower-case names. */
  readonly requestHeaders: readonly string[];
  readonly responseHeaders: readonly string[];
  readonly responseTrailers: readonly string[];
  readonly filterState: readonly string[];
  readonly customTags: readonly CustomTag[];
}

/** Loggers that agree in all of this share a stream. */
export interface GrpcLogService {
  readonly cluster: string;
  readonly authority: string;
  /** initial_metadata. */
  readonly headers: readonly (readonly [string, string])[];
  readonly logName: string;
  /** Default 1,000. */
  readonly flushMs: number;
  /** Entries leave at once when they are this long together. Default 16,384. */
  readonly bufferBytes: number;
  /** Between two attempts to open the stream; doubled each time. Default 1,000 to 30,000. */
  readonly backoffBaseMs: number;
  readonly backoffMaxMs: number;
}
