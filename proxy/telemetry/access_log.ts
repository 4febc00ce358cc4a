/** Access loggers of a data thread. */
import type { FormatInput } from '../http/formatter.ts';
import type { AccessLogConfig } from './access_log_config.ts';

export interface AccessLog {
  /** Once per stream, at its end. Never blocks, never throws. */
  log(input: FormatInput): void;
}

/** Makes loggers; those with the same path share one bounded queue. */
export interface AccessLogSinks {
  create(config: AccessLogConfig): AccessLog;
}
