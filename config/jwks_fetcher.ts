/**
 * Fetches and keeps the public keys of token issuers, for rules that name a URL or only the issuer. On the control
 * thread; the compiler puts what is known inline, as istiod does.
 */
import { lookup } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { Dispatcher } from 'undici';
import type { WantedKeys } from './istio/request_authentication.ts';

export interface JwksFetcherOptions {
  /** Whether keys may be fetched from loopback and link-local addresses (attacks.md row 53). */
  readonly allowLocal: boolean;
  /** Keys of some issuer are others than before, or known at last. */
  onChange(): void;
  /** How often keys are renewed. Default 20 minutes, istiod's. */
  readonly refreshMs?: number;
  /** How soon a failed fetch is tried again. Default 10 s. */
  readonly retryMs?: number;
}

interface Entry {
  wanted: WantedKeys;
  text: string | undefined;
  /** Why there is nothing, or nothing new. */
  problem: string;
  timer: NodeJS.Timeout | undefined;
  first: Promise<void>;
  breaker: { fire(): Promise<unknown> } | undefined;
}

const REFRESH_MS = 20 * 60_000;
const RETRY_MS = 10_000;
const MAX_BYTES = 1024 * 1024;

export class JwksFetcher {
  readonly #options: JwksFetcherOptions;
  readonly #entries = new Map<string, Entry>();
  #agent: Promise<Dispatcher> | undefined = undefined;
  #stopped = false;

  constructor(options: JwksFetcherOptions) {
    this.#options = options;
  }

  /** What is known; undefined: nothing yet. */
  get(wanted: WantedKeys): string | undefined {
    return this.#entries.get(keyOf(wanted))?.text;
  }

  /** Why there are no keys; '' while the first fetch is under way. */
  problem(wanted: WantedKeys): string {
    return this.#entries.get(keyOf(wanted))?.problem ?? '';
  }

  /** From now on these are fetched and renewed, and no others. Settles when each was tried once. Never rejects. */
  async follow(all: readonly WantedKeys[]): Promise<void> {
    const keys = new Set(all.map(keyOf));
    for (const [key, entry] of this.#entries) {
      if (keys.has(key)) continue;
      clearTimeout(entry.timer);
      this.#entries.delete(key);
    }
    for (const wanted of all) {
      if (this.#entries.has(keyOf(wanted)) || this.#stopped) continue;
      const entry: Entry = {
        wanted,
        text: undefined,
        problem: '',
        timer: undefined,
        first: Promise.resolve(),
        breaker: undefined,
      };
      this.#entries.set(keyOf(wanted), entry);
      entry.first = this.#refresh(entry);
    }
    await Promise.all([...this.#entries.values()].map(({ first }) => first));
  }

  stop(): void {
    this.#stopped = true;
    for (const { timer } of this.#entries.values()) clearTimeout(timer);
    void this.#agent?.then((agent) => agent.close());
  }

  async #refresh(entry: Entry): Promise<void> {
    let delayMs = this.#options.refreshMs ?? REFRESH_MS;
    try {
      entry.breaker ??= await this.#breaker(entry.wanted);
      const text = (await entry.breaker.fire()) as string;
      entry.problem = '';
      if (text !== entry.text) {
        entry.text = text;
        // At the first time the compiler waits for it.
        if (entry.timer !== undefined) this.#options.onChange();
      }
    } catch (error) {
      entry.problem = reasonOf(error);
      delayMs = this.#options.retryMs ?? RETRY_MS;
    }
    if (this.#stopped || this.#entries.get(keyOf(entry.wanted)) !== entry) return;
    entry.timer = setTimeout(() => void this.#refresh(entry), delayMs).unref();
  }

  /** A server that hangs or fails is left alone for a while: the last good keys serve on. */
  async #breaker(wanted: WantedKeys): Promise<{ fire(): Promise<unknown> }> {
    const { default: CircuitBreaker } = await import('opossum');
    return new CircuitBreaker(() => this.#fetchKeys(wanted), {
      timeout: false,
      volumeThreshold: 5,
      errorThresholdPercentage: 80,
      resetTimeout: 2 * (this.#options.retryMs ?? RETRY_MS),
    });
  }

  async #fetchKeys(wanted: WantedKeys): Promise<string> {
    const url = wanted.url ?? (await this.#discover(wanted));
    const text = await this.#read(url, wanted.timeoutMs);
    const keys = (parse(text, url) as { keys?: unknown }).keys;
    if (!Array.isArray(keys)) throw new Error(`${url} answered no JSON Web Key Set`);
    return text;
  }

  /** OpenID Connect Discovery 1.0 §4: the issuer names its keys, and itself. */
  async #discover({ issuer, timeoutMs }: WantedKeys): Promise<string> {
    if (!/^https?:\/\//.test(issuer)) {
      throw new Error(`the issuer "${issuer}" is no URL: say jwksUri or jwks`);
    }
    const url = `${issuer.replace(/\/$/, '')}/.well-known/openid-configuration`;
    const json = parse(await this.#read(url, timeoutMs), url) as { jwks_uri?: unknown; issuer?: unknown };
    if (typeof json.jwks_uri !== 'string' || !/^https?:\/\//.test(json.jwks_uri))
      throw new Error(`${url} names no jwks_uri`);
    return json.jwks_uri;
  }

  /** No redirects: whoever answers one would choose the keys (attacks.md row 52). */
  async #read(url: string, timeoutMs: number): Promise<string> {
    const { request, Agent } = await import('undici');
    this.#agent ??= Promise.resolve(
      new Agent({ connect: { lookup: this.#options.allowLocal ? lookup : publicOnly }, maxResponseSize: MAX_BYTES }),
    );
    const host = new URL(url).hostname.replace(/^\[|\]$/g, '');
    // An address in the URL is never looked up.
    if (!this.#options.allowLocal && isIP(host) !== 0 && isLocal(host)) throw new Error(localSentence(host));
    const answer = await request(url, {
      dispatcher: await this.#agent,
      signal: AbortSignal.timeout(timeoutMs),
      headers: { accept: 'application/json' },
    });
    if (answer.statusCode !== 200) {
      await answer.body.dump();
      throw new Error(`${url} answered ${answer.statusCode}`);
    }
    return answer.body.text();
  }
}

function keyOf({ issuer, url }: WantedKeys): string {
  return url ?? `issuer ${issuer}`;
}

function parse(text: string, url: string): object {
  try {
    const json: unknown = JSON.parse(text);
    if (json !== null && typeof json === 'object') return json;
  } catch {
    // Said below.
  }
  throw new Error(`${url} answered no JSON`);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const cause = error.cause instanceof Error ? error.cause : error;
  return error.name === 'TimeoutError' ? 'no answer in time' : cause.message;
}

/** Checked on the address that is connected to: a name may mean another one by then. */
const publicOnly: LookupFunction = (hostname, options, callback) => {
  lookup(hostname, { ...options, all: true }, (error, addresses) => {
    if (error !== null) return callback(error, '', 0);
    const local = addresses.find(({ address }) => isLocal(address));
    const [first] = addresses;
    if (local !== undefined || first === undefined) {
      return callback(new Error(localSentence(`${hostname} (${local?.address ?? 'no address'})`)), '', 0);
    }
    if (options.all === true) (callback as (e: null, all: typeof addresses) => void)(null, addresses);
    else callback(null, first.address, first.family);
  });
};

function isLocal(ip: string): boolean {
  const range = ipaddr.process(ip).range();
  return range === 'loopback' || range === 'linkLocal' || range === 'unspecified' || range === 'multicast';
}

function localSentence(host: string): string {
  return `${host} is an address of this machine or link, from which keys are not fetched without --allow-local-jwks`;
}
