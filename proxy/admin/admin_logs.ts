/** The admin interface's access log: on the control thread, where the writer is. */
import type { AccessLog } from '../telemetry/access_log.ts';
import type { AccessLogConfig } from '../telemetry/access_log_config.ts';
import type { LogWriter } from '../telemetry/log_writer.ts';
import type { Statistics } from '../telemetry/statistics.ts';
import { ThreadAccessLogs } from '../telemetry/thread_access_logs.ts';

/** On their way to files; beyond, lines are dropped and counted. */
const MAX_UNWRITTEN_BYTES = 1024 * 1024;

export interface AdminLogs {
  readonly logs: readonly AccessLog[];
  flush(): void;
}

export function adminLogs(
  configs: readonly AccessLogConfig[],
  writer: LogWriter,
  own: Statistics,
  flushMs: number,
): AdminLogs {
  let unwritten = 0;
  const lines = new ThreadAccessLogs(
    {
      send(path, bytes) {
        if (unwritten > MAX_UNWRITTEN_BYTES) return false;
        unwritten += bytes.length;
        writer.write(path, bytes, () => {
          unwritten -= bytes.length;
        });
        return true;
      },
    },
    {
      written: own.counter('access_log_file.write_total'),
      dropped: own.counter('access_log_file.write_dropped'),
    },
    flushMs,
  );
  return { logs: configs.map((config) => lines.create(config)), flush: () => lines.flush() };
}
