/**
 * What a rule needs to see at the least, so that rules can be filed by it. Where a test over a text is true, the text is
 * one, begins or ends with one, holds one, or is matched by a regex: each of these is a guard.
 */
import { Regex, type StringMatcher } from '../http/matchers.ts';
import { shortest } from '../re2.ts';
import type { Fields } from '../resource_fields.ts';

export type Place =
  | 'path'
  | 'host'
  | 'principal'
  | 'serverName'
  | 'port'
  /** A request header's value; `name` says which. */
  | 'header'
  /** A text, or one of a list of texts, in dynamic metadata; `name` is its `claimPath`. */
  | 'claim'
  /** The addresses of the connection's peer and of the client that it speaks for. */
  | 'peer'
  | 'client';

/** Where a test is true, the request shows `key` at this place. */
export interface Guard {
  readonly place: Place;
  /** Lower-case header, or claim path; '' elsewhere. */
  readonly name: string;
  readonly how: 'exact' | 'prefix' | 'suffix' | 'contains' | 'regex' | 'range';
  /** Of a regex its pattern, of a range `rangeKey`. */
  readonly key: string;
  /** Compared in lower case; the key is. */
  readonly fold: boolean;
  readonly regex?: Regex;
}

/** Lists of which one guard each must hold. */
export type Guards = readonly (readonly Guard[])[];

/** Shorter literals are in too many texts to tell rules apart. */
const SHORTEST_LITERAL = 3;
/** Of one regex: more would cost more to choose among than they gain. */
const MOST_LISTS = 3;

export interface Spot {
  readonly place: Place;
  readonly name?: string;
}

/** What a StringMatcher, read from `fields`, needs to see at this spot. `matcher`: where it may be a regex. */
export function textGuards(fields: Fields, matcher: StringMatcher | undefined, spot: Spot): Guards {
  if (matcher instanceof Regex) return regexGuards(matcher, spot);
  const fold = fields.boolean('ignore_case') ?? false;
  for (const how of ['exact', 'prefix', 'suffix', 'contains'] as const) {
    const text = fields.string(how);
    if (text === undefined) continue;
    // Everything begins with nothing.
    return text === '' && how !== 'exact' ? [] : [[guard(spot, how, fold ? text.toLowerCase() : text, fold)]];
  }
  return [];
}

/** Its telling literals first, then the regex itself, for the automaton of all that share the spot. */
export function regexGuards(regex: Regex, spot: Spot): Guards {
  const lists = [...regex.requiredLiterals]
    .filter((literals) => shortest(literals) >= SHORTEST_LITERAL)
    .sort((a, b) => shortest(b) - shortest(a))
    .slice(0, MOST_LISTS)
    .map((literals) => literals.map((key) => guard(spot, 'contains', key)));
  return [...lists, [{ ...guard(spot, 'regex', regex.pattern), regex }]];
}

export function guard({ place, name = '' }: Spot, how: Guard['how'], key: string, fold = false): Guard {
  return { place, name, how, key, fold };
}

/** Of an IPv4 range. */
export function rangeKey(network: number, prefixLength: number): string {
  return `${network}/${prefixLength}`;
}

/** What filing under it costs each request, about. */
export function weight({ place, how, key }: Guard): number {
  if (how === 'regex') return 32;
  if (place === 'port') return 5;
  if (place === 'header' && how === 'exact') return key.length < 8 ? 4 : 1;
  if (how === 'contains') return key.length < 6 ? 4 : 2;
  return how === 'exact' && place !== 'host' ? 1 : 2;
}

export function nameOf({ place, name, how, key, fold }: Guard): string {
  return `${place}\n${name}\n${how}\n${fold}\n${key}`;
}
