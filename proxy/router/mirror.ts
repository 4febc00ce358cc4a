/**
 * Copies of requests to other clusters: sent when the request is complete, and forgotten. They never slow, change or
 * fail the request they are copies of. Envoy: envoy.config.route.v3.RouteAction.RequestMirrorPolicy.
 */
import { draws, type Fraction } from '../fractional_percent.ts';
import { callCluster } from '../http/internal_call.ts';
import { RequestHeaders } from '../http/headers.ts';
import type { Deadlines } from '../net/deadlines.ts';
import type { ClusterLookup } from '../upstream/cluster_lookup.ts';

export interface MirrorPolicy {
  /** undefined: the request names none. */
  clusterName(headers: RequestHeaders): string | undefined;
  readonly share: Fraction;
  /** Envoy's default is to add `-shadow` to the host; istiod turns that off. */
  readonly addsShadowSuffix: boolean;
}

/** Of a copy whose route has no timeout: nobody waits for it, and it must not stay for ever. */
const LONGEST_MS = 15_000;
const NEVER_ABORTED = new AbortController().signal;
const ignore = (): void => {};

/** The copies of one request. */
export class Mirror {
  readonly #names: readonly string[];
  readonly #copies: readonly RequestHeaders[];
  readonly #timeoutMs: number;
  readonly #limitBytes: number;
  #chunks: Buffer[] = [];
  #bytes = 0;
  #abandoned = false;

  /** @returns undefined when the dice chose none. `limitBytes`: bodies beyond are not copied. */
  static of(
    policies: readonly MirrorPolicy[],
    headers: RequestHeaders,
    random: () => number,
    timeoutMs: number,
    limitBytes: number,
  ): Mirror | undefined {
    const names: string[] = [];
    const copies: RequestHeaders[] = [];
    for (const policy of policies) {
      const name = policy.clusterName(headers);
      if (name === undefined || !draws(policy.share, random)) continue;
      names.push(name);
      copies.push(copyOf(headers, policy.addsShadowSuffix));
    }
    return names.length === 0 ? undefined : new Mirror(names, copies, timeoutMs, limitBytes);
  }

  private constructor(
    names: readonly string[],
    copies: readonly RequestHeaders[],
    timeoutMs: number,
    limitBytes: number,
  ) {
    this.#names = names;
    this.#copies = copies;
    this.#timeoutMs = timeoutMs > 0 ? timeoutMs : LONGEST_MS;
    this.#limitBytes = limitBytes;
  }

  /** `bytes` are borrowed. @returns false when this makes the body too large to be copied. */
  data(bytes: Buffer): boolean {
    if (this.#abandoned) return true;
    this.#bytes += bytes.length;
    if (this.#bytes <= this.#limitBytes) {
      this.#chunks.push(Buffer.from(bytes));
      return true;
    }
    this.#abandoned = true;
    this.#chunks = [];
    return false;
  }

  /** The request is complete. */
  send(clusters: ClusterLookup, deadlines: Deadlines): void {
    if (this.#abandoned) return;
    const body = this.#bytes === 0 ? undefined : Buffer.concat(this.#chunks);
    this.#names.forEach((name, index) => {
      const headers = this.#copies[index] as RequestHeaders;
      callCluster(
        clusters,
        deadlines,
        name,
        { headers, timeoutMs: this.#timeoutMs, ignoreBody: true, ...(body !== undefined && { body }) },
        NEVER_ABORTED,
      ).catch(ignore);
    });
  }
}

function copyOf(headers: RequestHeaders, addsShadowSuffix: boolean): RequestHeaders {
  const copy = new RequestHeaders();
  copy.method = headers.method;
  copy.path = headers.path;
  copy.scheme = headers.scheme;
  copy.authority = addsShadowSuffix ? withSuffix(headers.authority) : headers.authority;
  for (let i = 0; i < headers.fields.length; i += 2) {
    copy.append(headers.fields[i] as string, headers.fields[i + 1] as string);
  }
  return copy;
}

/** `host:80` → `host-shadow:80`. */
function withSuffix(authority: string): string {
  const colon = authority.lastIndexOf(':');
  const hasPort = colon > 0 && colon > authority.lastIndexOf(']');
  return hasPort ? `${authority.slice(0, colon)}-shadow${authority.slice(colon)}` : `${authority}-shadow`;
}
