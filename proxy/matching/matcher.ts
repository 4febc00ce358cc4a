/**
 * The matching API: a tree that leads from what is known (of a request, of a connection) to an action. Source:
 * xds.type.matcher.v3.Matcher; decisions compared with Envoy 1.40's.
 *
 * What a branch leads to may be another matcher, which may find nothing: a list then goes on with its next entry, a tree
 * of prefixes, ranges or names with the next less specific one, and what finds nothing at all has `on_no_match`.
 */
import { parseStringMatcher } from '../http/matchers.ts';
import type { Fields } from '../resource_fields.ts';
import { parseValueTest } from './value_tests.ts';
import { parseTree } from './match_tree.ts';

/** `undefined`: nothing matched. */
export type Match<D, A> = (data: D) => A | undefined;

/** A thing to look at. */
export interface MatchInput<D> {
  /** text: a string; value: what protobuf's Struct may hold; subject: what CEL is evaluated over. */
  readonly kind: 'text' | 'value' | 'subject';
  /** undefined: it is not there. No text matches that, and no tree leads on from it. */
  read(data: D): unknown;
}

/** What inputs and actions there are, where the matcher stands; both throw ConfigError for others. */
export interface Vocabulary<D, A> {
  /** `config`: a typed_config. */
  input(config: Fields): MatchInput<D>;
  action(config: Fields): A;
}

/** Deeper nesting is refused: it is walked by recursion. */
const MAX_DEPTH = 32;

/** xds.type.matcher.v3.Matcher. @throws {ConfigError} for whatever is not executed. */
export function parseMatcher<D, A>(fields: Fields, vocabulary: Vocabulary<D, A>, depth = 0): Match<D, A> {
  if (depth > MAX_DEPTH) fields.fail('on_no_match', `matchers nest at most ${MAX_DEPTH} deep`);
  const onMatch = (branch: Fields): Match<D, A> => parseOnMatch(branch, vocabulary, depth);
  const list = fields.message('matcher_list');
  const tree = fields.message('matcher_tree');
  const fallback = fields.message('on_no_match');
  const find = list !== undefined ? parseList(list, vocabulary, onMatch) : parseBranches(tree, vocabulary, onMatch);
  if (fallback === undefined) return find;
  const otherwise = onMatch(fallback);
  return (data) => find(data) ?? otherwise(data);
}

function parseBranches<D, A>(
  tree: Fields | undefined,
  vocabulary: Vocabulary<D, A>,
  onMatch: (branch: Fields) => Match<D, A>,
): Match<D, A> {
  if (tree === undefined) return () => undefined;
  return parseTree(tree, textInput(tree, vocabulary), onMatch);
}

function parseOnMatch<D, A>(fields: Fields, vocabulary: Vocabulary<D, A>, depth: number): Match<D, A> {
  if (fields.boolean('keep_matching') === true) fields.fail('keep_matching', 'is not supported, by Envoy here neither');
  const nested = fields.message('matcher');
  if (nested !== undefined) return parseMatcher(nested, vocabulary, depth + 1);
  const action = vocabulary.action(typedConfig(fields.requiredMessage('action')));
  return () => action;
}

/** The first entry that holds and leads somewhere. */
function parseList<D, A>(
  fields: Fields,
  vocabulary: Vocabulary<D, A>,
  onMatch: (branch: Fields) => Match<D, A>,
): Match<D, A> {
  const entries = fields.messages('matchers').map((entry) => ({
    holds: parsePredicate(entry.requiredMessage('predicate'), vocabulary, 0),
    follow: onMatch(entry.requiredMessage('on_match')),
  }));
  if (entries.length === 0) fields.fail('matchers', 'at least one is required');
  return (data) => {
    for (let i = 0; i < entries.length; i++) {
      const { holds, follow } = entries[i] as (typeof entries)[number];
      const found = holds(data) ? follow(data) : undefined;
      if (found !== undefined) return found;
    }
    return undefined;
  };
}

type Predicate<D> = (data: D) => boolean;

function parsePredicate<D, A>(fields: Fields, vocabulary: Vocabulary<D, A>, depth: number): Predicate<D> {
  if (depth > MAX_DEPTH) fields.fail('not_matcher', `predicates nest at most ${MAX_DEPTH} deep`);
  const inner = (part: Fields): Predicate<D> => parsePredicate(part, vocabulary, depth + 1);
  const several = (part: Fields): Predicate<D>[] => {
    const parts = part.messages('predicate').map(inner);
    return parts.length < 2 ? part.fail('predicate', 'at least two are required') : parts;
  };
  const single = fields.message('single_predicate');
  if (single !== undefined) return parseSingle(single, vocabulary);
  const any = fields.message('or_matcher');
  if (any !== undefined) {
    const parts = several(any);
    return (data) => parts.some((part) => part(data));
  }
  const all = fields.message('and_matcher');
  if (all !== undefined) {
    const parts = several(all);
    return (data) => parts.every((part) => part(data));
  }
  const negated = fields.message('not_matcher');
  if (negated !== undefined) {
    const part = inner(negated);
    return (data) => !part(data);
  }
  return fields.fail('single_predicate', 'single_predicate, or_matcher, and_matcher or not_matcher is required');
}

function parseSingle<D, A>(fields: Fields, vocabulary: Vocabulary<D, A>): Predicate<D> {
  const text = fields.message('value_match');
  if (text !== undefined) {
    const input = textInput(fields, vocabulary);
    if (text.has('custom')) text.fail('custom', 'string matchers of other kinds are not executed by this version');
    const matcher = parseStringMatcher(text);
    return (data) => {
      const value = input.read(data);
      return typeof value === 'string' && matcher.matches(value);
    };
  }
  const input = vocabulary.input(typedConfig(fields.requiredMessage('input')));
  const test = parseValueTest(typedConfig(fields.requiredMessage('custom_match')), input.kind);
  return (data) => test(input.read(data));
}

/** The input of this message, which texts are held against. */
function textInput<D, A>(fields: Fields, vocabulary: Vocabulary<D, A>): MatchInput<D> {
  const config = typedConfig(fields.requiredMessage('input'));
  const input = vocabulary.input(config);
  if (input.kind !== 'text') config.fail('@type', 'gives no text: it is for a custom_match of its own kind');
  return input;
}

/** Of a TypedExtensionConfig. */
export function typedConfig(extension: Fields): Fields {
  return extension.requiredMessage('typed_config');
}

/** `envoy.config.rbac.v3.Action` of its `@type`. */
export function typeName(config: Fields): string {
  const type = config.requiredString('@type');
  return type.slice(type.lastIndexOf('/') + 1);
}
