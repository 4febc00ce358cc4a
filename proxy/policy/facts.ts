/** What authorization rules may ask of a request or a connection. */
import type { RequestHeaders } from '../http/headers.ts';
import type { Metadata, StreamInfo } from '../http/stream_info.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import { withoutPort } from '../router/virtual_hosts.ts';

/** The part of a stream, or of a connection, that policy looks at. A FilterContext is one. */
export interface PolicySubject {
  readonly connection: ConnectionInfo;
  /** undefined on TCP: rules about HTTP never match there. */
  readonly requestHeaders: RequestHeaders | undefined;
  readonly info: StreamInfo;
  route?(): { readonly metadata: Metadata | undefined } | undefined;
}

/** One subject with what is derived of it, each once. Reused: valid during one evaluation. */
export class PolicyFacts {
  subject!: PolicySubject; // Set by `begin`, before any matcher runs.
  /** Path without query; undefined where there is none (CONNECT, TCP). */
  path: string | undefined = undefined;
  #host: string | undefined = undefined;
  #hostKnown = false;

  begin(subject: PolicySubject): void {
    this.subject = subject;
    this.#hostKnown = false;
    const path = subject.requestHeaders?.path;
    this.path = path === undefined || path === '' ? undefined : withoutQuery(path);
  }

  /** Host in its one normal form: lower case, without port and closing dot. undefined on TCP. */
  get host(): string | undefined {
    if (!this.#hostKnown) {
      this.#hostKnown = true;
      const headers = this.subject.requestHeaders;
      this.#host = headers === undefined ? undefined : normalHost(headers.authority);
    }
    return this.#host;
  }

  /** Of the connection itself, whatever a PROXY header says. */
  get peerIp(): string {
    const { connection } = this.subject;
    return (connection.directRemoteAddress ?? connection.remoteAddress).ip;
  }

  /** Names of the verified peer: URI SANs, else DNS SANs, else the subject; empty without a verified certificate. */
  get principals(): readonly string[] {
    const tls = this.subject.connection.tls;
    if (tls === undefined || !tls.mutual) return NONE;
    if (tls.peerUriSans.length > 0) return tls.peerUriSans;
    if (tls.peerDnsSans.length > 0) return tls.peerDnsSans;
    return tls.peerSubject === '' ? NONE : [tls.peerSubject];
  }
}

const NONE: readonly string[] = [];

/** The query and a fragment are no part of the path that rules speak of (attacks.md row 38). */
export function withoutQuery(path: string): string {
  for (let i = 0; i < path.length; i++) {
    const code = path.charCodeAt(i);
    if (code === 63 || code === 35) return path.slice(0, i);
  }
  return path;
}

/** `Secret.COM.:80` → `secret.com` (attacks.md row 39). */
export function normalHost(authority: string): string {
  const host = withoutPort(authority).toLowerCase();
  return host.endsWith('.') ? host.slice(0, -1) : host;
}
