/**
 * Judges the peers of one version of the material: within the handshake where OpenSSL can be asked, so that a refused one
 * gets its alert, and again after it, which costs nothing for whom is known and refuses where nobody was asked.
 */
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { Certificate } from './certificate.ts';
import { chainFault, type ChainFault, faultOfCode } from './chain_faults.ts';
import { type ChainOptions, type OpenSsl, openssl, type PeerShown } from './openssl.ts';
import { noCertificate, type VerificationFailure, verifyPeer } from './peer_verification.ts';
import { trustDomainOf } from './spiffe.ts';
import type { PeerRules } from './tls_material.ts';

/** Peers remembered for each version of the material; only those that were accepted are. */
const MAX_KNOWN_PEERS = 512;
/** OpenSSL verifies no longer chains. */
const MAX_CHAIN = 100;
/** X509_V_ERR_INVALID_NON_CA: the alert is certificate_unknown, as for Envoy's own checks. */
const NOT_WANTED = 37;
/** X509_V_ERR_CERT_REJECTED: bad_certificate. */
const REJECTED = 28;

interface KnownPeer {
  readonly certificate: Certificate;
  readonly above: readonly Certificate[];
  /** Until when its chain was found good, epoch milliseconds; 0: it was not looked at here. */
  readonly chainGoodUntilMs: number;
}

/** The one who was refused in the handshake whose error comes next on this thread. */
let refused: VerificationFailure | undefined;

/** Why the handshake has failed that OpenSSL has just given up with CERTIFICATE_VERIFY_FAILED. */
export function takeRefusal(): VerificationFailure | undefined {
  const taken = refused;
  refused = undefined;
  return taken;
}

export class PeerJudge {
  readonly #rules: PeerRules | undefined;
  readonly #native: OpenSsl | null;
  /** By their bytes. */
  readonly #known = new Map<string, KnownPeer>();
  /** The same by their certificate, so that the bytes are compared once a handshake. */
  readonly #accepted = new WeakMap<Certificate, KnownPeer>();
  /** Contexts that hold the roots of a trust domain each. */
  readonly #domains = new Map<string, SecureContext>();

  /** `rules` undefined: any certificate will do. `native` null: it cannot be asked here. */
  constructor(rules: PeerRules | undefined, native: OpenSsl | null = openssl() ?? null) {
    this.#rules = rules;
    this.#native = native;
    for (const [name, { roots, crls }] of rules?.trustDomains ?? []) {
      const more = crls.length > 0 && { crl: [...crls] };
      this.#domains.set(name, createSecureContext({ ca: [...roots], ...more }));
    }
  }

  /** Whether a certificate that was accepted says who the peer is. */
  get verifies(): boolean {
    return this.#rules !== undefined;
  }

  /** From now on `context` refuses within the handshake. @returns whether that is possible here */
  attach(context: SecureContext): boolean {
    this.#native?.judgeBy(context, (peer) => this.#shown(peer));
    return this.#native !== null;
  }

  /**
   * Of a handshake that is through: `peerOf`'s certificate, and what Node says of the chain (undefined: nothing).
   * @returns undefined: the peer is accepted
   */
  judge(certificate: Certificate | undefined, error: unknown): VerificationFailure | undefined {
    if (certificate === undefined) return noCertificate(this.#rules?.names ?? []);
    if (this.#rules === undefined) return undefined;
    const fault = error === undefined ? undefined : faultOfCode(error);
    if (fault !== undefined) return verifyPeer(certificate, fault, this.#rules);
    if (this.#accepted.has(certificate)) return undefined;
    const failure = verifyPeer(certificate, undefined, this.#rules);
    if (failure === undefined) this.#remember({ certificate, above: [], chainGoodUntilMs: 0 });
    return failure;
  }

  /** A session was judged when it was made; time has gone by since. */
  isOver({ validToMs }: Certificate): boolean {
    return this.#rules?.allowExpired !== true && validToMs <= Date.now();
  }

  /** The certificate with these bytes (borrowed): one object as long as it is known. */
  peerOf(der: Buffer | undefined): Certificate | undefined {
    return der === undefined
      ? undefined
      : (this.#known.get(keyOf(der))?.certificate ?? new Certificate(Buffer.from(der)));
  }

  /** What came with the peer's own certificate, in order, when it was first seen. */
  chainAbove(peer: Certificate, socket: TLSSocket): readonly Certificate[] {
    const known = this.#accepted.get(peer);
    return this.#native !== null && known !== undefined ? known.above : certificatesAbove(socket);
  }

  #shown({ leaf, above, verifyChain }: PeerShown): number {
    refused = undefined;
    const rules = this.#rules;
    if (rules === undefined) return 0;
    const known = this.#known.get(keyOf(leaf));
    if (known !== undefined && known.chainGoodUntilMs > Date.now()) return 0;
    const certificate = known?.certificate ?? new Certificate(Buffer.from(leaf));
    let error = 0;
    let fault: ChainFault | undefined;
    // Whose chain nobody asks for may be remembered as long as the material is.
    let goodUntilMs = rules.chain ? 0 : Number.POSITIVE_INFINITY;
    const options = rules.chain ? this.#chainOptions(certificate, rules) : undefined;
    if (options !== undefined) {
      const verdict = verifyChain(options);
      error = verdict.error;
      if (error !== 0) fault = chainFault(error, verdict.depth);
      // A CRL ends too.
      else if (!rules.revocable) goodUntilMs = Math.min(...verdict.chain.map(({ validToMs }) => validToMs));
    }
    const failure = verifyPeer(certificate, fault, rules);
    if (failure === undefined) {
      this.#remember({ certificate, above: above(), chainGoodUntilMs: goodUntilMs });
      return 0;
    }
    refused = failure;
    if (failure.kind === 'error' && error !== 0) return error;
    return failure.kind === 'cert_hash' ? REJECTED : NOT_WANTED;
  }

  /** undefined: there is nothing to verify it against, which `verifyPeer` refuses. */
  #chainOptions(certificate: Certificate, rules: PeerRules): ChainOptions | undefined {
    const { allowExpired, leafCrlOnly, maxDepth, trustDomains } = rules;
    if (trustDomains === undefined) return { allowExpired, leafCrlOnly, maxDepth, store: undefined };
    const context = this.#domains.get(trustDomainOf(certificate.uris[0] ?? ''));
    const store = context === undefined ? undefined : this.#native?.storeOf(context);
    return store === undefined ? undefined : { allowExpired, leafCrlOnly, maxDepth, store };
  }

  #remember(peer: KnownPeer): void {
    if (this.#known.size >= MAX_KNOWN_PEERS) {
      for (const oldest of this.#known.keys()) {
        this.#known.delete(oldest);
        break;
      }
    }
    this.#known.set(keyOf(peer.certificate.der), peer);
    this.#accepted.set(peer.certificate, peer);
  }
}

/** By Node's view of the chain, of which a resumed connection has the first only. */
function certificatesAbove(socket: TLSSocket): Certificate[] {
  const above: Certificate[] = [];
  let next = socket.getPeerX509Certificate()?.issuerCertificate;
  for (; next !== undefined && above.length < MAX_CHAIN; next = next.issuerCertificate) {
    above.push(new Certificate(next.raw));
  }
  return above;
}

/** All of its bytes: two certificates with one key are one certificate. */
function keyOf(der: Buffer): string {
  return der.latin1Slice(0, der.length);
}
