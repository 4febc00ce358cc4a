/** What a TLS connection is known by; certificates are read when somebody asks. */
import type { TLSSocket } from 'node:tls';
import type { TlsInfo } from '../connection_info.ts';
import type { Certificate, SubjectAltName } from './certificate.ts';
import type { SessionFacts } from './tls_session.ts';

const NONE: readonly string[] = [];
const NO_CHAIN: readonly Certificate[] = [];
const NO_NAMES: readonly SubjectAltName[] = [];

export class TlsConnectionInfo implements TlsInfo {
  readonly version: string;
  readonly cipher: string;
  readonly mutual: boolean;
  readonly resumed: boolean;
  readonly group: string;
  readonly sessionId: string;
  readonly #above: readonly Certificate[];
  readonly #peer: Certificate | undefined;
  readonly #own: Certificate | undefined;

  /**
   * @param above the certificates that the peer sent with its own.
   * @param verified whether the peer's certificate was judged, and found good.
   */
  constructor(
    socket: TLSSocket,
    { group, id }: SessionFacts,
    peer: Certificate | undefined,
    above: readonly Certificate[],
    own: Certificate | undefined,
    verified: boolean,
  ) {
    this.#peer = peer;
    this.#own = own;
    this.version = socket.getProtocol() ?? '';
    this.cipher = socket.getCipher()?.name ?? '';
    this.mutual = verified && peer !== undefined;
    this.resumed = socket.isSessionReused();
    this.group = group;
    this.sessionId = id;
    this.#above = above;
  }

  get peerChain(): readonly Certificate[] {
    return this.#peer === undefined ? NO_CHAIN : [this.#peer, ...this.#above];
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

  get peerIpSans(): readonly string[] {
    return this.#peer?.namesOf('ip') ?? NONE;
  }

  get peerEmailSans(): readonly string[] {
    return this.#peer?.namesOf('email') ?? NONE;
  }

  get peerOtherSans(): readonly string[] {
    return this.#peer?.namesOf('other') ?? NONE;
  }

  get peerNames(): readonly SubjectAltName[] {
    return this.#peer?.names ?? NO_NAMES;
  }

  get localIpSans(): readonly string[] {
    return this.#own?.namesOf('ip') ?? NONE;
  }

  get localEmailSans(): readonly string[] {
    return this.#own?.namesOf('email') ?? NONE;
  }

  get localOtherSans(): readonly string[] {
    return this.#own?.namesOf('other') ?? NONE;
  }
}
