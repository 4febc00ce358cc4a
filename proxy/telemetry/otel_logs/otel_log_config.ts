/** An OpenTelemetry access logger, read. Envoy: envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig. */

export interface OtelLogConfig {
  readonly cluster: string;
  readonly authority: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly timeoutMs: number;
  readonly logName: string;
  /** A format string; undefined: no body. */
  readonly body: string | undefined;
  /** Name to format string. */
  readonly attributes: readonly (readonly [string, string])[];
  readonly resourceAttributes: readonly (readonly [string, string])[];
  /** log_name, zone_name, cluster_name and node_name of the resource. Default true. */
  readonly builtinLabels: boolean;
}

/** A line as it travels to the control thread. */
export interface OtelLogRecord {
  /** Epoch milliseconds. */
  readonly timeMs: number;
  readonly body: string | undefined;
  /** name, value, … */
  readonly attributes: readonly string[];
  readonly traceId: string;
  readonly spanId: string;
}
