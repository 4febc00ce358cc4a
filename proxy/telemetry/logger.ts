/** Pillion's own log on stderr: text on a terminal, JSON lines otherwise; levels per component, changeable at run time. */
import { writeSync } from 'node:fs';
import { isoTime } from '../http/format_time.ts';
import { LOG_LEVELS, type Logger, type LogLevel } from './log.ts';
import { escapeControls } from './thread_access_logs.ts';

/** Whether a text names a level (Envoy's names, and `warn`). */
export function parseLogLevel(text: string): LogLevel | undefined {
  const name = text === 'warn' ? 'warning' : text;
  return LOG_LEVELS.find((level) => level === name);
}

export interface LogOutput {
  /** Text for people, else JSON lines. */
  readonly text: boolean;
  write(line: string): void;
}

export class LeveledLogger implements Logger {
  /** Of components that have none of their own. */
  defaultLevel: LogLevel;
  readonly components = new Map<string, LogLevel>();
  readonly #output: LogOutput;

  constructor(defaultLevel: LogLevel, output: LogOutput) {
    this.defaultLevel = defaultLevel;
    this.#output = output;
  }

  levels(): ReadonlyMap<string, LogLevel> {
    return new Map([['', this.defaultLevel], ...this.components]);
  }

  setLevel(level: LogLevel, component?: string): void {
    if (component !== undefined) this.components.set(component, level);
    else {
      this.defaultLevel = level;
      this.components.clear();
    }
  }

  enabled(level: LogLevel, component: string): boolean {
    const threshold = this.components.get(component) ?? this.defaultLevel;
    return LOG_LEVELS.indexOf(level) >= LOG_LEVELS.indexOf(threshold);
  }

  log(level: LogLevel, component: string, message: string, fields?: Readonly<Record<string, unknown>>): void {
    if (level === 'off' || !this.enabled(level, component)) return;
    const time = isoTime(Date.now());
    if (this.#output.text) {
      const extra = fields === undefined ? '' : ` ${JSON.stringify(fields)}`;
      this.#output.write(`${time} ${level} ${component} ${escapeControls(message)}${extra}\n`);
    } else this.#output.write(`${JSON.stringify({ time, level, scope: component, msg: message, ...fields })}\n`);
  }
}

/** stderr; a reader that stops reading loses lines, never us (EAGAIN is dropped). */
export function stderrOutput(text = process.stderr.isTTY === true): LogOutput {
  return {
    text,
    write(line) {
      try {
        writeSync(2, line);
      } catch {
        // Nobody reads: there is nowhere left to say so.
      }
    },
  };
}
