/**
 * Tags that are taken out of statistic names: `cluster.web.upstream_rq_200` is `cluster.upstream_rq` of
 * envoy_cluster_name="web" and envoy_response_code="200".
 * Source: envoy.config.metrics.v3.TagSpecifier; the default tags of envoy source/common/config/well_known_names.cc.
 */

export interface TagRule {
  readonly name: string;
  /** The first group is taken out of the name; the second, or the first where there is no second, is the value. */
  readonly regex?: string;
  /** `$` is the value, `*` one word, `**` at least one; the value and the dot behind it are taken out. */
  readonly words?: string;
  readonly fixedValue?: string;
  /** Must occur in a name for the regex to be worth a try. */
  readonly hint?: string;
}

const LISTENER_ADDRESS = '(?:[_.\\d]*|[_\\[\\]aAbBcCdDeEfF\\d]*)';

/** Envoy's, in the order in which they are tried. */
export const DEFAULT_TAGS: readonly TagRule[] = [
  { name: 'envoy.response_code', regex: '_rq(_(\\d{3}))$', hint: '_rq_' },
  { name: 'envoy.response_code_class', regex: '_rq_((\\d))xx$', hint: '_rq_' },
  { name: 'envoy.http_user_agent', regex: '^http(?=\\.).*?\\.user_agent\\.((.+?)\\.)\\w+?$', hint: '.user_agent.' },
  {
    name: 'envoy.worker_id',
    regex: `^(?:listener\\.${LISTENER_ADDRESS}\\.|server\\.|thread_local_cluster_manager\\.)worker(_(\\d+))\\.`,
    hint: 'worker_',
  },
  { name: 'envoy.http_conn_manager_prefix', regex: '^listener(?=\\.).*?\\.http\\.((.*?)\\.)', hint: '.http.' },
  { name: 'envoy.listener_address', regex: `^listener\\.((${LISTENER_ADDRESS})\\.)`, hint: 'listener.' },
  { name: 'envoy.ssl_cipher', regex: '^listener(?=\\.).*?\\.ssl\\.cipher(\\.(.*?))$', hint: '.ssl.cipher.' },
  { name: 'envoy.rds_route_config', regex: '^http(?=\\.).*?\\.rds\\.((.+?)\\.)\\w+?$', hint: '.rds.' },
  { name: 'envoy.scoped_rds_config', regex: '^http(?=\\.).*?\\.scoped_rds\\.((.+?)\\.)\\w+?$', hint: '.scoped_rds.' },
  { name: 'envoy.fault_downstream_cluster', words: 'http.*.fault.$.**' },
  { name: 'envoy.clientssl_prefix', words: 'auth.clientssl.$.**' },
  { name: 'envoy.ext_authz_prefix', words: '*.*.ext_authz.$.**' },
  { name: 'envoy.ratelimit_prefix', words: 'ratelimit.$.**' },
  { name: 'envoy.local_http_ratelimit_prefix', words: '$.http_local_rate_limit.**' },
  { name: 'envoy.local_network_ratelimit_prefix', words: 'local_rate_limit.$.**' },
  { name: 'envoy.local_listener_ratelimit_prefix', words: 'listener_local_ratelimit.$.**' },
  { name: 'envoy.connection_limit_prefix', words: 'connection_limit.$.**' },
  { name: 'envoy.dns_filter_prefix', words: 'dns_filter.$.**' },
  { name: 'envoy.rbac_http_prefix', words: 'http.*.rbac.$.**' },
  { name: 'envoy.rbac_prefix', words: '$.rbac.**' },
  { name: 'envoy.cluster_name', words: 'cluster.$.**' },
  { name: 'envoy.http_conn_manager_prefix', words: 'http.$.**' },
  { name: 'envoy.tcp_prefix', words: 'tcp.$.**' },
  { name: 'envoy.udp_prefix', words: 'udp.$.**' },
  { name: 'envoy.virtual_cluster', regex: '^vhost(?=\\.).*?\\.vcluster\\.((.+?)\\.)', hint: '.vcluster.' },
  { name: 'envoy.route', regex: '^vhost(?=\\.).*?\\.route\\.((.+?)\\.)', hint: '.route.' },
  { name: 'envoy.virtual_host', words: 'vhost.$.**' },
];

export interface TaggedName {
  readonly name: string;
  readonly tags: readonly (readonly [string, string])[];
}

/** A part of a name, from `start` up to `end`, which is left out. */
interface Found {
  readonly value: string;
  readonly start: number;
  readonly end: number;
}

interface Extractor {
  readonly tag: string;
  find(name: string): Found | undefined;
}

export class StatTags {
  readonly #extractors: readonly Extractor[];

  /** @throws {SyntaxError} for a regex that cannot be compiled. */
  constructor(rules: readonly TagRule[]) {
    this.#extractors = rules.map((rule) => ({ tag: rule.name, find: finder(rule) }));
  }

  /** Every rule sees the whole name. Made once a series: what it costs does not matter to traffic. */
  extract(name: string): TaggedName {
    const tags: [string, string][] = [];
    const cuts: Found[] = [];
    for (const { tag, find } of this.#extractors) {
      if (tags.some(([known]) => known === tag)) continue;
      const found = find(name);
      if (found === undefined) continue;
      tags.push([tag, found.value]);
      cuts.push(found);
    }
    cuts.sort((a, b) => a.start - b.start);
    let rest = '';
    let at = 0;
    for (const { start, end } of cuts) {
      if (start > at) rest += name.slice(at, start);
      at = Math.max(at, end);
    }
    return { name: rest + name.slice(at), tags };
  }
}

function finder({ regex, words, fixedValue, hint }: TagRule): (name: string) => Found | undefined {
  if (fixedValue !== undefined) return () => ({ value: fixedValue, start: 0, end: 0 });
  if (words !== undefined) return byWords(words.split('.'));
  // std::regex of ECMAScript, with POSIX classes: what JavaScript has, but for the classes.
  const compiled = new RegExp((regex ?? '').replaceAll('[:digit:]', '0-9').replaceAll('[:alnum:]', '0-9A-Za-z'), 'd');
  return (name) => {
    if (hint !== undefined && !name.includes(hint)) return undefined;
    const match = compiled.exec(name);
    const taken = match?.indices?.[1];
    if (match === null || taken === undefined) return undefined;
    return { value: match[2] ?? match[1] ?? '', start: taken[0], end: taken[1] };
  };
}

function byWords(pattern: readonly string[]): (name: string) => Found | undefined {
  const open = pattern.at(-1) === '**';
  const fixed = open ? pattern.length - 1 : pattern.length;
  return (name) => {
    const first = pattern[0] as string;
    if (first !== '*' && first !== '$' && !name.startsWith(first)) return undefined;
    const words = name.split('.');
    if (open ? words.length <= fixed : words.length !== fixed) return undefined;
    let start = 0;
    let found: Found | undefined;
    for (let i = 0; i < fixed; i++) {
      const wanted = pattern[i] as string;
      const word = words[i] as string;
      if (wanted === '$') found = { value: word, start, end: start + word.length + 1 };
      else if (wanted !== '*' && wanted !== word) return undefined;
      start += word.length + 1;
    }
    return found;
  };
}
