/** Shares. Envoy: envoy.type.v3.FractionalPercent and envoy.config.core.v3.RuntimeFractionalPercent. */
import type { Fields } from './resource_fields.ts';
import { runtimeShare } from './runtime_values.ts';

const DENOMINATORS = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 } as const;

export interface Fraction {
  readonly numerator: number;
  readonly denominator: number;
  /** Of the runtime layers: what they say under this key comes first. */
  readonly runtimeKey?: string;
}

export const ALWAYS: Fraction = { numerator: 100, denominator: 100 };
export const NEVER: Fraction = { numerator: 0, denominator: 100 };

/** An empty one is 0 of 100; undefined stays undefined. @throws {ConfigError} */
export function parseFraction(fields: Fields | undefined): Fraction | undefined {
  if (fields === undefined) return undefined;
  return {
    numerator: fields.integer('numerator', 0) ?? 0,
    denominator: DENOMINATORS[fields.oneOf('denominator', ['HUNDRED', 'TEN_THOUSAND', 'MILLION'], 'HUNDRED')],
  };
}

/** RuntimeFractionalPercent; `absent` where there is none, or it has no default. */
export function parseRuntimeFraction(fields: Fields | undefined, absent: Fraction): Fraction {
  const fraction = parseFraction(fields?.message('default_value')) ?? absent;
  const runtimeKey = fields?.string('runtime_key');
  return runtimeKey === undefined || runtimeKey === '' ? fraction : { ...fraction, runtimeKey };
}

/** Between 0 and 1. */
export function shareOf({ numerator, denominator, runtimeKey }: Fraction): number {
  const layered = runtimeKey === undefined ? undefined : runtimeShare(runtimeKey, denominator);
  return layered ?? numerator / denominator;
}

/** `random`: [0, 1). */
export function draws(fraction: Fraction, random: () => number): boolean {
  const share = shareOf(fraction);
  return share >= 1 || (share > 0 && random() < share);
}
