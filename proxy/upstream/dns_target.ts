/**
 * One name of a cluster, and the hosts that it means.
 *
 *   start ──► asking ──answer──► waiting (TTL or refresh rate) ──► asking …
 *               └──failure──► waiting (doubled each time), with the hosts of the last answer
 *
 * Source: Envoy strict_dns_cluster.cc, logical_dns_cluster.cc. Differently from Envoy, an answer without an address (NXDOMAIN
 * or no records) takes no host away either: a name server that lies costs no request.
 */
import type { DnsAnswer, DnsResolver } from './dns.ts';
import type { DnsOptions } from './dns_options.ts';
import type { Endpoint } from './load_assignment.ts';

/** After a failure, where the cluster does not say. */
const FIRST_RETRY_MS = 1000;
const MAX_RETRY_MS = 60_000;

export interface DnsTargetCallbacks {
  readonly random: () => number;
  /** A question is about to go out. */
  asks(): void;
  /** `isNews`: it means other hosts than before, or is the first answer. */
  answered(isNews: boolean): void;
  failed(error: Error): void;
}

export class DnsTarget {
  readonly #endpoint: Endpoint;
  readonly #options: DnsOptions;
  readonly #isLogical: boolean;
  readonly #resolver: DnsResolver;
  readonly #on: DnsTargetCallbacks;
  #addresses: readonly string[] = [];
  #answered = false;
  #failures = 0;
  #timer: NodeJS.Timeout | undefined = undefined;
  #isOver = false;

  /** `isLogical`: one host, at whatever the first address is now (with both families: at all of them). */
  constructor(
    endpoint: Endpoint,
    options: DnsOptions,
    isLogical: boolean,
    resolver: DnsResolver,
    on: DnsTargetCallbacks,
  ) {
    this.#endpoint = endpoint;
    this.#options = options;
    this.#isLogical = isLogical;
    this.#resolver = resolver;
    this.#on = on;
  }

  get hosts(): readonly Endpoint[] {
    const endpoint = { ...this.#endpoint, hostname: this.#endpoint.hostname || this.#endpoint.ip };
    const [first, ...others] = this.#addresses;
    if (!this.#isLogical || first === undefined) return this.#addresses.map((ip) => ({ ...endpoint, ip }));
    const more = others.map((ip) => ({ ip, port: endpoint.port }));
    return [{ ...endpoint, ip: first, ...(more.length > 0 && { additionalAddresses: more }) }];
  }

  /** Addresses of the same name, until there is an answer. */
  takeOver(before: readonly DnsTarget[] | undefined): void {
    const same = before?.find((target) => target.#endpoint.ip === this.#endpoint.ip);
    if (same !== undefined) this.#addresses = same.#addresses;
  }

  start(): void {
    void this.#ask();
  }

  stop(): void {
    this.#isOver = true;
    clearTimeout(this.#timer);
  }

  async #ask(): Promise<void> {
    this.#on.asks();
    const answer = await this.#resolver
      .resolve(this.#endpoint.ip, this.#options.family)
      .catch((error: Error): Error => error);
    if (this.#isOver) return;
    const nextMs = answer instanceof Error ? this.#failed(answer) : this.#answer(answer);
    // What was told may have ended this.
    if (this.#isOver) return;
    const { jitterMs } = this.#options;
    const { random } = this.#on;
    // Without a jitter of its own spread over a tenth: a thousand clusters do not ask in the same moment.
    const delayMs = jitterMs > 0 ? nextMs + random() * jitterMs : nextMs * (0.95 + random() * 0.1);
    this.#timer = setTimeout(() => void this.#ask(), delayMs).unref();
  }

  /** @returns when to ask again, in ms. */
  #answer({ addresses, ttlMs }: DnsAnswer): number {
    const { respectTtl, refreshMs, minRefreshMs } = this.#options;
    this.#failures = 0;
    const wanted = this.#isLogical ? this.#ofOneHost(addresses) : [...new Set(addresses)].sort();
    const isNews = !this.#answered || !isSame(wanted, this.#addresses);
    this.#answered = true;
    this.#addresses = wanted;
    this.#on.answered(isNews);
    // A TTL of 0 says nothing about when to ask: the refresh rate does.
    return respectTtl && ttlMs !== undefined && ttlMs > 0 ? Math.max(minRefreshMs, ttlMs) : refreshMs;
  }

  /** The first one; with both families all of them, of which the first that connects is used. */
  #ofOneHost(addresses: readonly string[]): readonly string[] {
    return this.#options.family === 'all' ? addresses : addresses.slice(0, 1);
  }

  #failed(error: Error): number {
    const { failure, refreshMs } = this.#options;
    this.#failures++;
    this.#on.failed(error);
    const baseMs = failure?.baseMs ?? Math.min(FIRST_RETRY_MS, refreshMs);
    const maxMs = failure?.maxMs ?? Math.min(MAX_RETRY_MS, refreshMs);
    return Math.min(maxMs, baseMs * 2 ** Math.min(this.#failures - 1, 16));
  }
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((address, index) => address === b[index]);
}
