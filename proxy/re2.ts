/** RE2 regexes, which run in linear time. The library (260 KB) is loaded with the first one: few configurations have any. */
import { createRequire } from 'node:module';
import type { RE2JS, RE2Set } from 're2js';

export type Re2 = ReturnType<typeof RE2JS.compile>;
/** Many patterns as one automaton, whose states are made when texts first need them. */
export type Re2Set = RE2Set;

let library: { readonly RE2JS: typeof RE2JS; readonly RE2Set: typeof RE2Set } | undefined;

function load(): NonNullable<typeof library> {
  library ??= createRequire(import.meta.url)('re2js') as NonNullable<typeof library>;
  return library;
}

/** @throws {Error} when RE2 does not accept it. */
export function compileRe2(pattern: string): Re2 {
  return load().RE2JS.compile(pattern);
}

/** Whole texts only. States beyond `stateBytes` are thrown away and made anew. @throws {Error} when it is too large. */
export function compileRe2Set(patterns: readonly string[], stateBytes: number): Re2Set {
  const { RE2Set } = load();
  const set = new RE2Set(RE2Set.ANCHOR_BOTH, 0, stateBytes);
  for (const pattern of patterns) set.add(pattern);
  set.compile();
  return set;
}

/**
 * Literals that RE2's own parser found to be necessary: a text that matches holds at least one of each list. Empty: it
 * found none. Of patterns without case, without literals, or with too many alternatives nothing is known.
 */
export function requiredLiterals(regex: Re2): string[][] {
  const root: unknown = regex.re2().prefilter;
  return root === null ? [] : conjunction(root as Prefilter);
}

/** The library's tree of what must be in a text. */
interface Prefilter {
  readonly type: 0 | 1 | 2 | 3;
  readonly str: string;
  readonly subs: readonly Prefilter[];
}

function conjunction({ type, str, subs }: Prefilter): string[][] {
  switch (type) {
    case 1:
      return [[str]];
    case 2:
      return subs.flatMap(conjunction);
    case 3: {
      const one: string[] = [];
      for (const sub of subs) {
        const best = mostTelling(conjunction(sub));
        if (best === undefined) return [];
        one.push(...best);
      }
      return [one];
    }
    default:
      return [];
  }
}

/** The list whose shortest literal is longest. */
function mostTelling(lists: readonly string[][]): string[] | undefined {
  let best: string[] | undefined;
  for (const list of lists) if (best === undefined || shortest(list) > shortest(best)) best = list;
  return best;
}

export function shortest(literals: readonly string[]): number {
  let length = Number.POSITIVE_INFINITY;
  for (const literal of literals) length = Math.min(length, literal.length);
  return length;
}
