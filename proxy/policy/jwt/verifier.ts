/**
 * Decides whether a request has the tokens it needs.
 *
 * A decision is synchronous where every token was seen before. Where one was not, the decision says which signatures
 * it waits for; once they are known it is asked again, and what was learnt stays known to the request, good or bad.
 */
import type { RequestHeaders } from '../../http/headers.ts';
import type { KeySource } from './key_source.ts';
import { type TokenLocation, tokensAt } from './locations.ts';
import { checkClaims, type JwtProvider } from './provider.ts';
import type { JwtRequirement } from './requirement.ts';
import { JWT_STATUS, type JwtStatus, type ParsedToken, parseToken } from './token.ts';
import { VerifiedToken } from './verified_token.ts';

type ByToken<T> = Map<ProviderTokens, Map<string, T>>;

/** What one request has learnt. Its maps are made when something has to be waited for: tokens seen before need none. */
export class Lessons {
  statuses: ByToken<JwtStatus> | undefined = undefined;
  verified: ByToken<VerifiedToken> | undefined = undefined;
}

/** A provider with the tokens it has verified, least recently used first. */
export class ProviderTokens {
  readonly provider: JwtProvider;
  readonly source: KeySource;
  readonly #known = new Map<string, VerifiedToken>();

  constructor(provider: JwtProvider, source: (changed: () => void) => KeySource) {
    this.provider = provider;
    // Tokens of a key that is gone are no longer good.
    this.source = source(() => this.#known.clear());
  }

  get(text: string): VerifiedToken | undefined {
    const found = this.#known.get(text);
    if (found !== undefined && this.#known.size >= this.provider.cacheSize) {
      this.#known.delete(text);
      this.#known.set(text, found);
    }
    return found;
  }

  remember(token: VerifiedToken): void {
    const { text } = token.token;
    if (text.length > this.provider.maxCachedTokenBytes) return;
    this.#known.set(text, token);
    if (this.#known.size <= this.provider.cacheSize) return;
    for (const oldest of this.#known.keys()) {
      this.#known.delete(oldest);
      break;
    }
  }
}

export interface Accepted {
  readonly tokens: ProviderTokens;
  readonly token: VerifiedToken;
}

export interface Decision {
  readonly status: JwtStatus;
  /** Whose headers and metadata the request gets. */
  readonly accepted: readonly Accepted[];
}

export type Waiting = readonly Promise<void>[];

/** Tokens of one request are looked at up to this many; a request with more is refused as badly formed. */
const MAX_TOKENS = 16;

export class JwtVerifier {
  readonly #providers: ReadonlyMap<JwtProvider, ProviderTokens>;
  readonly #nowSeconds: () => number;

  constructor(providers: ReadonlyMap<JwtProvider, ProviderTokens>, nowSeconds: () => number) {
    this.#providers = providers;
    this.#nowSeconds = nowSeconds;
  }

  /** A list: wait for all of it, then ask again with the same lessons. */
  decide(requirement: JwtRequirement, headers: RequestHeaders, lessons: Lessons): Decision | Waiting {
    const attempt = new Attempt(this.#providers, headers, lessons, this.#nowSeconds());
    const status = attempt.evaluate(requirement);
    return attempt.waiting.length > 0 ? attempt.waiting : { status, accepted: attempt.accepted };
  }
}

class Attempt {
  readonly waiting: Promise<void>[] = [];
  accepted: Accepted[] = [];
  readonly #providers: ReadonlyMap<JwtProvider, ProviderTokens>;
  readonly #headers: RequestHeaders;
  readonly #lessons: Lessons;
  readonly #now: number;

  constructor(
    providers: ReadonlyMap<JwtProvider, ProviderTokens>,
    headers: RequestHeaders,
    lessons: Lessons,
    nowSeconds: number,
  ) {
    this.#providers = providers;
    this.#headers = headers;
    this.#lessons = lessons;
    this.#now = nowSeconds;
  }

  evaluate(requirement: JwtRequirement): JwtStatus {
    switch (requirement.kind) {
      case 'provider':
        return this.#ofProvider(requirement.provider, requirement.audiences);
      case 'any':
        return this.#any(requirement.of);
      case 'all': {
        for (const item of requirement.of) {
          const status = this.evaluate(item);
          if (status !== JWT_STATUS.ok) return status;
        }
        return JWT_STATUS.ok;
      }
      case 'allow_missing': {
        const status = this.#ofAnybody();
        return status === JWT_STATUS.missing ? JWT_STATUS.ok : status;
      }
      case 'allow_missing_or_failed':
        this.#ofAnybody();
        return JWT_STATUS.ok;
      default:
        return requirement satisfies never;
    }
  }

  /** The error that says most: not that a token is missing or somebody else's, if another is known. */
  #any(items: readonly JwtRequirement[]): JwtStatus {
    let said: JwtStatus = JWT_STATUS.missing;
    for (const item of items) {
      const before = this.accepted.length;
      const status = this.evaluate(item);
      if (status === JWT_STATUS.ok) return status;
      this.accepted.length = before;
      const vague = status === JWT_STATUS.missing || status === JWT_STATUS.unknownIssuer;
      if (
        !vague ||
        said === JWT_STATUS.missing ||
        (said === JWT_STATUS.unknownIssuer && status !== JWT_STATUS.missing)
      ) {
        said = status;
      }
    }
    return said;
  }

  /** All of its tokens must be good: a bad one behind a good one could be the one that is used later. */
  #ofProvider(provider: JwtProvider, audiences: readonly string[]): JwtStatus {
    const texts: string[] = [];
    for (const location of provider.locations) tokensAt(location, this.#headers, texts);
    if (texts.length === 0) return JWT_STATUS.missing;
    if (texts.length > MAX_TOKENS) return JWT_STATUS.badFormat;
    const tokens = this.#providers.get(provider) as ProviderTokens;
    for (const text of texts) {
      const status = this.#statusOf(tokens, text, audiences);
      if (status !== JWT_STATUS.ok) return status;
    }
    return JWT_STATUS.ok;
  }

  /** Every token in a place that any provider looks at, each by the provider of its issuer. */
  #ofAnybody(): JwtStatus {
    let some = false;
    const seen = new Set<TokenLocation>();
    for (const { locations } of this.#providers.keys()) {
      for (const location of locations) {
        if (seen.has(location)) continue;
        seen.add(location);
        const texts: string[] = [];
        tokensAt(location, this.#headers, texts);
        if (texts.length > MAX_TOKENS) return JWT_STATUS.badFormat;
        for (const text of texts) {
          some = true;
          const status = this.#ofIssuer(text, location);
          if (status !== JWT_STATUS.ok) return status;
        }
      }
    }
    return some ? JWT_STATUS.ok : JWT_STATUS.missing;
  }

  #ofIssuer(text: string, location: TokenLocation): JwtStatus {
    let said: JwtStatus = JWT_STATUS.unknownIssuer;
    for (const [provider, tokens] of this.#providers) {
      if (!provider.locations.some((one) => isSame(one, location))) continue;
      const status = this.#statusOf(tokens, text, provider.audiences);
      if (status === JWT_STATUS.ok) return status;
      if (status !== JWT_STATUS.unknownIssuer) said = status;
    }
    return said;
  }

  #statusOf(tokens: ProviderTokens, text: string, audiences: readonly string[]): JwtStatus {
    const known = tokens.get(text) ?? this.#lessons.verified?.get(tokens)?.get(text);
    if (known !== undefined) {
      const status = checkClaims(tokens.provider, known.token, audiences, this.#now);
      if (status === JWT_STATUS.ok) this.accepted.push({ tokens, token: known });
      return status;
    }
    const learnt = this.#lessons.statuses?.get(tokens)?.get(text);
    if (learnt !== undefined) return learnt;
    const token = parseToken(text);
    const status = checkClaims(tokens.provider, token, audiences, this.#now);
    if (status !== JWT_STATUS.ok) return status;
    this.waiting.push(this.#learn(tokens, token));
    // Whatever it will be, the request is asked again.
    return JWT_STATUS.verificationFails;
  }

  async #learn(tokens: ProviderTokens, token: ParsedToken): Promise<void> {
    const keys = await tokens.source.keys();
    const status = keys === undefined ? JWT_STATUS.fetchFailed : await keys.verify(token);
    const lessons = this.#lessons;
    lessons.statuses ??= new Map();
    put(lessons.statuses, tokens, token.text, status);
    if (status !== JWT_STATUS.ok) return;
    const verified = new VerifiedToken(tokens.provider, token);
    lessons.verified ??= new Map();
    put(lessons.verified, tokens, token.text, verified);
    tokens.remember(verified);
  }
}

function put<T>(map: ByToken<T>, tokens: ProviderTokens, text: string, value: T): void {
  let inner = map.get(tokens);
  if (inner === undefined) {
    inner = new Map();
    map.set(tokens, inner);
  }
  inner.set(text, value);
}

function isSame(a: TokenLocation, b: TokenLocation): boolean {
  if (a.kind !== b.kind || a.name !== b.name) return false;
  return a.kind !== 'header' || b.kind !== 'header' || a.prefix === b.prefix;
}
