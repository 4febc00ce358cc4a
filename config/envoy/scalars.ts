/** Scalar and enum values of protobuf JSON, to their canonical form. Complaints have no path. */
import { type DescEnum, ScalarType } from '@bufbuild/protobuf';
import { ConfigError } from '../../proxy/config_error.ts';
import { show } from '../../proxy/resource_fields.ts';
import { closest } from '../istio/spelling.ts';

const MAX_FLOAT = 3.4028234663852886e38;
const SPECIAL = new Set(['NaN', 'Infinity', '-Infinity']);
const MAX_INT32 = 2 ** 31 - 1;
const MAX_UINT32 = 2n ** 32n - 1n;
/** Smallest and largest of each integer type. */
const INTEGERS: Readonly<Partial<Record<ScalarType, readonly [bigint, bigint]>>> = {
  [ScalarType.INT32]: [-(2n ** 31n), 2n ** 31n - 1n],
  [ScalarType.SINT32]: [-(2n ** 31n), 2n ** 31n - 1n],
  [ScalarType.SFIXED32]: [-(2n ** 31n), 2n ** 31n - 1n],
  [ScalarType.UINT32]: [0n, 2n ** 32n - 1n],
  [ScalarType.FIXED32]: [0n, 2n ** 32n - 1n],
  [ScalarType.INT64]: [-(2n ** 63n), 2n ** 63n - 1n],
  [ScalarType.SINT64]: [-(2n ** 63n), 2n ** 63n - 1n],
  [ScalarType.SFIXED64]: [-(2n ** 63n), 2n ** 63n - 1n],
  [ScalarType.UINT64]: [0n, 2n ** 64n - 1n],
  [ScalarType.FIXED64]: [0n, 2n ** 64n - 1n],
};

/** @param as a map's key comes as a string whatever its type. @throws {ConfigError} */
export function readScalar(type: ScalarType, value: unknown, as: 'value' | 'key' = 'value'): unknown {
  switch (type) {
    case ScalarType.STRING:
      return typeof value === 'string' ? value : fail('a string', value);
    case ScalarType.BYTES:
      return readBytes(value);
    case ScalarType.BOOL:
      if (as === 'key') return value === 'true' || value === 'false' ? value : fail('true or false', value);
      return readBoolean(value);
    case ScalarType.DOUBLE:
    case ScalarType.FLOAT:
      return readFloat(type, value);
    default:
      return readInteger(type, value);
  }
}

/** Whether it is the type's default. */
export function isEmptyScalar(canonical: unknown): boolean {
  return canonical === '' || canonical === 0 || canonical === '0' || canonical === false;
}

/** What a field without presence has when it is absent, in canonical form. */
export function scalarDefault(type: ScalarType): unknown {
  switch (type) {
    case ScalarType.STRING:
    case ScalarType.BYTES:
      return '';
    case ScalarType.BOOL:
      return false;
    case ScalarType.INT64:
    case ScalarType.UINT64:
    case ScalarType.SINT64:
    case ScalarType.FIXED64:
    case ScalarType.SFIXED64:
      return '0';
    default:
      return 0;
  }
}

/** A name in either case, or a number. @returns the name; the number when it has none. @throws {ConfigError} */
export function readEnum(type: DescEnum, value: unknown, isDefinedOnly: boolean): unknown {
  if (type.typeName === 'google.protobuf.NullValue') {
    return value === null || value === 'NULL_VALUE' ? null : fail('null', value);
  }
  const number = typeof value === 'string' && /^-?\d{1,10}$/.test(value) ? Number(value) : value;
  if (typeof number === 'number' && Number.isInteger(number) && Math.abs(number) < 2 ** 31) {
    const name = type.value[number]?.name;
    if (name !== undefined || !isDefinedOnly) return name ?? number;
  }
  const names = type.values.map(({ name }) => name);
  if (typeof value !== 'string') return fail(`one of ${names.join(', ')}`, value);
  const folded = value.toUpperCase();
  const found = names.includes(value) ? value : names.find((name) => name.toUpperCase() === folded);
  if (found !== undefined) return found;
  const near = closest(value, names);
  if (near === undefined) return fail(`one of ${names.join(', ')}`, value);
  throw new ConfigError('', `${show(value)} is not a value of ${type.name}; did you mean ${near}?`);
}

/** Envoy takes what absl::SimpleAtob takes (`yes` is a string in YAML 1.2). */
function readBoolean(value: unknown): boolean {
  if (typeof value === 'string') {
    if (/^(?:true|t|yes|y|1)$/i.test(value)) return true;
    if (/^(?:false|f|no|n|0)$/i.test(value)) return false;
  }
  return typeof value === 'boolean' ? value : fail('true or false', value);
}

function readInteger(type: ScalarType, value: unknown): number | string {
  const range = INTEGERS[type];
  if (range === undefined) throw new TypeError(`scalar type ${type}`);
  const [least, most] = range;
  // Nearly all: no BigInt is made for a port.
  if (typeof value === 'number' && Number.isInteger(value) && value > 0 && value <= MAX_INT32 && most <= MAX_UINT32) {
    return value;
  }
  const is64Bit = most > MAX_UINT32;
  const integer = toInteger(value);
  if (integer === undefined) return fail('a whole number', value);
  if (integer < least || integer > most) {
    throw new ConfigError('', `must be ${least} to ${most}, got ${show(value)}`);
  }
  return is64Bit ? String(integer) : Number(integer);
}

function toInteger(value: unknown): bigint | undefined {
  if (typeof value === 'string') {
    if (/^-?\d{1,20}$/.test(value)) return BigInt(value);
    return /^-?\d{1,20}(?:\.\d{1,20})?(?:[eE][+-]?\d{1,3})?$/.test(value) ? toInteger(Number(value)) : undefined;
  }
  return typeof value === 'number' && Number.isInteger(value) ? BigInt(value) : undefined;
}

function readFloat(type: ScalarType, value: unknown): number | string {
  if (typeof value === 'string' && SPECIAL.has(value)) return value;
  const number = typeof value === 'string' && /^-?\d/.test(value) ? Number(value) : value;
  if (typeof number !== 'number' || !Number.isFinite(number)) return fail('a number', value);
  if (type === ScalarType.FLOAT && Math.abs(number) > MAX_FLOAT) {
    throw new ConfigError('', `does not fit into 32 bits: ${show(value)}`);
  }
  return number;
}

/** Base64, either alphabet, with or without padding. */
function readBytes(value: unknown): string {
  if (typeof value !== 'string' || !/^(?:[A-Za-z0-9+/]*|[A-Za-z0-9_-]*)={0,2}$/.test(value)) {
    return fail('base64', value);
  }
  return Buffer.from(value, 'base64').toString('base64');
}

function fail(wanted: string, value: unknown): never {
  throw new ConfigError('', `${wanted} is wanted, got ${show(value)}`);
}
