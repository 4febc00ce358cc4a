/**
 * Which of many regexes match a text, in one pass for some hundreds of them: RE2's automaton of a set, whose states are
 * made when texts first need them. What it says is what asking each would say.
 *
 * Clients choose texts, so they could have it make states without end. Making one costs as much as asking all regexes
 * about one character; a group that has made more than its texts pay for is asked one by one for a while.
 */
import type { Regex } from '../http/matchers.ts';
import { compileRe2Set, type Re2Set } from '../re2.ts';

/** One automaton's states are sets of places in all of its regexes: with more of them each state costs more to make. */
export const MOST_REGEXES = 1024;
/** Of one automaton's program; a regex that is longer by itself is asked by itself. */
export const MOST_INSTRUCTIONS = 50_000;
/** Of one automaton; beyond it all states are thrown away. */
export const STATE_BYTES = 8 * 1024 * 1024;
/** Longer texts are asked about one by one: what one text can make an automaton do stays below 50 ms. */
export const LONGEST_TEXT = 256;
/** States that may be made before texts have to pay for them, a state for so many texts. */
export const FREE_STATES = 1024;
const TEXTS_A_STATE = 8;
/** Texts after which a group that made too many states is tried again. */
export const PAUSE_TEXTS = 4096;

interface Group {
  readonly regexes: readonly Regex[];
  /** Of the first one among all. */
  readonly first: number;
  /** undefined: too large. */
  readonly automaton: Re2Set | undefined;
  credit: number;
  paused: number;
}

export class RegexSet {
  readonly #groups: Group[] = [];

  constructor(regexes: readonly Regex[]) {
    let first = 0;
    let instructions = 0;
    for (let i = 0; i < regexes.length; i++) {
      const { programSize } = regexes[i] as Regex;
      if (i > first && (i - first === MOST_REGEXES || instructions + programSize > MOST_INSTRUCTIONS)) {
        this.#groups.push(group(regexes.slice(first, i), first));
        first = i;
        instructions = 0;
      }
      instructions += programSize;
    }
    if (regexes.length > 0) this.#groups.push(group(regexes.slice(first), first));
  }

  /** Calls `found` with the index of each regex that matches the whole text; `carry` goes from call to call. */
  each<C>(text: string, found: (index: number, carry: C) => C, carry: C): C {
    let result = carry;
    for (let i = 0; i < this.#groups.length; i++) {
      const group = this.#groups[i] as Group;
      const matches = ask(group, text);
      if (matches === undefined) {
        for (let k = 0; k < group.regexes.length; k++) {
          if ((group.regexes[k] as Regex).matches(text)) result = found(group.first + k, result);
        }
      } else {
        for (let k = 0; k < matches.length; k++) result = found(group.first + (matches[k] as number), result);
      }
    }
    return result;
  }

  /** Whether some group is asked one by one for now. */
  get paused(): boolean {
    return this.#groups.some(({ paused }) => paused > 0);
  }
}

function group(regexes: readonly Regex[], first: number): Group {
  const [only] = regexes;
  const large = regexes.length === 1 && only !== undefined && only.programSize > MOST_INSTRUCTIONS;
  const patterns = regexes.map(({ pattern }) => pattern);
  const automaton = large ? undefined : compileRe2Set(patterns, STATE_BYTES);
  return { regexes, first, automaton, credit: FREE_STATES, paused: 0 };
}

/** undefined: to be asked one by one. */
function ask(group: Group, text: string): readonly number[] | undefined {
  const { automaton } = group;
  if (automaton === undefined || text.length > LONGEST_TEXT) return undefined;
  if (group.paused > 0) {
    group.paused--;
    return undefined;
  }
  const before = automaton.dfa.stateCount;
  const matches = automaton.match(text);
  const after = automaton.dfa.stateCount;
  // Fewer than before: they were thrown away in between, and these made since.
  group.credit = Math.min(group.credit + 1 / TEXTS_A_STATE, FREE_STATES) - (after < before ? after : after - before);
  if (group.credit < 0) {
    group.credit = 0;
    group.paused = PAUSE_TEXTS;
  }
  return matches;
}
