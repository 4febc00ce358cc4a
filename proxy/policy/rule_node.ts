/** A rule's expression as a tree of tests, with what its tests need to see at the least, so that rules can be indexed. */
import type { Cidr } from '../net/cidr.ts';
import type { HeaderMatcher, StringMatcher } from '../http/matchers.ts';
import type { Fields } from '../resource_fields.ts';
import type { PolicyFacts } from './facts.ts';

/** Where a test is true, the request shows `key` at this place. */
export interface Guard {
  readonly kind:
    | 'path'
    | 'prefix'
    | 'suffix'
    | 'principal'
    | 'namespace'
    | 'host'
    | 'port'
    | 'method'
    | 'header'
    | 'claim'
    | 'peer'
    | 'client';
  readonly key: string;
  /** Of a header guard its name, lower-case; of a claim its path (`claimPath`); '' otherwise. */
  readonly header: string;
}

export interface RuleNode {
  matches(facts: PolicyFacts): boolean;
  /** Alternatives to index by: where the node is true, at least one guard of each list holds. Empty: no such list. */
  readonly guards: readonly (readonly Guard[])[];
}

const NO_GUARDS: RuleNode['guards'] = [];
/** More would cost more to choose among than they gain. */
const MAX_LISTS = 8;
const MAX_GUARDS = 64;

export function leaf(matches: RuleNode['matches'], guards: readonly Guard[] = []): RuleNode {
  return { matches, guards: guards.length === 0 ? NO_GUARDS : [guards] };
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
function guardsOfAny(nodes: readonly RuleNode[]): RuleNode['guards'] {
  const all: Guard[] = [];
  for (const node of nodes) {
    let best: readonly Guard[] | undefined;
    for (const list of node.guards) if (best === undefined || weight(list) < weight(best)) best = list;
    if (best === undefined) return NO_GUARDS;
    all.push(...best);
    if (all.length > MAX_GUARDS) return NO_GUARDS;
  }
  return all.length === 0 ? NO_GUARDS : [all];
}

const WEIGHTS: Readonly<Record<Guard['kind'], number>> = {
  path: 1,
  principal: 1,
  header: 1,
  claim: 1,
  peer: 2,
  client: 2,
  namespace: 2,
  prefix: 2,
  suffix: 2,
  host: 3,
  port: 5,
  method: 6,
};

function weight(list: readonly Guard[]): number {
  let sum = 0;
  for (const guard of list) sum += WEIGHTS[guard.kind];
  return sum;
}

// ── tests that permissions and principals share ───────────────────────────────────────────────────────────────────

/** envoy.type.matcher.v3.PathMatcher: on the path without its query. A request without path matches nothing. */
export function urlPath(matcher: StringMatcher, fields: Fields): RuleNode {
  const suffix = fields.boolean('ignore_case') === true ? undefined : fields.string('suffix');
  const guards: Guard[] =
    suffix === undefined ? textGuards(fields, 'path', 'prefix') : [{ kind: 'suffix', key: suffix, header: '' }];
  return leaf(({ path }) => path !== undefined && matcher.matches(path), guards);
}

export function address(range: Cidr, of: (facts: PolicyFacts) => string, kind?: 'peer' | 'client'): RuleNode {
  const guards: Guard[] =
    kind === undefined || range.network4 === undefined
      ? []
      : [{ kind, key: rangeKey(range.network4, range.prefixLength), header: '' }];
  return leaf((facts) => range.contains(of(facts)), guards);
}

/** Of an IPv4 range. */
export function rangeKey(network: number, prefixLength: number): string {
  return `${network}/${prefixLength}`;
}

/** `host` is another name of `:authority` (Envoy's header map has one field for both). */
export function header(matcher: HeaderMatcher): RuleNode {
  if (matcher.name === ':authority' || matcher.name === 'host') return hostHeader(matcher);
  const guards: Guard[] =
    matcher.exact === undefined || matcher.name === ':path'
      ? []
      : [
          matcher.name === ':method'
            ? { kind: 'method', key: matcher.exact, header: '' }
            : { kind: 'header', key: matcher.exact, header: matcher.name },
        ];
  return leaf(({ subject }) => httpMatches(matcher, subject.requestHeaders), guards);
}

function httpMatches(matcher: HeaderMatcher, headers: PolicyFacts['subject']['requestHeaders']): boolean {
  return headers !== undefined && matcher.matches(headers);
}

/** As it came, and in its normal form: `secret.com:80` must not slip by a rule about `secret.com` (attacks.md row 39). */
function hostHeader(matcher: HeaderMatcher): RuleNode {
  const { matchesValue, exact } = matcher;
  if (matchesValue === undefined) return leaf(({ subject }) => httpMatches(matcher, subject.requestHeaders));
  return leaf(
    (facts) => {
      const raw = facts.subject.requestHeaders?.authority;
      if (raw === undefined) return false;
      if (matchesValue(raw)) return true;
      const { host } = facts;
      return host !== undefined && host !== raw && matchesValue(host);
    },
    exact === undefined ? [] : [{ kind: 'host', key: exact.toLowerCase(), header: '' }],
  );
}

/** What a StringMatcher over this place needs to see: the exact text, or its beginning. */
export function textGuards(fields: Fields, exactKind: Guard['kind'], prefixKind: Guard['kind'] | undefined): Guard[] {
  if (fields.boolean('ignore_case') === true) return [];
  const exact = fields.string('exact');
  if (exact !== undefined) return [{ kind: exactKind, key: exact, header: '' }];
  const prefix = fields.string('prefix');
  return prefix !== undefined && prefixKind !== undefined ? [{ kind: prefixKind, key: prefix, header: '' }] : [];
}
