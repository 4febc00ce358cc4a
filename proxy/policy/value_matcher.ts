/** Matchers over dynamic and route metadata. Source: envoy.type.matcher.v3.{MetadataMatcher, ValueMatcher}. */
import { parseStringMatcher } from '../http/matchers.ts';
import type { Fields } from '../resource_fields.ts';
import type { PolicyFacts } from './facts.ts';
import { type Guards, type Spot, textGuards } from './guard.ts';
import { guardsOfAny, NO_GUARDS } from './rule_node.ts';

/** `undefined`: the value is not there. */
export type ValueTest = (value: unknown) => boolean;

/** @throws {ConfigError} when no form is set: an unknown matcher must not match everything, or nothing. */
export function parseValueMatcher(fields: Fields): ValueTest {
  const text = fields.message('string_match');
  if (text !== undefined) {
    const matcher = parseStringMatcher(text);
    return (value) => typeof value === 'string' && matcher.matches(value);
  }
  const alternatives = fields.message('or_match');
  if (alternatives !== undefined) {
    const tests = alternatives.messages('value_matchers').map(parseValueMatcher);
    if (tests.length < 2) alternatives.fail('value_matchers', 'at least two are required');
    return (value) => tests.some((test) => test(value));
  }
  const list = fields.message('list_match');
  if (list !== undefined) {
    const test = parseValueMatcher(list.requiredMessage('one_of'));
    return (value) => Array.isArray(value) && value.some(test);
  }
  const wanted = fields.boolean('bool_match');
  if (wanted !== undefined) return (value) => value === wanted;
  const present = fields.boolean('present_match');
  // Envoy: false never matches.
  if (present !== undefined) return (value) => present && value !== undefined;
  if (fields.has('null_match')) return (value) => value === null;
  const number = fields.message('double_match');
  if (number !== undefined) return parseDouble(number);
  return fields.fail(
    'string_match',
    'one of string_match, or_match, list_match, bool_match, present_match, null_match, double_match is required',
  );
}

function parseDouble(fields: Fields): ValueTest {
  const range = fields.message('range');
  if (range !== undefined) {
    const start = range.number('start') ?? 0;
    const end = range.number('end') ?? 0;
    return (value) => typeof value === 'number' && value >= start && value < end;
  }
  const exact = fields.number('exact');
  if (exact === undefined) return fields.fail('exact', 'range or exact is required');
  return (value) => value === exact;
}

/** envoy.type.matcher.v3.MetadataMatcher, over `source`'s metadata. */
export function parseMetadataMatcher(
  fields: Fields,
  source: 'dynamic' | 'route' = 'dynamic',
): (facts: PolicyFacts) => boolean {
  const filter = fields.requiredString('filter');
  const path = parsePath(fields);
  const test = parseValueMatcher(fields.requiredMessage('value'));
  const invert = fields.boolean('invert') ?? false;
  return ({ subject }) => {
    const root = source === 'route' ? subject.route?.()?.metadata?.[filter] : subject.info.dynamicMetadata?.get(filter);
    return test(valueAt(root, path)) !== invert;
  };
}

/** Steps into a Struct. @throws {ConfigError} when there are none. */
export function parsePath(fields: Fields): string[] {
  const path = fields.messages('path').map((step) => step.requiredString('key'));
  return path.length === 0 ? fields.fail('path', 'at least one key is required') : path;
}

/** What the value must show, if it is asked for a text or for one in a list. Empty: more than texts may do. */
export function claimGuards(fields: Fields): Guards {
  if (fields.boolean('invert') === true) return NO_GUARDS;
  const path = claimPath(fields.requiredString('filter'), parsePath(fields));
  return valueGuards(fields.requiredMessage('value'), { place: 'claim', name: path }, true);
}

/** `lists`: whether a list of texts will do. Lists of lists are not filed. */
function valueGuards(fields: Fields, spot: Spot, lists: boolean): Guards {
  const text = fields.message('string_match');
  if (text !== undefined) return textGuards(text, parseStringMatcher(text), spot);
  const item = fields.message('list_match')?.message('one_of');
  if (item !== undefined) return lists ? valueGuards(item, spot, false) : NO_GUARDS;
  const alternatives = fields.message('or_match')?.messages('value_matchers') ?? [];
  return guardsOfAny(alternatives.map((one) => ({ guards: valueGuards(one, spot, lists) })));
}

/** A place in dynamic metadata as one text. */
export function claimPath(filter: string, path: readonly string[]): string {
  return JSON.stringify([filter, ...path]);
}

/** What stands at a `claimPath`; undefined: nothing. */
export function claimAt(facts: PolicyFacts, path: readonly string[]): unknown {
  return valueAt(facts.subject.info.dynamicMetadata?.get(path[0] as string), path.slice(1));
}

/** undefined: not there. Own properties only: a claim called `constructor` is no claim of ours (attacks.md row 34). */
export function valueAt(root: unknown, path: readonly string[]): unknown {
  let value = root;
  for (const step of path) {
    if (value === null || typeof value !== 'object' || Array.isArray(value) || !Object.hasOwn(value, step)) {
      return undefined;
    }
    value = (value as Readonly<Record<string, unknown>>)[step];
  }
  return value;
}
