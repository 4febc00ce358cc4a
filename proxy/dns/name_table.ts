/** Names that the mesh knows, as a control plane or files give them (istio.networking.nds.v1.NameTable). */
import { isIP } from 'node:net';

/** One host of istio.networking.nds.v1.NameTable. All of it can be sent between threads. */
export interface NamedHost {
  readonly ips: readonly string[];
  /** `Kubernetes` or `External`. */
  readonly registry: string;
  readonly shortname: string;
  readonly namespace: string;
  readonly altHosts: readonly string[];
}

export type NameTableData = ReadonlyMap<string, NamedHost>;

export type Answer =
  | { readonly kind: 'addresses'; readonly v4: readonly string[]; readonly v6: readonly string[] }
  /** The name is `target` with a search domain behind it. */
  | { readonly kind: 'alias'; readonly target: string; readonly v4: readonly string[]; readonly v6: readonly string[] };

/** Reads the protobuf's JSON form. What is no address is passed over: a name that is known is never asked for elsewhere. */
export function readNameTable(json: unknown): NameTableData {
  const out = new Map<string, NamedHost>();
  const table = (json as { readonly table?: unknown } | null)?.table;
  if (table === null || typeof table !== 'object') return out;
  for (const [host, value] of Object.entries(table as Readonly<Record<string, unknown>>)) {
    const entry = (value ?? {}) as Readonly<Record<string, unknown>>;
    const texts = (name: string): string[] => (Array.isArray(entry[name]) ? entry[name].map(String) : []);
    out.set(host, {
      ips: texts('ips').filter((ip) => isIP(ip) !== 0),
      registry: String(entry['registry'] ?? ''),
      shortname: String(entry['shortname'] ?? ''),
      namespace: String(entry['namespace'] ?? ''),
      altHosts: texts('alt_hosts'),
    });
  }
  return out;
}

interface Addresses {
  readonly v4: readonly string[];
  readonly v6: readonly string[];
}

/** Look-up as Istio's agent does it (istio/istio: pkg/dns/client). */
export class NameTable {
  readonly #hosts = new Map<string, Addresses>();
  readonly #search: readonly string[];
  #hasWildcards = false;

  /** @param search domains of the workload's resolv.conf, for names that its resolver has made longer */
  constructor(data: NameTableData, search: readonly string[]) {
    this.#search = search.map((domain) => domain.toLowerCase().replace(/\.$/, ''));
    for (const [host, { ips, altHosts }] of data) {
      const addresses = { v4: ips.filter((ip) => isIP(ip) === 4), v6: ips.filter((ip) => isIP(ip) === 6) };
      for (const name of [host, ...altHosts]) {
        const key = name.toLowerCase().replace(/\.$/, '');
        if (key.startsWith('*.')) this.#hasWildcards = true;
        if (!this.#hosts.has(key)) this.#hosts.set(key, addresses);
      }
    }
  }

  get size(): number {
    return this.#hosts.size;
  }

  /** @param name without a dot at the end, in any case; undefined: the mesh does not know it */
  lookup(name: string): Answer | undefined {
    const wanted = name.toLowerCase();
    const exact = this.#hosts.get(wanted);
    if (exact !== undefined) return { kind: 'addresses', ...exact };
    for (const domain of this.#search) {
      if (!wanted.endsWith(`.${domain}`)) continue;
      const target = wanted.slice(0, -domain.length - 1);
      const found = this.#hosts.get(target) ?? this.#wildcard(target);
      if (found !== undefined) return { kind: 'alias', target, ...found };
    }
    const wild = this.#wildcard(wanted);
    return wild === undefined ? undefined : { kind: 'addresses', ...wild };
  }

  /** The longest wildcard above the name. */
  #wildcard(name: string): Addresses | undefined {
    if (!this.#hasWildcards) return undefined;
    for (let dot = name.indexOf('.'); dot >= 0; dot = name.indexOf('.', dot + 1)) {
      const found = this.#hosts.get(`*${name.slice(dot)}`);
      if (found !== undefined) return found;
    }
    return undefined;
  }
}
