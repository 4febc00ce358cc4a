/** The validate annotations of Envoy's protos (protoc-gen-validate), compiled to checks of canonical JSON values. */
import assert from 'node:assert';
import { type DescField, type DescOneof, getOption, hasOption, type Message, toJson } from '@bufbuild/protobuf';
import { show } from '../../proxy/resource_fields.ts';
import { descriptors } from './descriptors.ts';

/** @returns what is wrong with a value: a sentence, or undefined. */
export type Check = (value: unknown) => string | undefined;

export interface FieldRules {
  /** A message that must be there. */
  readonly required: boolean;
  /** The message's own rules do not apply. */
  readonly skip: boolean;
  /** Of the value; of the whole list or map. Of a scalar without presence, also of its default. */
  readonly check: Check | undefined;
  /** Of each item or map value. */
  readonly item: Check | undefined;
  readonly key: Check | undefined;
  /** Of the enum, be it the field's or its items': a number without a name is refused. */
  readonly isDefinedOnly: boolean;
}

type Json = Readonly<Record<string, unknown>>;

const NO_RULES = compileRules({});

export function rulesOf(field: DescField): FieldRules {
  const extension = descriptors().getExtension('validate.rules');
  assert(extension?.message !== undefined);
  if (!hasOption(field, extension)) return NO_RULES;
  const rules = toJson(extension.message, getOption(field, extension) as Message, {
    registry: descriptors(),
    useProtoFieldName: true,
  }) as Json;
  return compileRules(rules, (number) => field.enum?.value[number]?.name);
}

export function isRequired(oneof: DescOneof): boolean {
  const extension = descriptors().getExtension('validate.required');
  assert(extension !== undefined);
  return hasOption(oneof, extension) && getOption(oneof, extension) === true;
}

/** @param rules validate.FieldRules as JSON: `{ string: { min_len: "1" } }`. @param enumName of a number, if it has one. */
export function compileRules(rules: Json, enumName: EnumName = () => undefined): FieldRules {
  const messageRules = (rules['message'] ?? {}) as Json;
  const [kind, own] = (Object.entries(rules).find(([name]) => name !== 'message') ?? ['message', {}]) as [string, Json];
  const item = nested(kind === 'map' ? own['values'] : own['items'], enumName);
  return {
    required: messageRules['required'] === true || own['required'] === true,
    skip: messageRules['skip'] === true || item?.skip === true,
    check: all(compileKind(kind, own, enumName)),
    item: item?.check,
    key: nested(own['keys'], enumName)?.check,
    isDefinedOnly: own['defined_only'] === true || item?.isDefinedOnly === true,
  };
}

type EnumName = (number: number) => string | undefined;

function nested(rules: unknown, enumName: EnumName): FieldRules | undefined {
  return rules === undefined ? undefined : compileRules(rules as Json, enumName);
}

function compileKind(kind: string, rules: Json, enumName: EnumName): Check[] {
  const checks: Check[] = [];
  switch (kind) {
    case 'string':
      checks.push(...lengths(rules, (text) => [...text].length), ...texts(rules));
      break;
    case 'bytes':
      checks.push(...lengths(rules, (base64) => Buffer.from(base64, 'base64').length));
      break;
    case 'repeated':
    case 'map':
      checks.push(...counts(rules));
      break;
    case 'message':
    case 'any':
      break;
    case 'duration':
      checks.push(...ranges(rules, nanoseconds));
      break;
    case 'int64':
    case 'uint64':
    case 'sint64':
    case 'fixed64':
    case 'sfixed64':
      checks.push(...ranges(rules, (value) => BigInt(value as string)));
      break;
    default:
      checks.push(...ranges(rules, Number));
  }
  checks.push(...members(kind === 'enum' ? named(rules, enumName) : rules));
  return rules['ignore_empty'] === true
    ? checks.map((check) => (value) => (isEmpty(value) ? undefined : check(value)))
    : checks;
}

function all(checks: readonly Check[]): Check | undefined {
  if (checks.length <= 1) return checks[0];
  return (value) => {
    for (const check of checks) {
      const complaint = check(value);
      if (complaint !== undefined) return complaint;
    }
    return undefined;
  };
}

function isEmpty(value: unknown): boolean {
  return value === '' || value === 0 || value === '0' || (Array.isArray(value) && value.length === 0);
}

/** Canonical values have an enum's names where annotations have its numbers. */
function named(rules: Json, enumName: EnumName): Json {
  const name = (value: unknown): unknown => enumName(value as number) ?? value;
  return Object.fromEntries(
    Object.entries(rules).map(([rule, value]) => [rule, Array.isArray(value) ? value.map(name) : name(value)]),
  );
}

/** Every annotation has these: const, in, not_in; defined_only is the reader's, which knows the enum. */
function members(rules: Json): Check[] {
  const checks: Check[] = [];
  if (rules['const'] !== undefined) {
    checks.push((value) =>
      value === rules['const'] ? undefined : `must be ${show(rules['const'])}, got ${show(value)}`,
    );
  }
  const list = (name: string): readonly unknown[] | undefined => rules[name] as readonly unknown[] | undefined;
  const within = list('in');
  if (within !== undefined) {
    checks.push((value) =>
      within.includes(value) ? undefined : `one of ${within.map(show).join(', ')} is wanted, got ${show(value)}`,
    );
  }
  const without = list('not_in');
  if (without !== undefined) {
    checks.push((value) => (without.includes(value) ? `must not be ${show(value)}` : undefined));
  }
  return checks;
}

/** A lower bound above the upper one means: outside of the two. */
function ranges(rules: Json, order: (value: unknown) => number | bigint): Check[] {
  const { gt, gte, lt, lte } = rules;
  const low = gt ?? gte;
  const high = lt ?? lte;
  // Written as what fails, so that NaN passes, as in Envoy.
  const isTooLow = (value: unknown): boolean =>
    low !== undefined && (gt === undefined ? order(value) < order(low) : order(value) <= order(low));
  const isTooHigh = (value: unknown): boolean =>
    high !== undefined && (lt === undefined ? order(value) > order(high) : order(value) >= order(high));
  const wanted = [
    ...(low === undefined ? [] : [`${gt === undefined ? '>=' : '>'} ${String(low)}`]),
    ...(high === undefined ? [] : [`${lt === undefined ? '<=' : '<'} ${String(high)}`]),
  ];
  if (wanted.length === 0) return [];
  const isOutside = low !== undefined && high !== undefined && order(low) > order(high);
  return [
    (value) =>
      (isOutside ? isTooLow(value) && isTooHigh(value) : isTooLow(value) || isTooHigh(value))
        ? `must be ${wanted.join(isOutside ? ' or ' : ' and ')}, got ${String(value)}`
        : undefined,
  ];
}

function nanoseconds(duration: unknown): bigint {
  const [seconds = '0', fraction = ''] = String(duration).slice(0, -1).split('.');
  const nanos = BigInt(seconds.replace('-', '')) * 1_000_000_000n + BigInt(fraction.padEnd(9, '0'));
  return seconds.startsWith('-') ? -nanos : nanos;
}

function limit(rules: Json, name: string): number | undefined {
  return rules[name] === undefined ? undefined : Number(rules[name]);
}

function lengths(rules: Json, characters: (value: string) => number): Check[] {
  return [
    ...sizes(limit(rules, 'min_len'), limit(rules, 'max_len'), (value) => characters(String(value)), 'characters'),
    ...sizes(
      limit(rules, 'min_bytes'),
      limit(rules, 'max_bytes'),
      (value) => Buffer.byteLength(String(value)),
      'bytes',
    ),
  ];
}

function sizes(
  least: number | undefined,
  most: number | undefined,
  measure: (value: unknown) => number,
  unit: string,
): Check[] {
  const checks: Check[] = [];
  if (least !== undefined && least > 0) {
    checks.push((value) => {
      const size = measure(value);
      if (size >= least) return undefined;
      return size === 0 ? 'is required and must not be empty' : `must have at least ${least} ${unit}, got ${size}`;
    });
  }
  if (most !== undefined) {
    checks.push((value) => {
      const size = measure(value);
      return size <= most ? undefined : `must have at most ${most} ${unit}, got ${size}`;
    });
  }
  return checks;
}

function counts(rules: Json): Check[] {
  const measure = (value: unknown): number =>
    Array.isArray(value) ? value.length : value === undefined ? 0 : Object.keys(value as object).length;
  const checks = sizes(
    limit(rules, 'min_items') ?? limit(rules, 'min_pairs'),
    limit(rules, 'max_items') ?? limit(rules, 'max_pairs'),
    measure,
    'items',
  );
  if (rules['unique'] === true) {
    checks.push((value) => {
      const seen = new Set<string>();
      for (const item of (value as readonly unknown[] | undefined) ?? []) {
        const text = JSON.stringify(item);
        if (seen.has(text)) return `${show(item)} stands there twice`;
        seen.add(text);
      }
      return undefined;
    });
  }
  return checks;
}

/** What a strict rule wants; one that is not strict refuses NUL, CR and LF alone, and takes the empty string. */
const HEADER_PATTERNS: Readonly<Record<string, RegExp>> = {
  HTTP_HEADER_NAME: /^:?[0-9a-zA-Z!#$%&'*+\-.^_|~`]+$/,
  HTTP_HEADER_VALUE: /^[^\u0000-\u0008\u000A-\u001F\u007F]*$/,
};
const LOOSE_HEADER_PATTERN = /^[^\u0000\n\r]*$/;

function texts(rules: Json): Check[] {
  const checks: Check[] = [];
  const matches = (pattern: RegExp, wanted: string): void => {
    checks.push((value) => (pattern.test(String(value)) ? undefined : `${wanted}, got ${show(value)}`));
  };
  if (rules['pattern'] !== undefined) {
    matches(new RegExp(String(rules['pattern']), 'u'), `must match ${String(rules['pattern'])}`);
  }
  const wellKnown = rules['well_known_regex'];
  if (typeof wellKnown === 'string' && HEADER_PATTERNS[wellKnown] !== undefined) {
    const thing = wellKnown === 'HTTP_HEADER_NAME' ? 'name' : 'value';
    const pattern = rules['strict'] === false ? LOOSE_HEADER_PATTERN : HEADER_PATTERNS[wellKnown];
    matches(pattern, `must be a valid HTTP header ${thing}`);
  }
  const { prefix, suffix } = rules;
  if (typeof prefix === 'string') {
    checks.push((value) =>
      String(value).startsWith(prefix) ? undefined : `must begin with ${show(prefix)}, got ${show(value)}`,
    );
  }
  if (typeof suffix === 'string') {
    checks.push((value) =>
      String(value).endsWith(suffix) ? undefined : `must end with ${show(suffix)}, got ${show(value)}`,
    );
  }
  return checks;
}
