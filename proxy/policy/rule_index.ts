/**
 * Finds the first of many rules that matches without asking all of them.
 *
 * Each rule is filed under the rarest of the things that a request must show for it to match: a path, the beginning of
 * one, a peer's name or namespace, a host, a header's value, a port, a method. What can be filed under nothing is
 * always asked. A thousand rules then cost what the few filed under the request's own things cost.
 */
import { ipv4, maskedIpv4 } from '../net/cidr.ts';
import type { PolicyFacts } from './facts.ts';
import { type Guard, rangeKey, type RuleNode } from './rule_node.ts';
import { claimAt } from './value_matcher.ts';

const NONE = Number.MAX_SAFE_INTEGER;
/** Below this many rules asking all is cheaper than looking anything up. */
const LEAST_RULES = 8;

export class RuleIndex {
  readonly #rules: readonly RuleNode[];
  readonly #always: number[] = [];
  readonly #byKind = new Map<string, Map<string, number[]>>();
  readonly #byHeader = new Map<string, Map<string, number[]>>();
  /** By where the claim stands. */
  readonly #byClaim = new Map<string, Map<string, number[]>>();
  readonly #claimPaths: (readonly [path: readonly string[], values: Map<string, number[]>])[] = [];
  #prefixLengths: number[] = [];
  #suffixLengths: number[] = [];
  #peerLengths: number[] = [];
  #clientLengths: number[] = [];

  /** Rules in the order in which they win. */
  constructor(rules: readonly RuleNode[]) {
    this.#rules = rules;
    if (rules.length < LEAST_RULES) {
      this.#always = rules.map((_, index) => index);
      return;
    }
    const frequency = countGuards(rules);
    rules.forEach((rule, index) => {
      this.#file(rarest(rule, frequency), index);
    });
    this.#prefixLengths = keyLengths(this.#byKind.get('prefix'));
    this.#suffixLengths = keyLengths(this.#byKind.get('suffix'));
    this.#peerLengths = rangeLengths(this.#byKind.get('peer'));
    this.#clientLengths = rangeLengths(this.#byKind.get('client'));
    for (const [path, values] of this.#byClaim) this.#claimPaths.push([JSON.parse(path) as string[], values]);
  }

  /** Index of the first rule that matches; −1 if none. */
  find(facts: PolicyFacts): number {
    let best = this.#first(this.#always, facts, NONE);
    for (const [kind, map] of this.#byKind) best = this.#inKind(kind as Guard['kind'], map, facts, best);
    const headers = facts.subject.requestHeaders;
    if (headers !== undefined) {
      for (const [name, values] of this.#byHeader) {
        const { fields } = headers;
        for (let i = 0; i < fields.length; i += 2) {
          if (fields[i] === name) best = this.#first(values.get(fields[i + 1] as string), facts, best);
        }
      }
    }
    for (const [path, values] of this.#claimPaths) best = this.#inClaim(claimAt(facts, path), values, facts, best);
    return best === NONE ? -1 : best;
  }

  #inClaim(value: unknown, values: Map<string, number[]>, facts: PolicyFacts, limit: number): number {
    if (typeof value === 'string') return this.#first(values.get(value), facts, limit);
    if (!Array.isArray(value)) return limit;
    let best = limit;
    for (const item of value) if (typeof item === 'string') best = this.#first(values.get(item), facts, best);
    return best;
  }

  #inKind(kind: Guard['kind'], map: Map<string, number[]>, facts: PolicyFacts, limit: number): number {
    const { path, subject } = facts;
    switch (kind) {
      case 'path':
        return path === undefined ? limit : this.#first(map.get(path), facts, limit);
      case 'prefix':
        return path === undefined ? limit : this.#underPrefixes(map, path, facts, limit);
      case 'suffix':
        return path === undefined ? limit : this.#underSuffixes(map, path, facts, limit);
      case 'method':
        return this.#first(map.get(subject.requestHeaders?.method ?? ''), facts, limit);
      case 'port':
        return this.#first(map.get(String(subject.connection.localAddress.port)), facts, limit);
      case 'host': {
        const { host } = facts;
        if (host === undefined) return limit;
        const raw = (subject.requestHeaders?.authority ?? '').toLowerCase();
        const best = this.#first(map.get(host), facts, limit);
        return raw === host ? best : this.#first(map.get(raw), facts, best);
      }
      case 'principal':
      case 'namespace': {
        let best = limit;
        for (const name of facts.principals) {
          if (kind === 'principal') best = this.#first(map.get(name), facts, best);
          else best = this.#underNamespaces(map, name, facts, best);
        }
        return best;
      }
      case 'peer':
        return this.#inRanges(map, this.#peerLengths, facts.peerIp, facts, limit);
      case 'client':
        return this.#inRanges(map, this.#clientLengths, subject.info.remoteAddress.ip, facts, limit);
      case 'header':
      case 'claim':
        return limit;
      default:
        return kind satisfies never;
    }
  }

  #inRanges(
    map: Map<string, number[]>,
    lengths: readonly number[],
    ip: string,
    facts: PolicyFacts,
    limit: number,
  ): number {
    const value = ipv4(ip);
    if (value < 0) return limit;
    let best = limit;
    for (const length of lengths) best = this.#first(map.get(rangeKey(maskedIpv4(value, length), length)), facts, best);
    return best;
  }

  #underPrefixes(map: Map<string, number[]>, path: string, facts: PolicyFacts, limit: number): number {
    let best = limit;
    for (const length of this.#prefixLengths) {
      if (length > path.length) break;
      best = this.#first(map.get(path.slice(0, length)), facts, best);
    }
    return best;
  }

  #underSuffixes(map: Map<string, number[]>, path: string, facts: PolicyFacts, limit: number): number {
    let best = limit;
    for (const length of this.#suffixLengths) {
      if (length > path.length) break;
      best = this.#first(map.get(path.slice(path.length - length)), facts, best);
    }
    return best;
  }

  /** Every `/ns/NAME/` in a peer's name: the regexes ask for it anywhere. */
  #underNamespaces(map: Map<string, number[]>, name: string, facts: PolicyFacts, limit: number): number {
    let best = limit;
    for (let at = name.indexOf('/ns/'); at >= 0; at = name.indexOf('/ns/', at + 1)) {
      const end = name.indexOf('/', at + 4);
      if (end < 0) break;
      best = this.#first(map.get(name.slice(at + 4, end)), facts, best);
    }
    return best;
  }

  #first(indexes: readonly number[] | undefined, facts: PolicyFacts, limit: number): number {
    if (indexes === undefined) return limit;
    for (let i = 0; i < indexes.length; i++) {
      const index = indexes[i] as number;
      if (index >= limit) return limit;
      if ((this.#rules[index] as RuleNode).matches(facts)) return index;
    }
    return limit;
  }

  #file(guards: readonly Guard[] | undefined, index: number): void {
    if (guards === undefined) {
      this.#always.push(index);
      return;
    }
    for (const { kind, key, header } of guards) {
      const outer: Map<string, Map<string, number[]>> = kind === 'header'
        ? this.#byHeader
        : kind === 'claim'
          ? this.#byClaim
          : this.#byKind;
      const name = kind === 'header' || kind === 'claim' ? header : kind;
      let map = outer.get(name);
      if (map === undefined) {
        map = new Map();
        outer.set(name, map);
      }
      const list = map.get(key);
      if (list === undefined) map.set(key, [index]);
      else if (list.at(-1) !== index) list.push(index);
    }
  }
}

/** Distinct lengths of the texts by which rules are filed, shortest first. */
function keyLengths(map: ReadonlyMap<string, unknown> | undefined): number[] {
  return [...new Set([...(map?.keys() ?? [])].map((key) => key.length))].sort((a, b) => a - b);
}

/** Distinct prefix lengths of the ranges by which rules are filed. */
function rangeLengths(map: ReadonlyMap<string, unknown> | undefined): number[] {
  const lengths = [...(map?.keys() ?? [])].map((key) => Number(key.slice(key.indexOf('/') + 1)));
  return [...new Set(lengths)];
}

function nameOf({ kind, key, header }: Guard): string {
  return `${kind}\n${header}\n${key}`;
}

function countGuards(rules: readonly RuleNode[]): Map<string, number> {
  const frequency = new Map<string, number>();
  for (const { guards } of rules) {
    for (const name of new Set(guards.flat().map(nameOf))) frequency.set(name, (frequency.get(name) ?? 0) + 1);
  }
  return frequency;
}

/** The list that the fewest other rules share. */
function rarest({ guards }: RuleNode, frequency: ReadonlyMap<string, number>): readonly Guard[] | undefined {
  let best: readonly Guard[] | undefined;
  let bestCount = Number.POSITIVE_INFINITY;
  for (const list of guards) {
    let count = 0;
    for (const guard of list) count = Math.max(count, frequency.get(nameOf(guard)) ?? 0);
    if (count < bestCount) {
      best = list;
      bestCount = count;
    }
  }
  return best;
}
