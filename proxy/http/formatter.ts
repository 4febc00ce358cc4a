/** Envoy's substitution format strings: `%COMMAND(ARGUMENT):LENGTH%`. Source: envoy docs, "Access logging → Format strings". */
import { ConfigError } from '../config_error.ts';
import { type Command, commandFor } from './format_commands.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from './headers.ts';
import type { StreamInfo } from './stream_info.ts';

/** What a format may look at. */
export interface FormatInput {
  readonly info: StreamInfo;
  readonly requestHeaders: RequestHeaders | undefined;
  readonly responseHeaders: ResponseHeaders | undefined;
  readonly responseTrailers: Headers | undefined;
}

/** A compiled format string. */
export interface Formatter {
  /** Missing values print `-` in access logs and nothing in headers (chosen when compiled). */
  format(input: FormatInput): string;
  /** The text if it has no command in it. */
  readonly constant: string | undefined;
}

/** `%NAME(argument):length%`, or `%%`. Arguments may hold parentheses of their own. */
const COMMAND = /%(?:%|([A-Z0-9_]+)(?:\(((?:[^()]|\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\))*)\))?(?::(\d+))?%)/g;

/** @throws {ConfigError} for an unknown command or a lone `%`. */
export function compileFormat(format: string, options: { absent: 'dash' | 'empty' }): Formatter {
  const parts = compileParts(format);
  if (parts.every((part) => typeof part === 'string')) {
    const constant = parts.join('');
    return { constant, format: () => constant };
  }
  const absent = options.absent === 'dash' ? '-' : '';
  return {
    constant: undefined,
    format(input) {
      let text = '';
      for (let i = 0; i < parts.length; i++) {
        const part = parts[i] as string | Command;
        if (typeof part === 'string') text += part;
        else {
          const value = part(input);
          text +=
            value === undefined || value === '' ? absent : typeof value === 'object' ? JSON.stringify(value) : value;
        }
      }
      return text;
    },
  };
}

/** The texts and commands of a format, for whoever writes them one by one. @throws {ConfigError} as compileFormat does. */
export function compilePieces(format: string): readonly (string | Command)[] {
  return compileParts(format);
}

/** A value of a JSON access log: a lone command keeps its type, text around it makes a string. */
export function compileJsonValue(format: string): (input: FormatInput) => unknown {
  const parts = compileParts(format).filter((part) => part !== '');
  const [first] = parts;
  if (parts.length === 1 && typeof first === 'function') return first;
  const { format: text } = compileFormat(format, { absent: 'dash' });
  return text;
}

/** A JSON format: every text in it is a format string. `omitEmpty`: fields without a value are left out. */
export function compileJson(value: unknown, omitEmpty: boolean): (input: FormatInput) => unknown {
  if (typeof value === 'string') {
    const read = compileJsonValue(value);
    return (input) => read(input) ?? null;
  }
  if (Array.isArray(value)) {
    const items = value.map((item) => compileJson(item, omitEmpty));
    return (input) => items.map((item) => item(input));
  }
  if (value !== null && typeof value === 'object') {
    const entries = Object.entries(value).map(([key, item]) => [key, compileJson(item, omitEmpty)] as const);
    return (input) => {
      const made: Record<string, unknown> = {};
      for (const [key, item] of entries) {
        const found = item(input);
        if (!omitEmpty || (found !== null && found !== '')) made[key] = found === '' ? null : found;
      }
      return made;
    };
  }
  return () => value;
}

function compileParts(format: string): (string | Command)[] {
  const parts: (string | Command)[] = [];
  let at = 0;
  for (const match of format.matchAll(COMMAND)) {
    pushText(parts, format.slice(at, match.index));
    at = match.index + match[0].length;
    const [whole, name, argument = '', length] = match;
    if (name === undefined) pushText(parts, '%', true);
    else {
      const command = commandFor(name, argument, whole);
      parts.push(length === undefined ? command : cut(command, Number(length)));
    }
  }
  pushText(parts, format.slice(at));
  return parts;
}

function pushText(parts: (string | Command)[], text: string, escaped = false): void {
  if (!escaped && text.includes('%')) {
    throw new ConfigError('', `"${text.trim()}": a lone %: write %% for a percent sign, %COMMAND% for a command`);
  }
  const last = parts.at(-1);
  if (typeof last === 'string') parts[parts.length - 1] = last + text;
  else if (text !== '') parts.push(text);
}

function cut(command: Command, length: number): Command {
  return (input) => {
    const value = command(input);
    return typeof value === 'string' && value.length > length ? value.slice(0, length) : value;
  };
}
