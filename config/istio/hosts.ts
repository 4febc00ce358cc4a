/** Host names of the mesh: short names, and look-up by the most specific name. */

import { isIP } from 'node:net';
import { type At, fail } from './shape.ts';

/**
 * A name in an object of `namespace`: without a dot it is a service of the OBJECT's namespace
 * (istio/istio: pkg/config/resolve); with one it stands as it is.
 */
export function resolveHost(host: string, namespace: string, domain: string): string {
  return host.includes('.') || host === '*' ? host : `${host}.${namespace}.svc.${domain}`;
}

/** @throws {ConfigError} unless it is a host name or address without a port, or a name with a leading `*`. */
export function checkHost(host: string, at: At): void {
  if (!/^(\*|\*?[A-Za-z0-9._-]+)$/.test(host) && isIP(host) === 0) {
    fail(at, `a host name, or one with a leading "*", is wanted, got "${host}"`);
  }
}

/** Values by exact host or by wildcard (`*.example.org`, `*`); the first value of a host stays. */
export class HostIndex<T> {
  readonly #exact = new Map<string, T>();
  readonly #wild = new Map<string, T>();

  get(host: string): T | undefined {
    return (host.startsWith('*') ? this.#wild : this.#exact).get(host);
  }

  set(host: string, value: T): void {
    (host.startsWith('*') ? this.#wild : this.#exact).set(host, value);
  }

  /** Exact before wildcard, longer wildcard before shorter. A wildcard host is found by itself or a wider one. */
  mostSpecific(host: string): T | undefined {
    return this.#exact.get(host) ?? this.wildcard(host);
  }

  /** The most specific wildcard only. */
  wildcard(host: string): T | undefined {
    if (this.#wild.size === 0) return undefined;
    const bare = host.startsWith('*') ? host.slice(1) : host;
    // A name longer than its wildcard, or the same wildcard: `*.a.b` is no match for `.a.b` alone.
    for (let start = host.startsWith('*') ? 0 : 1; start <= bare.length; start++) {
      const found = this.#wild.get(`*${bare.slice(start)}`);
      if (found !== undefined) return found;
    }
    return undefined;
  }

  values(): T[] {
    return [...this.#exact.values(), ...this.#wild.values()];
  }
}
