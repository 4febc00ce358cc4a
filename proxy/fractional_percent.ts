/** Shares. Envoy: envoy.type.v3.FractionalPercent and envoy.config.core.v3.RuntimeFractionalPercent. */
import type { Fields } from './resource_fields.ts';

const DENOMINATORS = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 } as const;

export interface Fraction {
  readonly numerator: number;
  readonly denominator: number;
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

/** RuntimeFractionalPercent: there is no runtime to ask, so its default holds; `absent` without one. */
export function parseRuntimeFraction(fields: Fields | undefined, absent: Fraction): Fraction {
  return parseFraction(fields?.message('default_value')) ?? absent;
}

/** `random`: [0, 1). */
export function draws({ numerator, denominator }: Fraction, random: () => number): boolean {
  return numerator >= denominator || (numerator > 0 && random() * denominator < numerator);
}
