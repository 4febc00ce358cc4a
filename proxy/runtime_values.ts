/** Runtime values of this thread: what the control thread's layers say, replaced whole. */
import type { Fields } from './resource_fields.ts';
import type { RuntimeValues } from './runtime_layers.ts';

let current: RuntimeValues = new Map();

export function setRuntimeValues(values: RuntimeValues): void {
  current = values;
}

/** undefined: no layer has the key, the configured default holds. */
export function runtimeNumber(key: string): number | undefined {
  const value = key === '' ? undefined : current.get(key);
  if (value === undefined || value.trim() === '') return undefined;
  const number = Number(value);
  return Number.isFinite(number) ? number : undefined;
}

const DENOMINATORS: Readonly<Record<string, number>> = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 };

/** A share between 0 and 1: a number is of `denominator`, a fractional percent says its own. */
export function runtimeShare(key: string, denominator: number): number | undefined {
  const plain = runtimeNumber(key);
  if (plain !== undefined) return plain / denominator;
  const value = key === '' ? undefined : current.get(key);
  if (value === undefined) return undefined;
  try {
    const { numerator, denominator: unit = 'HUNDRED' } = JSON.parse(value) as {
      numerator?: number;
      denominator?: string;
    };
    return numerator === undefined ? undefined : numerator / (DENOMINATORS[unit] ?? 100);
  } catch {
    return undefined;
  }
}

/** envoy.config.core.v3.RuntimeFeatureFlag. */
export interface Flag {
  readonly defaultValue: boolean;
  readonly runtimeKey: string;
}

/** Off where there is none. @throws {ConfigError} */
export function parseRuntimeFlag(fields: Fields | undefined): Flag {
  return {
    defaultValue: fields?.boolean('default_value') ?? false,
    runtimeKey: fields?.string('runtime_key') ?? '',
  };
}

/** What a layer says of it, if that is true or false. */
export function isOn({ defaultValue, runtimeKey }: Flag): boolean {
  const value = runtimeKey === '' ? undefined : current.get(runtimeKey)?.trim().toLowerCase();
  return value === 'true' || value === '1' ? true : value === 'false' || value === '0' ? false : defaultValue;
}
