/** Trees over one text: exact texts, prefixes, address ranges, host names. Source: xds.type.matcher.v3.{Matcher.MatcherTree, IPMatcher, ServerNameMatcher}. */
import { type Cidr, parseCidr } from '../net/cidr.ts';
import { Fields } from '../resource_fields.ts';
import { type Match, type MatchInput, typedConfig, typeName } from './matcher.ts';

type OnMatch<D, A> = (branch: Fields) => Match<D, A>;
/** Branches that a text leads to, the most specific first. */
type Branches<D, A> = (text: string) => readonly Match<D, A>[];

const NONE: readonly never[] = [];

/** @throws {ConfigError} */
export function parseTree<D, A>(fields: Fields, input: MatchInput<D>, onMatch: OnMatch<D, A>): Match<D, A> {
  const branches = parseBranches(fields, onMatch);
  return (data) => {
    const text = input.read(data);
    if (typeof text !== 'string') return undefined;
    const found = branches(text);
    for (let i = 0; i < found.length; i++) {
      const action = (found[i] as Match<D, A>)(data);
      if (action !== undefined) return action;
    }
    return undefined;
  };
}

function parseBranches<D, A>(fields: Fields, onMatch: OnMatch<D, A>): Branches<D, A> {
  const exact = fields.message('exact_match_map');
  if (exact !== undefined) {
    const map = new Map([...readMap(exact, onMatch)].map(([key, branch]) => [key, [branch]] as const));
    return (text) => map.get(text) ?? NONE;
  }
  const prefixes = fields.message('prefix_match_map');
  if (prefixes !== undefined) return byPrefix(readMap(prefixes, onMatch));
  const custom = typedConfig(fields.requiredMessage('custom_match'));
  switch (typeName(custom)) {
    case 'xds.type.matcher.v3.IPMatcher':
      return byRange(custom, onMatch);
    case 'xds.type.matcher.v3.ServerNameMatcher':
      return byName(custom, onMatch);
    default:
      return custom.fail('@type', `the tree ${typeName(custom)} is not executed by this version`);
  }
}

function readMap<D, A>(fields: Fields, onMatch: OnMatch<D, A>): Map<string, Match<D, A>> {
  const entries = fields.entries('map');
  if (entries.length === 0) fields.fail('map', 'at least one entry is required');
  return new Map(entries.map(([key, json]) => [key, onMatch(new Fields(json, `${fields.at('map')}["${key}"]`))]));
}

function byPrefix<D, A>(map: ReadonlyMap<string, Match<D, A>>): Branches<D, A> {
  const lengths = [...new Set([...map.keys()].map(({ length }) => length))].sort((a, b) => b - a);
  return (text) => {
    const found: Match<D, A>[] = [];
    for (let i = 0; i < lengths.length; i++) {
      const length = lengths[i] as number;
      const branch = length > text.length ? undefined : map.get(text.slice(0, length));
      if (branch !== undefined) found.push(branch);
    }
    return found;
  };
}

/** Longest prefixes first, then in their order; an exclusive one only where none is more specific. */
function byRange<D, A>(fields: Fields, onMatch: OnMatch<D, A>): Branches<D, A> {
  interface Range {
    readonly range: Cidr;
    readonly exclusive: boolean;
    readonly branch: Match<D, A>;
  }
  const ranges: Range[] = [];
  for (const entry of atLeastOne(fields, 'range_matchers')) {
    const branch = onMatch(entry.requiredMessage('on_match'));
    const exclusive = entry.boolean('exclusive') ?? false;
    for (const range of atLeastOne(entry, 'ranges')) ranges.push({ range: parseCidr(range), exclusive, branch });
  }
  // Stable: those of one length stay in their order.
  ranges.sort((a, b) => b.range.prefixLength - a.range.prefixLength);
  return (text) => {
    const found: Match<D, A>[] = [];
    for (let i = 0; i < ranges.length; i++) {
      const { range, exclusive, branch } = ranges[i] as Range;
      if ((exclusive && found.length > 0) || !range.contains(text)) continue;
      found.push(branch);
    }
    return found;
  };
}

/** The name itself, then `*.example` from the longest to the shortest, then `*`. Compared as it stands, as Envoy does. */
function byName<D, A>(fields: Fields, onMatch: OnMatch<D, A>): Branches<D, A> {
  const map = new Map<string, Match<D, A>>();
  for (const entry of atLeastOne(fields, 'domain_matchers')) {
    const branch = onMatch(entry.requiredMessage('on_match'));
    const domains = entry.strings('domains');
    if (domains.length === 0) entry.fail('domains', 'at least one is required');
    for (const domain of domains) {
      const rest = domain.startsWith('*.') ? domain.slice(2) : domain === '*' ? 'x' : domain;
      if (rest === '' || rest.includes('*')) {
        entry.fail('domains', `a host name, one such as "*.example.com", or "*" is wanted, got "${domain}"`);
      }
      if (map.has(domain)) entry.fail('domains', `"${domain}" is there twice`);
      map.set(domain, branch);
    }
  }
  return (text) => {
    const found: Match<D, A>[] = [];
    const add = (domain: string): void => {
      const branch = map.get(domain);
      if (branch !== undefined) found.push(branch);
    };
    add(text);
    for (let dot = text.indexOf('.'); dot >= 0; dot = text.indexOf('.', dot + 1)) add(`*${text.slice(dot)}`);
    add('*');
    return found;
  };
}

function atLeastOne(fields: Fields, name: string): Fields[] {
  const items = fields.messages(name);
  return items.length === 0 ? fields.fail(name, 'at least one is required') : items;
}
