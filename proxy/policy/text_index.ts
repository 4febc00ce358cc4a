/** Rules filed by what one text must be or hold: finds the few that a given text may concern. */
import type { Regex } from '../http/matchers.ts';
import type { Guard } from './guard.ts';
import { LiteralSearch } from './literal_search.ts';
import { RegexSet } from './regex_set.ts';

/** Rules by number, ascending; @returns the limit for what is asked next: the first of them that matches, or `limit`. */
export type AskRules = (rules: readonly number[], limit: number) => number;

type Filed = Map<string, number[]>;

export class TextIndex {
  readonly #exact: Filed = new Map();
  readonly #prefixes: Filed = new Map();
  readonly #suffixes: Filed = new Map();
  readonly #contained: Filed = new Map();
  readonly #regexes = new Map<string, { readonly regex: Regex; readonly rules: number[] }>();
  #prefixLengths: readonly number[] = [];
  #suffixLengths: readonly number[] = [];
  #literals: LiteralSearch<number[]> | undefined;
  #set: RegexSet | undefined;
  #byRegex: readonly number[][] = [];
  readonly #ask: AskRules;
  readonly #askRegex: (index: number, limit: number) => number;

  constructor(ask: AskRules) {
    this.#ask = ask;
    this.#askRegex = (index, limit) => ask(this.#byRegex[index] as number[], limit);
  }

  /** Rules come in ascending order. */
  file({ how, key, regex }: Guard, rule: number): void {
    if (how === 'regex') {
      const known = this.#regexes.get(key);
      if (known === undefined) this.#regexes.set(key, { regex: regex as Regex, rules: [rule] });
      else add(known.rules, rule);
      return;
    }
    const filed =
      how === 'exact'
        ? this.#exact
        : how === 'prefix'
          ? this.#prefixes
          : how === 'suffix'
            ? this.#suffixes
            : this.#contained;
    const rules = filed.get(key);
    if (rules === undefined) filed.set(key, [rule]);
    else add(rules, rule);
  }

  /** When all are filed, before the first `find`. */
  finish(): void {
    this.#prefixLengths = keyLengths(this.#prefixes);
    this.#suffixLengths = keyLengths(this.#suffixes);
    this.#literals = this.#contained.size === 0 ? undefined : new LiteralSearch(this.#contained);
    const regexes = [...this.#regexes.values()];
    this.#byRegex = regexes.map(({ rules }) => rules);
    this.#set = regexes.length === 0 ? undefined : new RegexSet(regexes.map(({ regex }) => regex));
  }

  /** The first rule below `limit` that matches among those which this text may concern; `limit`: none. */
  find(text: string, limit: number): number {
    let best = limit;
    if (this.#exact.size > 0) best = this.#under(this.#exact, text, best);
    const prefixes = this.#prefixLengths;
    for (let i = 0; i < prefixes.length; i++) {
      const length = prefixes[i] as number;
      if (length > text.length) break;
      best = this.#under(this.#prefixes, text.slice(0, length), best);
    }
    const suffixes = this.#suffixLengths;
    for (let i = 0; i < suffixes.length; i++) {
      const length = suffixes[i] as number;
      if (length > text.length) break;
      best = this.#under(this.#suffixes, text.slice(text.length - length), best);
    }
    if (this.#literals !== undefined) best = this.#literals.each(text, this.#ask, best);
    if (this.#set !== undefined) best = this.#set.each(text, this.#askRegex, best);
    return best;
  }

  #under(filed: Filed, key: string, limit: number): number {
    const rules = filed.get(key);
    return rules === undefined ? limit : this.#ask(rules, limit);
  }
}

function add(rules: number[], rule: number): void {
  if (rules.at(-1) !== rule) rules.push(rule);
}

/** Distinct lengths of the texts by which rules are filed, shortest first. */
function keyLengths(filed: Filed): number[] {
  return [...new Set([...filed.keys()].map((key) => key.length))].sort((a, b) => a - b);
}
