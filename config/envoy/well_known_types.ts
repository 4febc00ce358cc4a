/** Messages of google.protobuf that have a JSON form of their own, to its canonical spelling. Complaints have no path. */
import { type DescMessage, ScalarType } from '@bufbuild/protobuf';
import { ConfigError } from '../../proxy/config_error.ts';
import { show } from '../../proxy/resource_fields.ts';
import { readScalar, scalarDefault } from './scalars.ts';

type Kind = 'any' | 'wrapper' | 'struct' | 'value' | 'list' | 'duration' | 'timestamp' | 'field_mask';

const KINDS: Readonly<Record<string, Kind>> = {
  'google.protobuf.Any': 'any',
  'google.protobuf.DoubleValue': 'wrapper',
  'google.protobuf.FloatValue': 'wrapper',
  'google.protobuf.Int64Value': 'wrapper',
  'google.protobuf.UInt64Value': 'wrapper',
  'google.protobuf.Int32Value': 'wrapper',
  'google.protobuf.UInt32Value': 'wrapper',
  'google.protobuf.BoolValue': 'wrapper',
  'google.protobuf.StringValue': 'wrapper',
  'google.protobuf.BytesValue': 'wrapper',
  'google.protobuf.Struct': 'struct',
  'google.protobuf.Value': 'value',
  'google.protobuf.ListValue': 'list',
  'google.protobuf.Duration': 'duration',
  'google.protobuf.Timestamp': 'timestamp',
  'google.protobuf.FieldMask': 'field_mask',
};
const MAX_DURATION_SECONDS = 315_576_000_000;

/** undefined: an ordinary message. In an Any, these have their content in "value". */
export function wellKnownKind({ typeName }: DescMessage): Kind | undefined {
  return Object.hasOwn(KINDS, typeName) ? KINDS[typeName] : undefined;
}

/** Everything but Any. @throws {ConfigError} */
export function readWellKnown(type: DescMessage, json: unknown): unknown {
  switch (wellKnownKind(type)) {
    case 'wrapper':
      return readWrapper(type, json);
    case 'struct':
      if (json === null || typeof json !== 'object' || Array.isArray(json)) return fail('an object', json);
      return copyValue(json);
    case 'list':
      return Array.isArray(json) ? copyValue(json) : fail('a list', json);
    case 'value':
      return copyValue(json);
    case 'duration':
      return readDuration(json);
    case 'timestamp':
      return readTimestamp(json);
    case 'field_mask':
      return typeof json === 'string' ? json : fail('field names, separated by commas,', json);
    default:
      throw new TypeError(`${type.typeName} has no JSON form of its own`);
  }
}

/** The value, or, as Envoy takes it too, `{ value }`. */
function readWrapper(type: DescMessage, json: unknown): unknown {
  const [field] = type.fields;
  if (field?.fieldKind !== 'scalar') throw new TypeError(`${type.typeName} wraps no scalar`);
  if (json === null || typeof json !== 'object') return readScalar(field.scalar, json);
  const { value } = onlyFields(json, ['value']);
  return readScalar(field.scalar, value ?? scalarDefault(field.scalar));
}

function onlyFields(json: object, names: readonly string[]): Readonly<Record<string, unknown>> {
  const stranger = Array.isArray(json) ? '0' : Object.keys(json).find((key) => !names.includes(key));
  return stranger === undefined ? (json as Record<string, unknown>) : fail('a plain value', json);
}

/** Objects lose their prototype: their keys are of somebody's choosing. */
function copyValue(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(copyValue);
  if (typeof value === 'number' && !Number.isFinite(value)) return fail('a finite number', String(value));
  if (value === null || typeof value !== 'object') return value;
  const out: Record<string, unknown> = Object.create(null) as Record<string, unknown>;
  for (const [key, item] of Object.entries(value)) out[key] = copyValue(item);
  return out;
}

/** `"1.5s"`, or, as Envoy takes it too, `{ seconds, nanos }`. Canonical: 0, 3, 6 or 9 digits after the point. */
function readDuration(value: unknown): string {
  if (value !== null && typeof value === 'object') return readDuration(durationText(value));
  const match = typeof value === 'string' ? /^(-?)(\d{1,12})(?:\.(\d{1,9}))?s$/.exec(value) : null;
  if (match === null) return fail('a duration such as "1.5s"', value);
  const [, sign = '', seconds = '0', fraction = ''] = match;
  if (Number(seconds) > MAX_DURATION_SECONDS) {
    throw new ConfigError('', `must be at most ${MAX_DURATION_SECONDS}s, got ${show(value)}`);
  }
  const nanos = fraction.padEnd(9, '0');
  const digits = nanos === '000000000' ? 0 : nanos.endsWith('000000') ? 3 : nanos.endsWith('000') ? 6 : 9;
  const whole = String(Number(seconds));
  if (digits === 0) return whole === '0' ? '0s' : `${sign}${whole}s`;
  return `${sign}${whole}.${nanos.slice(0, digits)}s`;
}

function durationText(json: object): string {
  const { seconds, nanos } = onlyFields(json, ['seconds', 'nanos']);
  const whole = String(readScalar(ScalarType.INT64, seconds ?? 0));
  const rest = Number(readScalar(ScalarType.INT32, nanos ?? 0));
  if (Math.abs(rest) > 999_999_999) throw new ConfigError('', `nanos must be below 1000000000, got ${rest}`);
  const sign = whole.startsWith('-') || rest < 0 ? '-' : '';
  if ((sign === '-' && rest > 0) || (rest < 0 && Number(whole) > 0)) {
    throw new ConfigError('', `seconds and nanos must have the same sign, got ${whole} and ${rest}`);
  }
  return `${sign}${whole.replace('-', '')}.${String(Math.abs(rest)).padStart(9, '0')}s`;
}

function readTimestamp(value: unknown): string {
  const isTimestamp =
    typeof value === 'string' &&
    /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/.test(value) &&
    !Number.isNaN(Date.parse(value));
  return isTimestamp ? value : fail('a time such as "2026-01-31T12:00:00Z"', value);
}

function fail(wanted: string, value: unknown): never {
  throw new ConfigError('', `${wanted} is wanted, got ${show(value)}`);
}
