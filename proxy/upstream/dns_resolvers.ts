/** The resolvers that clusters name, each made once. */
import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { type DnsAnswer, type DnsResolver, SystemResolver } from './dns.ts';
import { type DnsOptions, type DnsResolverOptions, SYSTEM_RESOLVER } from './dns_options.ts';

export class DnsResolvers {
  readonly #made = new Map<string, DnsResolver>();

  of(options: DnsResolverOptions): DnsResolver {
    const key = JSON.stringify(options);
    let resolver = this.#made.get(key);
    if (resolver === undefined) {
      resolver =
        options.kind === 'cares' ? caresResolver(options) : new GetAddrInfoResolver(options.retries ?? Infinity);
      this.#made.set(key, resolver);
    }
    return resolver;
  }
}

function caresResolver(options: DnsResolverOptions & { readonly kind: 'cares' }): DnsResolver {
  if (JSON.stringify(options) === JSON.stringify(SYSTEM_RESOLVER)) return new SystemResolver();
  const { servers, onlyWithoutOthers, searches, timeoutMs, tries } = options;
  return new SystemResolver({
    ...(servers.length > 0 && { servers, onlyWithoutOthers }),
    searches,
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(tries !== undefined && { tries }),
  });
}

/** The C library tells no TTL; Envoy takes a minute for it. */
const GETADDRINFO_TTL_MS = 60_000;
/** Between two tries at what is said to be temporary: the library waits by itself, but not where nobody listens. */
const AGAIN_MS = 100;

/** envoy.extensions.network.dns_resolver.getaddrinfo.v3: the system's own look-up, on libuv's threads. */
class GetAddrInfoResolver implements DnsResolver {
  readonly #retries: number;

  constructor(retries: number) {
    this.#retries = retries;
  }

  async resolve(name: string, family: DnsOptions['family']): Promise<DnsAnswer> {
    if (isIP(name) !== 0) return { addresses: [name], ttlMs: undefined };
    for (let tried = 0; ; tried++) {
      try {
        const found = await lookup(name, { all: true, order: 'verbatim', family: FAMILY[family] ?? 0 });
        return { addresses: chosen(found, family), ttlMs: GETADDRINFO_TTL_MS };
      } catch (error) {
        const { code } = error as NodeJS.ErrnoException;
        if (code !== 'EAI_AGAIN' || tried >= this.#retries) {
          throw new Error(`Cannot resolve "${name}": ${code ?? 'ENOTFOUND'}`, { cause: error });
        }
        await new Promise((resolve) => setTimeout(resolve, AGAIN_MS).unref());
      }
    }
  }
}

const FAMILY: Readonly<Partial<Record<DnsOptions['family'], 4 | 6>>> = { v4_only: 4, v6_only: 6 };

/** Both families are asked for at once: the wanted one, where there is any. */
function chosen(
  found: readonly { readonly address: string; readonly family: number }[],
  family: DnsOptions['family'],
): string[] {
  const first = family === 'v4_preferred' ? 4 : family === 'auto' ? 6 : undefined;
  const wanted = found.filter((entry) => entry.family === first);
  return (wanted.length > 0 ? wanted : found).map(({ address }) => address);
}
