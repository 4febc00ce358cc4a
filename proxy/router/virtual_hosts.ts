/** Finds the virtual host of a request: exact, then the longest suffix wildcard, then the longest prefix wildcard, then `*`. */
import type { RequestHeaders } from '../http/headers.ts';

export class VirtualHosts<T> {
  readonly #exact = new Map<string, T>();
  /** `*.example.com` by what follows the star, and the distinct lengths of that, longest first. */
  readonly #suffixes = new Map<string, T>();
  readonly #prefixes = new Map<string, T>();
  #suffixLengths: number[] = [];
  #prefixLengths: number[] = [];
  #any: T | undefined = undefined;
  #lengthsKnown = true;
  readonly #ignorePort: boolean;
  /** What was asked last: mostly the same, and comparing costs less than a look into a map. */
  #lastAuthority: string | undefined = undefined;
  #lastFound: T | undefined = undefined;

  constructor(ignorePort: boolean) {
    this.#ignorePort = ignorePort;
  }

  /** @returns false when the domain is taken. */
  add(domain: string, value: T): boolean {
    this.#lastAuthority = undefined;
    const lower = domain.toLowerCase();
    if (lower === '*') {
      if (this.#any !== undefined) return false;
      this.#any = value;
      return true;
    }
    const [map, key] = lower.startsWith('*')
      ? [this.#suffixes, lower.slice(1)]
      : lower.endsWith('*')
        ? [this.#prefixes, lower.slice(0, -1)]
        : [this.#exact, lower];
    if (map.has(key)) return false;
    map.set(key, value);
    this.#lengthsKnown = false;
    return true;
  }

  find({ authority }: RequestHeaders): T | undefined {
    if (authority === this.#lastAuthority) return this.#lastFound;
    this.#lastFound = this.#search(authority);
    this.#lastAuthority = authority;
    return this.#lastFound;
  }

  #search(authority: string): T | undefined {
    let host = lowerCase(authority);
    if (this.#ignorePort) host = withoutPort(host);
    const exact = this.#exact.get(host);
    if (exact !== undefined) return exact;
    if (!this.#lengthsKnown) this.#measure();
    for (const length of this.#suffixLengths) {
      // The star stands for at least one character.
      if (length >= host.length) continue;
      const found = this.#suffixes.get(host.slice(host.length - length));
      if (found !== undefined) return found;
    }
    for (const length of this.#prefixLengths) {
      if (length >= host.length) continue;
      const found = this.#prefixes.get(host.slice(0, length));
      if (found !== undefined) return found;
    }
    return this.#any;
  }

  #measure(): void {
    this.#suffixLengths = distinctLengths(this.#suffixes.keys());
    this.#prefixLengths = distinctLengths(this.#prefixes.keys());
    this.#lengthsKnown = true;
  }
}

function distinctLengths(keys: Iterable<string>): number[] {
  return [...new Set([...keys].map((key) => key.length))].sort((a, b) => b - a);
}

/** Hosts compare without case (RFC 9110 §4.2.3); most come in lower case and cost only the look. */
function lowerCase(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code >= 65 && code <= 90) return text.toLowerCase();
  }
  return text;
}

/** `host:port` → `host`; brackets of IPv6 stay. */
export function withoutPort(host: string): string {
  const colon = host.lastIndexOf(':');
  return colon > 0 && colon > host.lastIndexOf(']') ? host.slice(0, colon) : host;
}
