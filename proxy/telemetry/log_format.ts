/**
 * How lines of Pillion's own log look where a bootstrap says so: text or JSON with spdlog's placeholders.
 * Envoy: envoy.config.bootstrap.v3.Bootstrap.ApplicationLogConfig.LogFormat.
 */
import { threadId } from 'node:worker_threads';
import { escapeControls } from './thread_access_logs.ts';
import type { LogLevel } from './log.ts';
import { Fields } from '../resource_fields.ts';

export interface LogRecord {
  readonly timeMs: number;
  readonly level: LogLevel;
  readonly component: string;
  /** Secrets are out of it; control characters are not. */
  readonly message: string;
}

/** @returns one line without its end. */
export type LogFormat = (record: LogRecord) => string;

type Part = (record: LogRecord) => string;

const two = (value: number): string => String(value).padStart(2, '0');
const date = ({ timeMs }: LogRecord): Date => new Date(timeMs);
const millis: Part = ({ timeMs }) => String(Math.floor(timeMs) % 1000).padStart(3, '0');
const clock: Part = (record) => {
  const at = date(record);
  return `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}:${two(at.getUTCSeconds())}`;
};
const nothing: Part = () => '';
const message: Part = (record) => record.message;

/** Times are UTC. A line has no place in a source file: what stands for it is empty. */
const PLACEHOLDERS: Readonly<Record<string, Part>> = {
  v: message,
  _: message,
  j: message,
  l: ({ level }) => level,
  L: ({ level }) => level.charAt(0).toUpperCase(),
  n: ({ component }) => component,
  t: () => String(threadId),
  P: () => String(process.pid),
  Y: (record) => String(date(record).getUTCFullYear()),
  m: (record) => two(date(record).getUTCMonth() + 1),
  d: (record) => two(date(record).getUTCDate()),
  H: (record) => two(date(record).getUTCHours()),
  M: (record) => two(date(record).getUTCMinutes()),
  S: (record) => two(date(record).getUTCSeconds()),
  T: clock,
  X: clock,
  e: millis,
  f: (record) => `${millis(record)}000`,
  F: (record) => `${millis(record)}000000`,
  E: ({ timeMs }) => String(Math.floor(timeMs / 1000)),
  z: () => '+00:00',
  s: nothing,
  g: nothing,
  '#': nothing,
  '@': nothing,
  '!': nothing,
  '^': nothing,
  $: nothing,
  '%': () => '%',
};

/** `json`: a bootstrap's application_log_config; undefined: the standard form of lines. @throws {ConfigError} */
export function parseApplicationLog(json: unknown): LogFormat | undefined {
  if (json === undefined || json === null) return undefined;
  const format = new Fields(json, 'application_log_config').message('log_format');
  const text = format?.string('text_format');
  if (text !== undefined) {
    const line = compile(text, refusedIn(format as Fields, 'text_format'));
    return (record) => escapeControls(line(record));
  }
  const object = format?.message('json_format');
  if (object === undefined) return undefined;
  const value = compileValue(object.json, format as Fields);
  return (record) => JSON.stringify(value(record));
}

/** --log-format: as spdlog, a placeholder that it does not know stands in the line as it is. */
export function parseLogFormat(text: string): LogFormat {
  const line = compile(text, (placeholder) => literal(placeholder));
  // A tab between columns is the format's own.
  return (record) => line({ ...record, message: escapeControls(record.message) });
}

function refusedIn(format: Fields, field: string): (placeholder: string) => Part {
  return (placeholder) => format.fail(field, `the placeholder "${placeholder}" is not supported`);
}

function compileValue(value: unknown, format: Fields): (record: LogRecord) => unknown {
  if (typeof value === 'string') return compile(value, refusedIn(format, 'json_format'));
  if (Array.isArray(value)) {
    const items = value.map((item) => compileValue(item, format));
    return (record) => items.map((item) => item(record));
  }
  if (value === null || typeof value !== 'object') return () => value;
  const entries = Object.entries(value).map(([key, item]) => [key, compileValue(item, format)] as const);
  return (record) => Object.fromEntries(entries.map(([key, item]) => [key, item(record)]));
}

function compile(text: string, unknown: (placeholder: string) => Part): Part {
  const parts: Part[] = [];
  let from = 0;
  for (let at = text.indexOf('%'); at >= 0; at = text.indexOf('%', from)) {
    if (at > from) parts.push(literal(text.slice(from, at)));
    const flag = text.charAt(at + 1);
    const part = Object.hasOwn(PLACEHOLDERS, flag) ? PLACEHOLDERS[flag] : undefined;
    parts.push(part ?? unknown(`%${flag}`));
    from = at + 2;
  }
  if (from < text.length) parts.push(literal(text.slice(from)));
  return (record) => parts.reduce((line, part) => line + part(record), '');
}

function literal(text: string): Part {
  return () => text;
}
