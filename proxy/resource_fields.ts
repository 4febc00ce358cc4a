/** Reads fields of a protobuf-JSON message with their path, so that every complaint names the field. */
import { ConfigError } from './config_error.ts';

/** A message's fields. Names are the proto's (snake_case). Absent and null are the same: the default. */
export class Fields {
  readonly json: Readonly<Record<string, unknown>>;
  // Paths are put together when somebody complains: a push has a hundred thousand messages and no complaint.
  readonly #above: Fields | undefined;
  readonly #name: string;
  readonly #index: number;

  /**
   * @param path of the message; its name in `above` when that is given, and `index` its place in a list of that name.
   * @throws {ConfigError} when `json` is not an object.
   */
  constructor(json: unknown, path = '', above?: Fields, index = -1) {
    this.#above = above;
    this.#name = path;
    this.#index = index;
    if (json === null || typeof json !== 'object' || Array.isArray(json)) {
      throw new ConfigError(this.path, `an object is wanted, got ${show(json)}`);
    }
    this.json = json as Readonly<Record<string, unknown>>;
  }

  get path(): string {
    const path = this.#above === undefined ? this.#name : this.#above.at(this.#name);
    return this.#index < 0 ? path : `${path}[${this.#index}]`;
  }

  has(name: string): boolean {
    return this.raw(name) !== undefined;
  }

  raw(name: string): unknown {
    const value = Object.hasOwn(this.json, name) ? this.json[name] : undefined;
    return value === null ? undefined : value;
  }

  at(name: string): string {
    const { path } = this;
    return path === '' ? name : `${path}.${name}`;
  }

  fail(name: string, message: string): never {
    throw new ConfigError(this.at(name), message);
  }

  string(name: string): string | undefined {
    const value = this.raw(name);
    if (value === undefined || typeof value === 'string') return value;
    return this.fail(name, `a string is wanted, got ${show(value)}`);
  }

  requiredString(name: string): string {
    const value = this.string(name);
    if (value === undefined || value === '') this.fail(name, 'is required and must not be empty');
    return value as string;
  }

  boolean(name: string): boolean | undefined {
    const value = this.raw(name);
    if (value === undefined || typeof value === 'boolean') return value;
    return this.fail(name, `true or false is wanted, got ${show(value)}`);
  }

  /** A number of any width; 64-bit ones may come as strings. */
  number(name: string, min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY): number | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
    if (typeof number !== 'number' || Number.isNaN(number))
      return this.fail(name, `a number is wanted, got ${show(value)}`);
    if (number < min || number > max) {
      return this.fail(
        name,
        max === Number.POSITIVE_INFINITY
          ? `must be >= ${min}, got ${number}`
          : `must be ${min} to ${max}, got ${number}`,
      );
    }
    return number;
  }

  integer(name: string, min = 0, max = 4294967295): number | undefined {
    const value = this.number(name, min, max);
    if (value !== undefined && !Number.isInteger(value))
      return this.fail(name, `a whole number is wanted, got ${value}`);
    return value;
  }

  /** google.protobuf.Duration, as milliseconds. */
  durationMs(name: string): number | undefined {
    const value = this.raw(name);
    if (value === undefined) return undefined;
    if (typeof value === 'string') {
      const match = /^(-?\d+(?:\.\d+)?)s$/.exec(value);
      if (match !== null) return Number(match[1]) * 1000;
    }
    return this.fail(name, `a duration such as "1.5s" is wanted, got ${show(value)}`);
  }

  message(name: string): Fields | undefined {
    const value = this.raw(name);
    return value === undefined ? undefined : new Fields(value, name, this);
  }

  requiredMessage(name: string): Fields {
    return this.message(name) ?? this.fail(name, 'is required');
  }

  /** A message whose absence means that all its fields are absent. */
  messageOrEmpty(name: string): Fields {
    return this.message(name) ?? new Fields({}, name, this);
  }

  /** A repeated field; empty when absent. */
  list(name: string): readonly unknown[] {
    const value = this.raw(name);
    if (value === undefined) return [];
    return Array.isArray(value) ? value : this.fail(name, `a list is wanted, got ${show(value)}`);
  }

  messages(name: string): Fields[] {
    return this.list(name).map((item, index) => new Fields(item, name, this, index));
  }

  strings(name: string): string[] {
    return this.list(name).map((item, index) => {
      if (typeof item === 'string') return item;
      throw new ConfigError(`${this.at(name)}[${index}]`, `a string is wanted, got ${show(item)}`);
    });
  }

  /** A map field's entries. */
  entries(name: string): [string, unknown][] {
    const value = this.raw(name);
    if (value === undefined) return [];
    if (typeof value !== 'object' || Array.isArray(value))
      return this.fail(name, `a map is wanted, got ${show(value)}`);
    return Object.entries(value as object);
  }

  oneOf<const T extends string>(name: string, values: readonly T[], absent: T): T {
    const value = this.raw(name);
    if (value === undefined) return absent;
    if (typeof value === 'string' && (values as readonly string[]).includes(value)) return value as T;
    return this.fail(name, `one of ${values.join(', ')} is wanted, got ${show(value)}`);
  }
}

/** What may be a private key, as PEM or as base64 of it. */
const KEY_LIKE = /PRIVATE KEY|LS0tLS1CRUdJTi/;

/** A value, quoted and short, for an error; never a key. */
export function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : (JSON.stringify(value) ?? String(value));
  if (KEY_LIKE.test(text)) return 'something that looks like a certificate or key (not shown)';
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
