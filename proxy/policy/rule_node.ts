/** A rule's expression as a tree of tests, with what its tests need to see at the least, so that rules can be indexed. */
import type { Cidr } from '../net/cidr.ts';
import type { HeaderMatcher, StringMatcher } from '../http/matchers.ts';
import type { Fields } from '../resource_fields.ts';
import type { PolicyFacts } from './facts.ts';
import { type Guard, type Guards, guard, rangeKey, regexGuards, type Spot, textGuards, weight } from './guard.ts';

export interface RuleNode {
  matches(facts: PolicyFacts): boolean;
  /** Alternatives to index by: where the node is true, at least one guard of each list holds. Empty: no such list. */
  readonly guards: Guards;
}

export const NO_GUARDS: Guards = [];
/** More would cost more to choose among than they gain. */
const MAX_LISTS = 8;
const MAX_GUARDS = 64;

export function leaf(matches: RuleNode['matches'], guards: Guards = NO_GUARDS): RuleNode {
  return { matches, guards };
}

export const ANYTHING: RuleNode = { matches: () => true, guards: NO_GUARDS };

export function not(node: RuleNode): RuleNode {
  return { matches: (facts) => !node.matches(facts), guards: NO_GUARDS };
}

export function and(nodes: readonly RuleNode[]): RuleNode {
  const [only] = nodes;
  if (nodes.length === 1 && only !== undefined) return only;
  return {
    matches(facts) {
      for (let i = 0; i < nodes.length; i++) if (!(nodes[i] as RuleNode).matches(facts)) return false;
      return true;
    },
    guards: nodes.flatMap((node) => node.guards).slice(0, MAX_LISTS),
  };
}

export function or(nodes: readonly RuleNode[]): RuleNode {
  const [only] = nodes;
  if (nodes.length === 1 && only !== undefined) return only;
  return {
    matches(facts) {
      for (let i = 0; i < nodes.length; i++) if ((nodes[i] as RuleNode).matches(facts)) return true;
      return false;
    },
    guards: guardsOfAny(nodes),
  };
}

/** One list that holds a list of every alternative; none where an alternative has none. */
export function guardsOfAny(nodes: readonly { readonly guards: Guards }[]): Guards {
  const all: Guard[] = [];
  for (const node of nodes) {
    let best: readonly Guard[] | undefined;
    for (const list of node.guards) if (best === undefined || sum(list) < sum(best)) best = list;
    if (best === undefined) return NO_GUARDS;
    all.push(...best);
    if (all.length > MAX_GUARDS) return NO_GUARDS;
  }
  return all.length === 0 ? NO_GUARDS : [all];
}

function sum(list: readonly Guard[]): number {
  let total = 0;
  for (const guard of list) total += weight(guard);
  return total;
}

// ── tests that permissions and principals share ───────────────────────────────────────────────────────────────────

/** envoy.type.matcher.v3.PathMatcher: on the path without its query. A request without path matches nothing. */
export function urlPath(matcher: StringMatcher, fields: Fields): RuleNode {
  const guards = textGuards(fields, matcher, { place: 'path' });
  return leaf(({ path }) => path !== undefined && matcher.matches(path), guards);
}

export function address(range: Cidr, of: (facts: PolicyFacts) => string, place?: 'peer' | 'client'): RuleNode {
  const guards: Guards =
    place === undefined || range.network4 === undefined
      ? NO_GUARDS
      : [[guard({ place }, 'range', rangeKey(range.network4, range.prefixLength))]];
  return leaf((facts) => range.contains(of(facts)), guards);
}

/** `host` is another name of `:authority` (Envoy's header map has one field for both). */
export function header(matcher: HeaderMatcher, fields: Fields): RuleNode {
  if (matcher.name === ':authority' || matcher.name === 'host') return hostHeader(matcher, fields);
  const guards = headerGuards(matcher, fields, { place: 'header', name: matcher.name });
  return leaf(({ subject }) => httpMatches(matcher, subject.requestHeaders), guards);
}

function httpMatches(matcher: HeaderMatcher, headers: PolicyFacts['subject']['requestHeaders']): boolean {
  return headers !== undefined && matcher.matches(headers);
}

/** None where a value that is missing, or another one, may be what is asked for. */
function headerGuards(matcher: HeaderMatcher, fields: Fields, spot: Spot): Guards {
  if (matcher.regex !== undefined) return regexGuards(matcher.regex, spot);
  if (matcher.exact !== undefined) return [[guard(spot, 'exact', matcher.exact)]];
  const text = fields.message('string_match');
  if (text === undefined) return NO_GUARDS;
  if (fields.boolean('invert_match') === true || fields.boolean('treat_missing_header_as_empty') === true) {
    return NO_GUARDS;
  }
  return textGuards(text, undefined, spot);
}

/** As it came, and in its normal form: `secret.com:80` must not slip by a rule about `secret.com` (attacks.md row 39). */
function hostHeader(matcher: HeaderMatcher, fields: Fields): RuleNode {
  const { matchesValue } = matcher;
  if (matchesValue === undefined) return leaf(({ subject }) => httpMatches(matcher, subject.requestHeaders));
  return leaf(
    (facts) => {
      const raw = facts.subject.requestHeaders?.authority;
      if (raw === undefined) return false;
      if (matchesValue(raw)) return true;
      const { host } = facts;
      return host !== undefined && host !== raw && matchesValue(host);
    },
    headerGuards(matcher, fields, { place: 'host' }),
  );
}
