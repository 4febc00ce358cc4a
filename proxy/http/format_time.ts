/** Times in format strings: strftime's directives, in UTC. Source: envoy docs, "Access logging", START_TIME. */
import { ConfigError } from '../config_error.ts';

let lastMs = -1;
let lastText = '';
let lastSecond = -1;
let lastPrefix = '';

/** ISO 8601 with milliseconds in UTC; the part up to the second is made once a second, the whole once a millisecond. */
export function isoTime(epochMs: number): string {
  if (epochMs === lastMs) return lastText;
  lastMs = epochMs;
  const second = Math.floor(epochMs / 1000);
  if (second !== lastSecond) {
    lastSecond = second;
    lastPrefix = new Date(second * 1000).toISOString().slice(0, 20);
  }
  const ms = epochMs - second * 1000;
  lastText = `${lastPrefix}${ms < 10 ? '00' : ms < 100 ? '0' : ''}${ms}Z`;
  return lastText;
}

/** A point in time as the argument says, by default ISO 8601 with milliseconds. `source`: epoch ms, undefined: none. */
export function timeFormat<I>(
  argument: string,
  source: (input: I) => number | undefined,
): (input: I) => string | undefined {
  if (argument === '') {
    return (input) => {
      const epochMs = source(input);
      return epochMs === undefined ? undefined : isoTime(epochMs);
    };
  }
  const parts = argument.split(/(%[a-zA-Z%]|%[1-9][f])/).map(timePart);
  return (input) => {
    const epochMs = source(input);
    if (epochMs === undefined) return undefined;
    let text = '';
    for (const part of parts) text += typeof part === 'string' ? part : part(epochMs);
    return text;
  };
}

const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');
const DAYS = 'Sun Mon Tue Wed Thu Fri Sat'.split(' ');

/** One directive of strftime, or text. */
function timePart(part: string): string | ((epochMs: number) => string) {
  if (!part.startsWith('%')) return part;
  const pad = (value: number, width = 2): string => String(value).padStart(width, '0');
  const digits = /^%([1-9])f$/.exec(part)?.[1];
  if (digits !== undefined)
    return (ms) =>
      pad(ms % 1000, 3)
        .padEnd(9, '0')
        .slice(0, Number(digits));
  const date = (read: (date: Date) => string) => (ms: number) => read(new Date(ms));
  switch (part) {
    case '%%':
      return '%';
    case '%s':
      return (ms) => String(Math.floor(ms / 1000));
    case '%f':
      return (ms) => pad(ms % 1000, 3).padEnd(9, '0');
    case '%Y':
      return date((d) => String(d.getUTCFullYear()));
    case '%m':
      return date((d) => pad(d.getUTCMonth() + 1));
    case '%d':
      return date((d) => pad(d.getUTCDate()));
    case '%e':
      return date((d) => String(d.getUTCDate()).padStart(2));
    case '%H':
      return date((d) => pad(d.getUTCHours()));
    case '%M':
      return date((d) => pad(d.getUTCMinutes()));
    case '%S':
      return date((d) => pad(d.getUTCSeconds()));
    case '%b':
      return date((d) => MONTHS[d.getUTCMonth()] as string);
    case '%a':
      return date((d) => DAYS[d.getUTCDay()] as string);
    case '%F':
      return date((d) => d.toISOString().slice(0, 10));
    case '%T':
      return date((d) => d.toISOString().slice(11, 19));
    case '%z':
      return '+0000';
    case '%Z':
      return 'UTC';
    default:
      throw new ConfigError('', `"${part}" is not a time directive that is understood here`);
  }
}
