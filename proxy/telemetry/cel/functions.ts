/**
 * CEL's functions. Envoy has those that make texts only where they are switched on; the others are always there.
 * Source: envoy.config.core.v3.CelExpressionConfig; the CEL language definition; cel-go's string extension.
 */
import { CEL_ERROR, type CelObject, celText } from './values.ts';

/** What an expression may do beyond Envoy's default; a function that is not switched on is refused as unknown. */
export interface CelOptions {
  /** `string(x)`. */
  readonly conversion: boolean;
  /** `"a" + "b"`; without it the sum has no value. */
  readonly concatenation: boolean;
  /** lowerAscii, upperAscii, trim, split, join, replace, substring, indexOf, lastIndexOf, charAt. */
  readonly textFunctions: boolean;
}

export const EVERYTHING: CelOptions = { conversion: true, concatenation: true, textFunctions: true };
/** Envoy's default. */
export const PLAIN: CelOptions = { conversion: false, concatenation: false, textFunctions: false };

export interface CelFunction {
  readonly arities: readonly number[];
  apply(...values: unknown[]): unknown;
}

const onText = (apply: (text: string, part: string) => unknown): CelFunction => ({
  arities: [2],
  apply: (text, part) => (typeof text === 'string' && typeof part === 'string' ? apply(text, part) : CEL_ERROR),
});

const GENERAL: Readonly<Record<string, CelFunction>> = {
  startsWith: onText((text, part) => text.startsWith(part)),
  endsWith: onText((text, part) => text.endsWith(part)),
  contains: onText((text, part) => text.includes(part)),
  size: {
    arities: [1],
    apply(value) {
      if (typeof value === 'string') return [...value].length;
      if (Array.isArray(value)) return value.length;
      if (value instanceof Map) return value.size;
      if (value === null || typeof value !== 'object') return CEL_ERROR;
      if (typeof (value as CelObject).get !== 'function') return Object.keys(value).length;
      return (value as CelObject).size?.() ?? CEL_ERROR;
    },
  },
  int: { arities: [1], apply: (value) => integer(value) },
  uint: {
    arities: [1],
    apply(value) {
      const number = integer(value);
      return typeof number === 'number' && number < 0 ? CEL_ERROR : number;
    },
  },
  double: {
    arities: [1],
    apply(value) {
      const number =
        typeof value === 'number' || (typeof value === 'string' && value.trim() !== '') ? Number(value) : Number.NaN;
      return Number.isNaN(number) ? CEL_ERROR : number;
    },
  },
  bool: {
    arities: [1],
    apply: (value) =>
      value === true || value === 'true' ? true : value === false || value === 'false' ? false : CEL_ERROR,
  },
  dyn: { arities: [1], apply: (value) => value },
  bytes: { arities: [1], apply: (value) => (typeof value === 'string' ? value : CEL_ERROR) },
  type: {
    arities: [1],
    apply: (value) =>
      value === null
        ? 'null_type'
        : Array.isArray(value)
          ? 'list'
          : typeof value === 'number'
            ? 'int'
            : typeof value === 'boolean'
              ? 'bool'
              : typeof value === 'string'
                ? 'string'
                : 'map',
  },
  duration: {
    arities: [1],
    apply(value) {
      const match = typeof value === 'string' ? /^(-?\d+(?:\.\d+)?)(h|m|s|ms|us|ns)$/.exec(value) : null;
      if (match === null) return CEL_ERROR;
      const ms = { h: 3_600_000, m: 60_000, s: 1000, ms: 1, us: 0.001, ns: 0.000001 }[
        match[2] as 'h' | 'm' | 's' | 'ms' | 'us' | 'ns'
      ];
      return Number(match[1]) * ms;
    },
  },
  timestamp: {
    arities: [1],
    apply(value) {
      const ms = typeof value === 'string' ? Date.parse(value) : Number.NaN;
      return Number.isNaN(ms) ? CEL_ERROR : ms;
    },
  },
};

const CONVERSION: Readonly<Record<string, CelFunction>> = {
  string: { arities: [1], apply: (value) => celText(value) ?? CEL_ERROR },
};

const TEXT: Readonly<Record<string, CelFunction>> = {
  lowerAscii: { arities: [1], apply: (text) => (typeof text === 'string' ? text.toLowerCase() : CEL_ERROR) },
  upperAscii: { arities: [1], apply: (text) => (typeof text === 'string' ? text.toUpperCase() : CEL_ERROR) },
  trim: { arities: [1], apply: (text) => (typeof text === 'string' ? text.trim() : CEL_ERROR) },
  split: onText((text, part) => text.split(part)),
  replace: {
    arities: [3],
    apply: (text, from, to) =>
      typeof text === 'string' && typeof from === 'string' && typeof to === 'string'
        ? text.replaceAll(from, () => to)
        : CEL_ERROR,
  },
  join: {
    arities: [1, 2],
    apply: (list, between = '') =>
      Array.isArray(list) && list.every((item) => typeof item === 'string') && typeof between === 'string'
        ? list.join(between)
        : CEL_ERROR,
  },
  substring: {
    arities: [2, 3],
    apply(text, from, to) {
      if (typeof text !== 'string') return CEL_ERROR;
      const points = [...text];
      const end = to ?? points.length;
      return isIndex(from, points.length) && isIndex(end, points.length) && from <= end
        ? points.slice(from, end).join('')
        : CEL_ERROR;
    },
  },
  charAt: {
    arities: [2],
    apply(text, at) {
      if (typeof text !== 'string') return CEL_ERROR;
      const points = [...text];
      return isIndex(at, points.length) ? (points[at] ?? '') : CEL_ERROR;
    },
  },
  indexOf: { arities: [2], apply: (text, part) => position(text, part, (points, sought) => points.indexOf(sought)) },
  lastIndexOf: {
    arities: [2],
    apply: (text, part) => position(text, part, (points, sought) => points.lastIndexOf(sought)),
  },
};

/** @returns undefined where there is no such function, or it is not switched on. */
export function celFunction(name: string, options: CelOptions): CelFunction | undefined {
  if (Object.hasOwn(GENERAL, name)) return GENERAL[name];
  if (options.conversion && Object.hasOwn(CONVERSION, name)) return CONVERSION[name];
  return options.textFunctions && Object.hasOwn(TEXT, name) ? TEXT[name] : undefined;
}

/** Places in a text are counted in code points, and may stand behind the last one. */
function isIndex(value: unknown, length: number): value is number {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= length;
}

function position(text: unknown, part: unknown, find: (text: string, part: string) => number): unknown {
  if (typeof text !== 'string' || typeof part !== 'string') return CEL_ERROR;
  const at = find(text, part);
  return at < 0 ? -1 : [...text.slice(0, at)].length;
}

function integer(value: unknown): unknown {
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (typeof value === 'number') return Math.trunc(value);
  return typeof value === 'string' && /^-?\d+$/.test(value) ? Number(value) : CEL_ERROR;
}
