/** Names to addresses: literals, the hosts file, then search domains through c-ares with the answer's TTL. */
import { readFileSync, statSync } from 'node:fs';
import { Resolver } from 'node:dns/promises';
import { isIP } from 'node:net';
import type { DnsOptions } from './dns_options.ts';

export interface DnsAnswer {
  readonly addresses: readonly string[];
  /** How long the answer holds; undefined: not known (hosts file). */
  readonly ttlMs: number | undefined;
}

export interface DnsResolver {
  /** Rejects when no family has an answer; the message names the name and the code. */
  resolve(name: string, family: DnsOptions['family']): Promise<DnsAnswer>;
}

export interface SystemResolverOptions {
  /** Default /etc/hosts. */
  readonly hostsPath?: string;
  /** Default /etc/resolv.conf: search domains and ndots; name servers are c-ares' own reading of it. */
  readonly resolvConfPath?: string;
  /** `ip:port`, instead of resolv.conf's. */
  readonly servers?: readonly string[];
  /** `servers` only where resolv.conf has none. */
  readonly onlyWithoutOthers?: boolean;
  /** Whether resolv.conf's search domains are tried; default true. */
  readonly searches?: boolean;
  /** Per try; default 2,000. */
  readonly timeoutMs?: number;
  /** Default 2. */
  readonly tries?: number;
}

export class SystemResolver implements DnsResolver {
  readonly #resolver: Resolver;
  readonly #hostsPath: string;
  readonly #search: readonly string[];
  readonly #ndots: number;
  #hosts = new Map<string, string[]>();
  #hostsTime = -1;

  constructor(options: SystemResolverOptions = {}) {
    this.#resolver = new Resolver({ timeout: options.timeoutMs ?? 2000, tries: options.tries ?? 2 });
    const { servers } = options;
    if (servers !== undefined && !(options.onlyWithoutOthers === true && this.#resolver.getServers().length > 0)) {
      this.#resolver.setServers(servers);
    }
    this.#hostsPath = options.hostsPath ?? '/etc/hosts';
    const conf = readText(options.resolvConfPath ?? '/etc/resolv.conf');
    this.#search =
      options.searches === false
        ? []
        : ([...conf.matchAll(/^\s*(?:search|domain)\s+(.+)$/gm)].at(-1)?.[1]?.trim().split(/\s+/) ?? []);
    this.#ndots = Number(/^\s*options\s.*\bndots:(\d+)/m.exec(conf)?.[1] ?? 1);
  }

  async resolve(name: string, family: DnsOptions['family']): Promise<DnsAnswer> {
    const plain = name.startsWith('[') && name.endsWith(']') ? name.slice(1, -1) : name;
    if (isIP(plain) !== 0) return { addresses: [plain], ttlMs: undefined };
    const local = this.#fromHosts(plain.toLowerCase(), family);
    if (local.length > 0) return { addresses: local, ttlMs: undefined };
    let failure: unknown;
    for (const candidate of this.#candidates(plain)) {
      try {
        return await this.#query(candidate, family);
      } catch (error) {
        failure = error;
      }
    }
    const code = (failure as NodeJS.ErrnoException | undefined)?.code ?? 'ENOTFOUND';
    throw new Error(`Cannot resolve "${name}": ${code}`, { cause: failure });
  }

  /** A name with enough dots is tried as it stands first, another one after the search domains (resolv.conf(5)). */
  #candidates(name: string): string[] {
    if (name.endsWith('.')) return [name.slice(0, -1)];
    const expanded = this.#search.map((domain) => `${name}.${domain}`);
    return name.split('.').length - 1 >= this.#ndots ? [name, ...expanded] : [...expanded, name];
  }

  async #query(name: string, family: DnsOptions['family']): Promise<DnsAnswer> {
    const v4 = (): Promise<readonly { address: string; ttl: number }[]> => this.#resolver.resolve4(name, { ttl: true });
    const v6 = (): Promise<readonly { address: string; ttl: number }[]> => this.#resolver.resolve6(name, { ttl: true });
    const answer = (records: readonly { address: string; ttl: number }[]): DnsAnswer => ({
      addresses: records.map((record) => record.address),
      ttlMs: Math.min(...records.map((record) => record.ttl)) * 1000,
    });
    switch (family) {
      case 'v4_only':
        return answer(await v4());
      case 'v6_only':
        return answer(await v6());
      case 'v4_preferred':
        return answer(await v4().catch(v6));
      case 'auto':
        // Envoy's AUTO: IPv6 first, IPv4 where there is none.
        return answer(await v6().catch(v4));
      case 'all': {
        const [four, six] = await Promise.allSettled([v4(), v6()]);
        const records = [four, six].flatMap((result) => (result.status === 'fulfilled' ? result.value : []));
        if (records.length === 0) throw (four as PromiseRejectedResult).reason;
        return answer(records);
      }
      default:
        return family satisfies never;
    }
  }

  #fromHosts(name: string, family: DnsOptions['family']): string[] {
    this.#readHosts();
    const found = this.#hosts.get(name) ?? (name === 'localhost' ? ['127.0.0.1', '::1'] : []);
    const v4 = found.filter((address) => isIP(address) === 4);
    const v6 = found.filter((address) => isIP(address) === 6);
    if (family === 'v4_only') return v4;
    if (family === 'v6_only') return v6;
    if (family === 'all') return found;
    // From a file, the family that is most likely to be listened on.
    return v4.length > 0 ? v4 : v6;
  }

  #readHosts(): void {
    let changed = 0;
    try {
      changed = statSync(this.#hostsPath).mtimeMs;
    } catch {
      // No hosts file: nothing in it.
    }
    if (changed === this.#hostsTime) return;
    this.#hostsTime = changed;
    this.#hosts = new Map();
    for (const line of readText(this.#hostsPath).split('\n')) {
      const [address, ...names] = line.replace(/#.*/, '').trim().split(/\s+/);
      if (address === undefined || isIP(address) === 0) continue;
      for (const name of names) {
        const lower = name.toLowerCase();
        const list = this.#hosts.get(lower) ?? [];
        list.push(address);
        this.#hosts.set(lower, list);
      }
    }
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
