/** What a TLS connection is known by; certificates are read when somebody asks. */
import type { TLSSocket } from 'node:tls';
import type { TlsInfo } from '../connection_info.ts';
import type { Certificate } from './certificate.ts';

const NONE: readonly string[] = [];

export class TlsConnectionInfo implements TlsInfo {
  readonly version: string;
  readonly cipher: string;
  readonly mutual: boolean;
  readonly resumed: boolean;
  readonly #socket: TLSSocket;
  readonly #peer: Certificate | undefined;
  readonly #own: Certificate | undefined;

  /** @param verified whether the peer's certificate was judged, and found good. */
  constructor(socket: TLSSocket, peer: Certificate | undefined, own: Certificate | undefined, verified: boolean) {
    this.#socket = socket;
    this.#peer = peer;
    this.#own = own;
    this.version = socket.getProtocol() ?? '';
    this.cipher = socket.getCipher()?.name ?? '';
    this.mutual = verified && peer !== undefined;
    this.resumed = socket.isSessionReused();
  }

  get peerPresented(): boolean {
    return this.#peer !== undefined;
  }

  get peerUriSans(): readonly string[] {
    return this.#peer?.uris ?? NONE;
  }

  get peerDnsSans(): readonly string[] {
    return this.#peer?.dnsNames ?? NONE;
  }

  get peerSubject(): string {
    return this.#peer?.subject ?? '';
  }

  get peerIssuer(): string {
    return this.#peer?.issuer ?? '';
  }

  get peerSerial(): string {
    return this.#peer?.serial ?? '';
  }

  get peerFingerprint(): string {
    return this.#peer?.fingerprint ?? '';
  }

  get peerFingerprintSha1(): string {
    return this.#peer?.fingerprintSha1 ?? '';
  }

  get peerValidFromMs(): number {
    return this.#peer?.validFromMs ?? 0;
  }

  get peerValidToMs(): number {
    return this.#peer?.validToMs ?? 0;
  }

  get peerCertificatePem(): string {
    return this.#peer?.pem ?? '';
  }

  get localUriSans(): readonly string[] {
    return this.#own?.uris ?? NONE;
  }

  get localDnsSans(): readonly string[] {
    return this.#own?.dnsNames ?? NONE;
  }

  get localSubject(): string {
    return this.#own?.subject ?? '';
  }

  get sessionId(): string {
    // The identifier stands behind version and cipher in OpenSSL's form of a session (SSL_SESSION, d2i order).
    return sessionIdOf(this.#socket.getSession());
  }
}

/** SEQUENCE { version, ssl version, cipher, session id, … } as OpenSSL writes it. */
function sessionIdOf(session: Buffer | undefined): string {
  if (session === undefined) return '';
  let at = session[1] === undefined || session[1] < 0x80 ? 2 : 2 + (session[1] & 0x7f);
  for (let field = 0; field < 3; field++) at += 2 + (session[at + 1] ?? 0);
  const length = session[at + 1] ?? 0;
  return session[at] === 0x04 && length <= 32 ? session.toString('hex', at + 2, at + 2 + length) : '';
}
