/** Hosts of a dynamic forward proxy: the request's Host, resolved when it is asked for. */
import ipaddr from 'ipaddr.js';
import { type Failure, failures } from '../failures.ts';
import type { RequestHeaders } from '../http/headers.ts';
import type { ClusterConfig } from './cluster_config.ts';
import { ClusterHost } from './cluster_hosts.ts';
import type { DnsResolver } from './dns.ts';
import type { Host } from './host.ts';
import { plainEndpoint } from './load_assignment.ts';

/** Names kept; the oldest goes when another one comes (Envoy dns_cache max_hosts). */
const MAX_HOSTS = 1024;
/** How long an answer without a TTL holds. */
const DEFAULT_TTL_MS = 60_000;
/** A shorter one is taken as this (Envoy dns_cache dns_min_refresh_rate): no name server is asked for each request. */
const SHORTEST_TTL_MS = 5_000;

interface Known {
  readonly host: ClusterHost;
  readonly untilMs: number;
}

export interface ForwardProxyGuard {
  /** Ports of this proxy's own listeners: a request to them would come back here for ever. */
  isOwnAddress(ip: string, port: number): boolean;
}

export class ForwardProxyHosts {
  readonly #known = new Map<string, Known>();
  readonly #config: ClusterConfig;
  readonly #resolver: DnsResolver;
  readonly #guard: ForwardProxyGuard;
  readonly #nowMs: () => number;
  readonly #onRemoved: (host: Host) => void;

  constructor(
    config: ClusterConfig,
    resolver: DnsResolver,
    guard: ForwardProxyGuard,
    nowMs: () => number,
    onRemoved: (host: Host) => void,
  ) {
    this.#config = config;
    this.#resolver = resolver;
    this.#guard = guard;
    this.#nowMs = nowMs;
    this.#onRemoved = onRemoved;
  }

  get(request: RequestHeaders): Host | undefined {
    return this.#known.get(request.authority.toLowerCase())?.host;
  }

  get hosts(): readonly Host[] {
    return [...this.#known.values()].map(({ host }) => host);
  }

  /** undefined: `get` answers at once. */
  resolve(request: RequestHeaders): Promise<Failure | undefined> | undefined {
    const key = request.authority.toLowerCase();
    // TCP that says no name: there is nobody, and nothing to look up.
    if (key === '') return undefined;
    const known = this.#known.get(key);
    if (known !== undefined && known.untilMs > this.#nowMs()) return undefined;
    return this.#look(key, request.scheme);
  }

  async #look(key: string, scheme: string): Promise<Failure | undefined> {
    const { name, port } = splitAuthority(key, scheme === 'https' ? 443 : 80);
    const { family } = this.#config.dns;
    let ip: string | undefined;
    let others: readonly string[];
    let ttlMs: number | undefined;
    try {
      const answer = await this.#resolver.resolve(name, family === 'auto' ? 'v4_preferred' : family);
      [ip, ...others] = answer.addresses;
      ttlMs = answer.ttlMs;
    } catch {
      return failures.dnsFailure;
    }
    if (ip === undefined) return failures.dnsFailure;
    const isForbidden = (address: string): boolean => isLinkLocal(address) || this.#guard.isOwnAddress(address, port);
    if (isForbidden(ip)) return failures.forbiddenDestination;
    const before = this.#known.get(key);
    const untilMs = this.#nowMs() + (ttlMs === undefined ? DEFAULT_TTL_MS : Math.max(SHORTEST_TTL_MS, ttlMs));
    if (before !== undefined && before.host.address.ip === ip) {
      this.#known.set(key, { host: before.host, untilMs });
      return undefined;
    }
    if (before !== undefined) this.#onRemoved(before.host);
    const more = family === 'all' ? others.filter((address) => !isForbidden(address)) : [];
    const host = new ClusterHost({
      ...plainEndpoint(ip, port, name),
      additionalAddresses: more.map((address) => ({ ip: address, port })),
    });
    this.#known.delete(key);
    this.#known.set(key, { host, untilMs });
    if (this.#known.size > MAX_HOSTS) {
      const [oldest] = this.#known;
      if (oldest !== undefined) {
        this.#known.delete(oldest[0]);
        this.#onRemoved(oldest[1].host);
      }
    }
    return undefined;
  }
}

function splitAuthority(authority: string, defaultPort: number): { name: string; port: number } {
  const colon = authority.lastIndexOf(':');
  if (colon > 0 && colon > authority.lastIndexOf(']')) {
    const port = Number(authority.slice(colon + 1));
    return {
      name: authority.slice(0, colon),
      port: Number.isInteger(port) && port > 0 && port < 65536 ? port : defaultPort,
    };
  }
  return { name: authority, port: defaultPort };
}

/** 169.254.0.0/16 and fe80::/10: cloud metadata lives there (attacks.md row 62). */
export function isLinkLocal(ip: string): boolean {
  if (!ipaddr.isValid(ip)) return false;
  const address = ipaddr.process(ip);
  const range = address.range();
  return range === 'linkLocal' || address.toString() === 'fd00:ec2::254';
}
