/**
 * Finds the first of many rules that matches without asking all of them.
 *
 * Each rule is filed under the rarest of the things that a request must show for it to match: a path or the beginning,
 * the end or a part of one, a peer's name, a host, a header's value, a claim, a port, an address range. What can be
 * filed under nothing is always asked. A thousand rules then cost what the few filed under the request's own things cost.
 */
import { ipv4, maskedIpv4 } from '../net/cidr.ts';
import type { PolicyFacts } from './facts.ts';
import { type Guard, type Guards, nameOf, type Place, rangeKey, weight } from './guard.ts';
import type { RuleNode } from './rule_node.ts';
import { type AskRules, TextIndex } from './text_index.ts';
import { claimAt } from './value_matcher.ts';

const NONE = Number.MAX_SAFE_INTEGER;
/** Below this many rules asking all is cheaper than looking anything up. */
const LEAST_RULES = 8;

/** Rules filed by texts of one place. */
interface Shelf {
  readonly place: Place;
  readonly name: string;
  /** Of a claim: its path, taken apart. */
  readonly path: readonly string[];
  readonly fold: boolean;
  readonly index: TextIndex;
}

/** Rules filed by address ranges. */
interface Ranges {
  readonly place: 'peer' | 'client';
  readonly byKey: Map<string, number[]>;
  lengths: readonly number[];
}

export class RuleIndex {
  readonly #rules: readonly RuleNode[];
  readonly #always: number[] = [];
  readonly #shelves: Shelf[] = [];
  readonly #ranges: Ranges[] = [];
  /** During one `find`. */
  #facts!: PolicyFacts;
  readonly #ask: AskRules = (rules, limit) => {
    for (let i = 0; i < rules.length; i++) {
      const rule = rules[i] as number;
      if (rule >= limit) return limit;
      if ((this.#rules[rule] as RuleNode).matches(this.#facts)) return rule;
    }
    return limit;
  };

  /** Rules in the order in which they win. */
  constructor(rules: readonly RuleNode[]) {
    this.#rules = rules;
    if (rules.length < LEAST_RULES) {
      this.#always = rules.map((_, index) => index);
      return;
    }
    const frequency = countGuards(rules);
    rules.forEach((rule, index) => {
      this.#file(rarest(rule.guards, frequency), index);
    });
    for (const { index } of this.#shelves) index.finish();
    for (const ranges of this.#ranges) ranges.lengths = rangeLengths(ranges.byKey);
  }

  /** Index of the first rule that matches; −1 if none. */
  find(facts: PolicyFacts): number {
    this.#facts = facts;
    let best = this.#ask(this.#always, NONE);
    for (let i = 0; i < this.#shelves.length; i++) best = this.#onShelf(this.#shelves[i] as Shelf, facts, best);
    for (let i = 0; i < this.#ranges.length; i++) {
      const ranges = this.#ranges[i] as Ranges;
      const ip = ranges.place === 'peer' ? facts.peerIp : facts.subject.info.remoteAddress.ip;
      best = this.#inRanges(ranges, ip, best);
    }
    return best === NONE ? -1 : best;
  }

  #onShelf(shelf: Shelf, facts: PolicyFacts, limit: number): number {
    const { subject } = facts;
    switch (shelf.place) {
      case 'path':
        return facts.path === undefined ? limit : look(shelf, facts.path, limit);
      case 'port':
        return look(shelf, String(subject.connection.localAddress.port), limit);
      case 'serverName':
        return look(shelf, subject.connection.requestedServerName ?? '', limit);
      case 'host': {
        const { host } = facts;
        if (host === undefined) return limit;
        const raw = subject.requestHeaders?.authority ?? '';
        const best = look(shelf, raw, limit);
        return raw === host ? best : look(shelf, host, best);
      }
      case 'principal': {
        let best = limit;
        const { principals } = facts;
        for (let i = 0; i < principals.length; i++) best = look(shelf, principals[i] as string, best);
        return best;
      }
      case 'header':
        return inHeader(shelf, facts, limit);
      case 'claim':
        return inClaim(shelf, claimAt(facts, shelf.path), limit);
      case 'peer':
      case 'client':
        return limit;
      default:
        return shelf.place satisfies never;
    }
  }

  /** Ranges that hold the address, by their lengths; IPv4 only. */
  #inRanges({ byKey, lengths }: Ranges, ip: string, limit: number): number {
    const value = ipv4(ip);
    if (value < 0) return limit;
    let best = limit;
    for (let i = 0; i < lengths.length; i++) {
      const length = lengths[i] as number;
      const rules = byKey.get(rangeKey(maskedIpv4(value, length), length));
      if (rules !== undefined) best = this.#ask(rules, best);
    }
    return best;
  }

  #file(guards: readonly Guard[] | undefined, rule: number): void {
    if (guards === undefined) {
      this.#always.push(rule);
      return;
    }
    for (const guard of guards) {
      const { place } = guard;
      if (place === 'peer' || place === 'client') this.#fileRange(place, guard.key, rule);
      else this.#shelf(guard).index.file(guard, rule);
    }
  }

  #shelf({ place, name, fold }: Guard): Shelf {
    let shelf = this.#shelves.find((one) => one.place === place && one.name === name && one.fold === fold);
    if (shelf === undefined) {
      const path = place === 'claim' ? (JSON.parse(name) as string[]) : [];
      shelf = { place, name, path, fold, index: new TextIndex(this.#ask) };
      this.#shelves.push(shelf);
    }
    return shelf;
  }

  #fileRange(place: Ranges['place'], key: string, rule: number): void {
    let ranges = this.#ranges.find((one) => one.place === place);
    if (ranges === undefined) {
      ranges = { place, byKey: new Map(), lengths: [] };
      this.#ranges.push(ranges);
    }
    const list = ranges.byKey.get(key);
    if (list === undefined) ranges.byKey.set(key, [rule]);
    else if (list.at(-1) !== rule) list.push(rule);
  }
}

function look({ index, fold }: Shelf, text: string, limit: number): number {
  return index.find(fold ? text.toLowerCase() : text, limit);
}

/** Each value of a repeated field by itself, as header matchers see them. */
function inHeader(shelf: Shelf, { subject }: PolicyFacts, limit: number): number {
  const headers = subject.requestHeaders;
  if (headers === undefined) return limit;
  const { name } = shelf;
  if (name.charCodeAt(0) === 58) {
    const value = headers.get(name);
    return value === undefined ? limit : look(shelf, value, limit);
  }
  const { fields } = headers;
  let best = limit;
  for (let i = 0; i < fields.length; i += 2) {
    if (fields[i] === name) best = look(shelf, fields[i + 1] as string, best);
  }
  return best;
}

function inClaim(shelf: Shelf, value: unknown, limit: number): number {
  if (typeof value === 'string') return look(shelf, value, limit);
  if (!Array.isArray(value)) return limit;
  let best = limit;
  for (let i = 0; i < value.length; i++) {
    const item: unknown = value[i];
    if (typeof item === 'string') best = look(shelf, item, best);
  }
  return best;
}

/** Distinct prefix lengths of the ranges by which rules are filed. */
function rangeLengths(byKey: ReadonlyMap<string, unknown>): number[] {
  const lengths = [...byKey.keys()].map((key) => Number(key.slice(key.indexOf('/') + 1)));
  return [...new Set(lengths)];
}

function countGuards(rules: readonly RuleNode[]): Map<string, number> {
  const frequency = new Map<string, number>();
  for (const { guards } of rules) {
    for (const name of new Set(guards.flat().map(nameOf))) frequency.set(name, (frequency.get(name) ?? 0) + 1);
  }
  return frequency;
}

/** The list that the fewest other rules share; of several the cheapest to look up. */
function rarest(guards: Guards, frequency: ReadonlyMap<string, number>): readonly Guard[] | undefined {
  let best: readonly Guard[] | undefined;
  let bestCost = Number.POSITIVE_INFINITY;
  for (const list of guards) {
    let cost = 0;
    for (const guard of list) cost = Math.max(cost, (frequency.get(nameOf(guard)) ?? 0) + weight(guard) / 8);
    if (cost < bestCost) {
      best = list;
      bestCost = cost;
    }
  }
  return best;
}
