/** Describes what an object of YAML may hold, and reads it into a typed value; every complaint names the place in the file. */
import { ConfigError } from '../../proxy/config_error.ts';
import { show } from '../../proxy/resource_fields.ts';
import type { KubeObject } from '../kube_object.ts';
import { closest } from './spelling.ts';
import { compileRe2 } from '../../proxy/re2.ts';

/** Where a value stands. */
export interface At {
  readonly object: KubeObject;
  readonly path: readonly (string | number)[];
  /** Unknown fields of closed messages are passed over instead of refused. */
  readonly allowUnknown: boolean;
}

/** Reads one value. Absent and null fields never reach it. @throws {ConfigError} with the place in the file. */
export type Shape<T> = (value: unknown, at: At) => T;
export type Read<S> = S extends Shape<infer T> ? T : never;

/** @throws {ConfigError} always: `sentence` says what is wrong and what is wanted. */
export function fail(at: At, sentence: string): never {
  const { kind, name, namespace } = at.object;
  throw new ConfigError(formatPath(at.path), `${sentence} (${kind} ${namespace}/${name})`, {
    origin: at.object.source.locate(at.path),
  });
}

export function within(at: At, ...names: (string | number)[]): At {
  return { ...at, path: [...at.path, ...names] };
}

export const text: Shape<string> = (value, at) =>
  typeof value === 'string' ? value : fail(at, `a string is wanted, got ${show(value)}`);

/** Strings, and the numbers and booleans that YAML made of unquoted ones (label values, header values). */
export const looseText: Shape<string> = (value, at) =>
  typeof value === 'string'
    ? value
    : typeof value === 'number' || typeof value === 'boolean'
      ? String(value)
      : fail(at, `a string is wanted, got ${show(value)}`);

export const boolean: Shape<boolean> = (value, at) =>
  typeof value === 'boolean' ? value : fail(at, `true or false is wanted, got ${show(value)}`);

/** A regular expression as RE2 reads it: no look-around, no back-references. */
export const regex: Shape<string> = (value, at) => {
  const pattern = text(value, at);
  // Istio's own sign for presence, which is no regular expression.
  if (pattern === '*') return pattern;
  try {
    compileRe2(pattern);
  } catch (error) {
    fail(at, `an RE2 regular expression is wanted, got ${show(pattern)}: ${(error as Error).message}`);
  }
  return pattern;
};

/** Whatever it is. */
export const anything: Shape<unknown> = (value) => value;

export function number(min: number, max: number): Shape<number> {
  return (value, at) => {
    if (typeof value !== 'number' || Number.isNaN(value)) fail(at, `a number is wanted, got ${show(value)}`);
    const range = max === Number.POSITIVE_INFINITY ? `of ${min} or more` : `from ${min} to ${max}`;
    if (value < min || value > max) fail(at, `a number ${range} is wanted, got ${value}`);
    return value;
  };
}

export function integer(min: number, max: number): Shape<number> {
  return (value, at) => {
    if (typeof value !== 'number' || !Number.isInteger(value)) fail(at, `a whole number is wanted, got ${show(value)}`);
    if (value < min || value > max) fail(at, `a whole number from ${min} to ${max} is wanted, got ${value}`);
    return value;
  };
}

export const port = integer(1, 65535);
export const uint32 = integer(0, 4294967295);
export const int32 = integer(-2147483648, 2147483647);

const UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 0.001,
  µs: 0.001,
  ns: 0.000001,
};

/** A duration as Go and Kubernetes write it (`1h30m`, `1.5s`, `250ms`), in ms. */
export const duration: Shape<number> = (value, at) => {
  if (typeof value === 'string' && /^(\d+(\.\d+)?(h|ms|m|s|us|µs|ns))+$/.test(value)) {
    let total = 0;
    for (const part of value.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)/g)) {
      total += Number(part[1]) * (UNIT_MS[part[2] as string] as number);
    }
    return total;
  }
  return fail(at, `a duration such as "1.5s" or "250ms" is wanted, got ${show(value)}`);
};

export function oneOf<const T extends string>(...values: readonly T[]): Shape<T> {
  return (value, at) => {
    if (typeof value === 'string' && (values as readonly string[]).includes(value)) return value as T;
    const near = typeof value === 'string' ? closest(value, values) : undefined;
    const hint = near === undefined ? '' : `; did you mean ${near}?`;
    return fail(at, `one of ${values.join(', ')} is wanted, got ${show(value)}${hint}`);
  };
}

export function list<T>(item: Shape<T>): Shape<readonly T[]> {
  return (value, at) => {
    if (!Array.isArray(value)) return fail(at, `a list is wanted, got ${show(value)}`);
    return value.map((entry, index) => {
      const place = within(at, index);
      return entry === null || entry === undefined ? fail(place, 'an empty entry is not allowed') : item(entry, place);
    });
  };
}

/** A map from names to values, in the order of the file. */
export function mapOf<T>(item: Shape<T>): Shape<ReadonlyMap<string, T>> {
  return (value, at) => {
    const out = new Map<string, T>();
    for (const [name, entry] of Object.entries(record(value, at))) {
      // `x-any:` with nothing behind it is an empty message in YAML written by hand.
      out.set(name, item(entry ?? {}, within(at, name)));
    }
    return out;
  };
}

type Fields = Readonly<Record<string, Shape<unknown>>>;
export type Message<F extends Fields> = { readonly [K in keyof F]?: Read<F[K]> } & { readonly at: At };

/** An object with these fields only: another one is a mistake, and the nearest known name is offered. */
export function message<const F extends Fields>(fields: F): Shape<Message<F>> {
  return readFields(fields, false);
}

/** An object of which these fields matter; others are passed over (Kubernetes' own kinds have hundreds). */
export function openMessage<const F extends Fields>(fields: F): Shape<Message<F>> {
  return readFields(fields, true);
}

function readFields<const F extends Fields>(fields: F, open: boolean): Shape<Message<F>> {
  const names = Object.keys(fields);
  return (value, at) => {
    const json = record(value, at);
    const out: Record<string, unknown> = { at };
    for (const name of Object.keys(json)) {
      const entry = json[name];
      const shape = Object.hasOwn(fields, name) ? fields[name] : undefined;
      if (shape === undefined) {
        if (open || at.allowUnknown) continue;
        const near = closest(name, names);
        fail(within(at, name), `unknown field "${name}"${near === undefined ? '' : `; did you mean "${near}"?`}`);
      } else if (entry !== null && entry !== undefined) {
        out[name] = shape(entry, within(at, name));
      }
    }
    return out as Message<F>;
  };
}

function record(value: unknown, at: At): Readonly<Record<string, unknown>> {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) {
    return fail(at, `an object is wanted, got ${show(value)}`);
  }
  return value as Readonly<Record<string, unknown>>;
}

/** `spec.http[0].match`. */
export function formatPath(path: readonly (string | number)[]): string {
  let out = '';
  for (const step of path) {
    out += typeof step === 'number' ? `[${step}]` : out === '' ? step : `.${step}`;
  }
  return out;
}
