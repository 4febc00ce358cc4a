/** A log that peers can fill: so many lines a while, then how many there would have been. */
import type { Logger, LogLevel } from './log.ts';

export type LogLimit = (level: LogLevel, message: string) => void;

const WINDOW_MS = 10_000;
const LINES_A_WINDOW = 10;

/** One for each thing that complains: a noisy one silences no other. */
export function limitedLog(log: Logger, component: string, nowMs: () => number = Date.now): LogLimit {
  let windowEndMs = 0;
  let lines = 0;
  let suppressed = 0;
  return (level, message) => {
    const now = nowMs();
    if (now >= windowEndMs) {
      windowEndMs = now + WINDOW_MS;
      lines = 0;
      if (suppressed > 0) log.log(level, component, `${suppressed} more such lines were left out`);
      suppressed = 0;
    }
    if (lines >= LINES_A_WINDOW) {
      suppressed++;
      return;
    }
    lines++;
    log.log(level, component, message);
  };
}
