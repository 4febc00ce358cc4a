/** Pillion's own log on stderr: text on a terminal, JSON lines otherwise; levels per component, changeable at run time. */
import { writeSync } from 'node:fs';
import { openLogDescriptor } from './log_descriptor.ts';
import { redactJson, redactText } from './redaction.ts';
import { isoTime } from '../http/format_time.ts';
import type { LogFormat } from './log_format.ts';
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
  /** undefined: the output's own form. */
  format: LogFormat | undefined = undefined;
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
    const text = redactText(message);
    const more = fields === undefined ? undefined : (redactJson(fields) as Readonly<Record<string, unknown>>);
    if (this.format !== undefined) {
      const whole = more === undefined ? text : `${text} ${JSON.stringify(more)}`;
      this.#output.write(`${this.format({ timeMs: Date.now(), level, component, message: whole })}\n`);
    } else if (this.#output.text) {
      const extra = more === undefined ? '' : ` ${JSON.stringify(more)}`;
      this.#output.write(`${time} ${level} ${component} ${escapeControls(text)}${extra}\n`);
    } else this.#output.write(`${JSON.stringify({ time, level, scope: component, msg: text, ...more })}\n`);
  }
}

/** stderr; a reader that stops reading loses lines, never us (EAGAIN is dropped). */
export function stderrOutput(text = process.stderr.isTTY === true): LogOutput {
  const { fd } = openLogDescriptor('/dev/stderr');
  return {
    text,
    write(line) {
      try {
        writeSync(fd, line);
      } catch {
        // Nobody reads: there is nowhere left to say so.
      }
    },
  };
}
