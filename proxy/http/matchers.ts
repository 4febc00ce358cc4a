/** String and header matchers of Envoy's configuration. Regexes have RE2 semantics and run in linear time. */
import { ConfigError } from '../config_error.ts';
import type { Fields } from '../resource_fields.ts';
import { type Glob, globOf } from './glob_regex.ts';
import type { Headers } from './headers.ts';
import { compileRe2, type Re2, requiredLiterals } from '../re2.ts';
import { refuseUnexecuted } from '../unexecuted_fields.ts';

/** envoy.type.matcher.v3.StringMatcher. */
export interface StringMatcher {
  matches(text: string): boolean;
}

/** Longer patterns are refused (ISTIO-SECURITY-2026-006, attacks.md row 47). */
export const MAX_REGEX_LENGTH = 1024;

/** A full-match regex. @throws {ConfigError} when RE2 does not accept it. */
export class Regex implements StringMatcher {
  readonly pattern: string;
  readonly #compiled: Re2;
  readonly #glob: Glob | undefined;

  constructor(pattern: string, path: string) {
    if (pattern.length > MAX_REGEX_LENGTH) {
      throw new ConfigError(
        path,
        `the regex has ${pattern.length} characters; at most ${MAX_REGEX_LENGTH} are accepted`,
      );
    }
    this.pattern = pattern;
    this.#glob = globOf(pattern);
    try {
      this.#compiled = compileRe2(pattern);
    } catch (error) {
      throw new ConfigError(path, `"${pattern}" is not a valid RE2 regex: ${(error as Error).message}`, {
        cause: error,
      });
    }
  }

  /** A text that matches holds at least one of each list; empty: nothing is known of it. */
  get requiredLiterals(): readonly (readonly string[])[] {
    return requiredLiterals(this.#compiled);
  }

  /** Instructions: what an automaton of it grows with. */
  get programSize(): number {
    return this.#compiled.programSize();
  }

  matches(text: string): boolean {
    // What istiod makes of `ns-*` and the like needs no regex engine.
    if (this.#glob !== undefined && !text.includes('\n')) return this.#glob.matches(text);
    return this.#compiled.testExact(text);
  }

  /** Replaces every match; `substitution` refers to groups as `\1`. */
  replaceAll(text: string, substitution: string): string {
    return this.#compiled.matcher(text).replaceAll(toJavaSubstitution(substitution));
  }
}

/** RE2's `\1` as RE2JS wants it (`$1`), with its own special characters quoted. */
function toJavaSubstitution(substitution: string): string {
  let out = '';
  for (let i = 0; i < substitution.length; i++) {
    const char = substitution[i] as string;
    if (char === '\\' && i + 1 < substitution.length) {
      const next = substitution[++i] as string;
      out += next >= '0' && next <= '9' ? `$${next}` : `\\${next}`;
    } else out += char === '$' ? '\\$' : char;
  }
  return out;
}

/** envoy.type.matcher.v3.RegexMatcher. */
export function parseRegex(fields: Fields): Regex {
  return new Regex(fields.string('regex') ?? '', fields.at('regex'));
}

/** @throws {ConfigError} when no form is set: an unknown matcher must not match everything, or nothing. */
export function parseStringMatcher(fields: Fields): StringMatcher {
  refuseUnexecuted(fields, 'StringMatcher');
  const ignoreCase = fields.boolean('ignore_case') ?? false;
  const fold = (text: string): string => (ignoreCase ? text.toLowerCase() : text);
  const exact = fields.string('exact');
  if (exact !== undefined) {
    const wanted = fold(exact);
    return { matches: (text) => fold(text) === wanted };
  }
  for (const [name, test] of [
    ['prefix', (text: string, wanted: string) => text.startsWith(wanted)],
    ['suffix', (text: string, wanted: string) => text.endsWith(wanted)],
    ['contains', (text: string, wanted: string) => text.includes(wanted)],
  ] as const) {
    const value = fields.string(name);
    if (value === undefined) continue;
    const wanted = fold(value);
    return { matches: (text) => test(fold(text), wanted) };
  }
  const regex = fields.message('safe_regex');
  if (regex !== undefined) return parseRegex(regex);
  return fields.fail('exact', 'one of exact, prefix, suffix, contains, safe_regex is required');
}

/** envoy.config.route.v3.HeaderMatcher. */
export interface HeaderMatcher {
  readonly name: string;
  /** The exact value it asks for, if that is all it asks: for indexes. */
  readonly exact: string | undefined;
  /** The regex that one value must match, if that is all it asks. */
  readonly regex: Regex | undefined;
  matches(headers: Headers): boolean;
  /** The same for one value of the field; undefined where only presence is asked for. */
  readonly matchesValue: ((value: string) => boolean) | undefined;
}

export function parseHeaderMatcher(fields: Fields): HeaderMatcher {
  const name = fields.requiredString('name').toLowerCase();
  const invert = fields.boolean('invert_match') ?? false;
  const missingIsEmpty = fields.boolean('treat_missing_header_as_empty') ?? false;
  const present = fields.boolean('present_match');
  if (present !== undefined) {
    const wanted = present !== invert;
    return presence(name, wanted);
  }
  const parsed = parseHeaderTest(fields);
  if (parsed === undefined) {
    return presence(name, !invert);
  }
  const { matches: test, matcher } = parsed;
  const plain = !invert && !missingIsEmpty;
  return {
    name,
    exact: plain ? exactValue(fields) : undefined,
    regex: plain && matcher instanceof Regex ? matcher : undefined,
    matches(headers) {
      // Each value of a repeated field counts by itself: a second one must not hide the first from a rule
      // (CVE-2026-26308, attacks.md row 41; Envoy since 1.39).
      const { fields } = headers;
      let there = false;
      for (let i = 0; i < fields.length; i += 2) {
        if (fields[i] !== name) continue;
        if (test(fields[i + 1] as string)) return !invert;
        there = true;
      }
      if (there) return invert;
      const value = (name.charCodeAt(0) === 58 ? headers.get(name) : undefined) ?? (missingIsEmpty ? '' : undefined);
      // Envoy: an absent header matches nothing, inverted or not, unless it is treated as empty.
      return value !== undefined && test(value) !== invert;
    },
    matchesValue: (value) => test(value) !== invert,
  };
}

function presence(name: string, wanted: boolean): HeaderMatcher {
  const matches = (headers: Headers): boolean => headers.has(name) === wanted;
  return { name, exact: undefined, regex: undefined, matches, matchesValue: undefined };
}

function exactValue(fields: Fields): string | undefined {
  const matcher = fields.message('string_match');
  if (matcher !== undefined) return matcher.boolean('ignore_case') === true ? undefined : matcher.string('exact');
  return fields.string('exact_match');
}

interface HeaderTest {
  matches(value: string): boolean;
  /** undefined: one of the older forms. */
  readonly matcher: StringMatcher | undefined;
}

function parseHeaderTest(fields: Fields): HeaderTest | undefined {
  const nested = fields.message('string_match');
  const regex = fields.message('safe_regex_match');
  const matcher =
    nested !== undefined ? parseStringMatcher(nested) : regex !== undefined ? parseRegex(regex) : undefined;
  if (matcher !== undefined) return { matcher, matches: (value) => matcher.matches(value) };
  const matches = parseOlderTest(fields);
  return matches === undefined ? undefined : { matcher, matches };
}

function parseOlderTest(fields: Fields): ((value: string) => boolean) | undefined {
  const exact = fields.string('exact_match');
  if (exact !== undefined) return (value) => value === exact;
  const prefix = fields.string('prefix_match');
  if (prefix !== undefined) return (value) => value.startsWith(prefix);
  const suffix = fields.string('suffix_match');
  if (suffix !== undefined) return (value) => value.endsWith(suffix);
  const contains = fields.string('contains_match');
  if (contains !== undefined) return (value) => value.includes(contains);
  const range = fields.message('range_match');
  if (range !== undefined) {
    const start = range.number('start') ?? 0;
    const end = range.number('end') ?? 0;
    return (value) => {
      if (!/^-?\d+$/.test(value)) return false;
      const number = Number(value);
      return number >= start && number < end;
    };
  }
  return undefined;
}
