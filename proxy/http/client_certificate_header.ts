/** x-forwarded-client-cert: who the client proved to be. Source: Envoy docs "x-forwarded-client-cert"; istio.md §2.8. */
import type { ConnectionInfo, TlsInfo } from '../net/connection_info.ts';
import type { RequestHeaders } from './headers.ts';

export const XFCC = 'x-forwarded-client-cert';

/** HttpConnectionManager.SetCurrentClientCertDetails. */
export interface ClientCertDetails {
  readonly subject: boolean;
  readonly certificate: boolean;
  readonly dns: boolean;
  readonly uri: boolean;
}

export interface ClientCertConfig {
  readonly forwardClientCert: 'sanitize' | 'forward_only' | 'append_forward' | 'sanitize_set' | 'always_forward_only';
  readonly clientCertDetails: ClientCertDetails;
}

/** Whether what the client sent may stay: only over mutual TLS, where somebody answers for it. */
export function keepsClientCert({ forwardClientCert }: ClientCertConfig, { tls }: ConnectionInfo): boolean {
  switch (forwardClientCert) {
    case 'always_forward_only':
      return true;
    case 'forward_only':
    case 'append_forward':
      return tls?.mutual === true;
    default:
      return false;
  }
}

/** One value a connection: certificates do not change on it. */
const values = new WeakMap<TlsInfo, string>();

/** Adds the client's own certificate. What must not stay of the old value is gone before. */
export function addClientCert(headers: RequestHeaders, config: ClientCertConfig, { tls }: ConnectionInfo): void {
  const { forwardClientCert } = config;
  if (tls?.mutual !== true || (forwardClientCert !== 'append_forward' && forwardClientCert !== 'sanitize_set')) return;
  let value = values.get(tls);
  if (value === undefined) {
    value = elementOf(tls, config.clientCertDetails);
    values.set(tls, value);
  }
  const before = forwardClientCert === 'append_forward' ? headers.joined(XFCC) : undefined;
  headers.set(XFCC, before === undefined || before === '' ? value : `${before},${value}`);
}

function elementOf(tls: TlsInfo, details: ClientCertDetails): string {
  const parts: string[] = [];
  const [own] = tls.localUriSans;
  if (own !== undefined) parts.push(`By=${escaped(own)}`);
  if (tls.peerFingerprint !== '') parts.push(`Hash=${tls.peerFingerprint}`);
  if (details.certificate) parts.push(`Cert="${encodeURIComponent(tls.peerCertificatePem)}"`);
  if (details.subject) parts.push(`Subject=${quoted(tls.peerSubject)}`);
  if (details.uri) parts.push(...tls.peerUriSans.slice(0, 1).map((uri) => `URI=${escaped(uri)}`));
  if (details.dns) parts.push(...tls.peerDnsSans.map((name) => `DNS=${escaped(name)}`));
  return parts.join(';');
}

/** A name may hold whatever its CA signed: separators are quoted, so that nobody writes an element of somebody else's. */
function escaped(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const char = text[i] as string;
    if (char === ',' || char === ';' || char === '=' || char === '"') return quoted(text);
  }
  return plain(text);
}

function quoted(text: string): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const char = text[i] as string;
    // RFC 2253 has escaped it already.
    if (char === '\\' && i + 1 < text.length) out += char + (text[++i] as string);
    else out += char === '"' ? '\\"' : char;
  }
  return `"${plain(out)}"`;
}

/** No control bytes in a header; bytes beyond ASCII as percent escapes. */
function plain(text: string): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    out += code < 0x20 || code >= 0x7f ? encodeURIComponent(text[i] as string) : text[i];
  }
  return out;
}
