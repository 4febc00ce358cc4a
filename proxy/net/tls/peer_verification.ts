/** Judges a peer's certificate, after OpenSSL has judged its chain. */
import type { Certificate } from './certificate.ts';
import { type ChainFault, faultText } from './chain_faults.ts';
import { trustDomainOf } from './spiffe.ts';
import type { NameMatcher } from './tls_config.ts';
import type { PeerRules } from './tls_material.ts';

export interface VerificationFailure {
  /** Which of Envoy's counters: ssl.fail_verify_… */
  readonly kind: 'error' | 'san' | 'cert_hash' | 'no_cert';
  /** Envoy's words, as %UPSTREAM_TRANSPORT_FAILURE_REASON% shows them. */
  readonly reason: string;
  /** For a person: what was shown and what was wanted. */
  readonly explanation: string;
}

const SPIFFE = 'spiffe://';
/** Names quoted in an explanation. */
const MAX_QUOTED = 4;

/**
 * @param fault undefined where the chain is good
 * @returns undefined: the peer is whom the rules allow
 */
export function verifyPeer(
  certificate: Certificate,
  fault: ChainFault | undefined,
  rules: PeerRules,
): VerificationFailure | undefined {
  const { chain, names, trustDomains } = rules;
  if (trustDomains !== undefined) {
    const failure = verifySvid(certificate, trustDomains);
    if (failure !== undefined) return failure;
  }
  if (chain && fault !== undefined) {
    const text = faultText(fault);
    return notAccepted(
      certificate,
      `X509_verify_cert: certificate verification error at depth ${fault.depth}: ${text}`,
      text,
    );
  }
  return verifyName(certificate, names) ?? verifyHash(certificate, rules);
}

/** SPIFFE X.509-SVID §5: a leaf that signs nothing, of a trust domain whose roots are known. */
function verifySvid(
  certificate: Certificate,
  trustDomains: ReadonlyMap<string, unknown>,
): VerificationFailure | undefined {
  if (certificate.signsCertificates) {
    return notAccepted(
      certificate,
      'cert precheck',
      'it may sign certificates or CRLs, which no SPIFFE certificate may',
    );
  }
  const domain = trustDomainOf(certificate.uris[0] ?? '');
  if (trustDomains.has(domain)) return undefined;
  return notAccepted(certificate, 'no trust bundle store', `there are no roots of trust domain "${printable(domain)}"`);
}

function notAccepted(certificate: Certificate, detail: string, why: string): VerificationFailure {
  return {
    kind: 'error',
    reason: tlsError('CERTIFICATE_VERIFY_FAILED', `verify cert failed: ${detail}`),
    explanation: `its certificate (${describe(certificate)}) is not accepted: ${why}`,
  };
}

/** Of a peer that has to show a certificate, and shows none. */
export function noCertificate(names: readonly NameMatcher[]): VerificationFailure {
  return {
    kind: 'no_cert',
    reason: tlsError('PEER_DID_NOT_RETURN_A_CERTIFICATE', ''),
    explanation: `it showed no certificate; ${wanted(names)}`,
  };
}

/** @returns undefined: one of the names is wanted, or any will do */
export function verifyName(
  certificate: Certificate,
  wantedNames: readonly NameMatcher[],
): VerificationFailure | undefined {
  if (wantedNames.length === 0) return undefined;
  const { names } = certificate;
  const uris = names.filter(({ type }) => type === 'uri');
  // A SPIFFE certificate has one URI, whose it is (SPIFFE X.509-SVID §2); with two it could be anybody's.
  const several = uris.length > 1 && uris.some(({ value }) => value.startsWith(SPIFFE));
  if (!several && wantedNames.some((matcher) => names.some((name) => matcher.matches(name)))) return undefined;
  const shown = names
    .slice(0, MAX_QUOTED)
    .map(({ value }) => printable(value))
    .join(', ');
  return {
    kind: 'san',
    reason: tlsError('CERTIFICATE_VERIFY_FAILED', `verify cert failed: SAN matcher, certificate SANs are [${shown}]`),
    explanation: several
      ? `its certificate has ${uris.length} URI names (${describe(certificate)}); a SPIFFE certificate has one`
      : `its certificate is ${describe(certificate)}; ${wanted(wantedNames)}`,
  };
}

function verifyHash(certificate: Certificate, rules: PeerRules): VerificationFailure | undefined {
  const { certificateHashes, publicKeyHashes } = rules;
  if (certificateHashes.length === 0 && publicKeyHashes.length === 0) return undefined;
  if (certificateHashes.includes(certificate.fingerprint)) return undefined;
  if (publicKeyHashes.length > 0 && publicKeyHashes.includes(certificate.publicKeyHash)) return undefined;
  return {
    kind: 'cert_hash',
    reason: tlsError('CERTIFICATE_VERIFY_FAILED', 'verify cert failed: cert hash and spki'),
    explanation: `its certificate (${describe(certificate)}) has none of the hashes wanted`,
  };
}

function wanted(names: readonly NameMatcher[]): string {
  if (names.length === 0) return 'one from a trusted CA is wanted';
  const some = names.slice(0, MAX_QUOTED).map(({ text }) => text);
  return `wanted is ${some.join(' or ')}${names.length > MAX_QUOTED ? ` or ${names.length - MAX_QUOTED} others` : ''}`;
}

/** Names of a certificate, escaped and cut: a peer chose them. */
export function describe(certificate: Certificate): string {
  const names = certificate.names.slice(0, MAX_QUOTED).map(({ value }) => printable(value));
  return names.length === 0 ? `without names, subject "${printable(certificate.subject)}"` : names.join(', ');
}

function printable(text: string): string {
  const cut = text.length > 200 ? `${text.slice(0, 200)}…` : text;
  return cut.replace(/[\x00-\x1f\x7f-\xff]/g, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

/** BoringSSL's numbers, which Envoy prints and people search for. */
const errorNumbers: Readonly<Record<string, number>> = {
  CERTIFICATE_VERIFY_FAILED: 268435581,
  WRONG_VERSION_NUMBER: 268435703,
  PEER_DID_NOT_RETURN_A_CERTIFICATE: 268435648,
  HANDSHAKE_FAILURE_ON_CLIENT_HELLO: 268435610,
  SSLV3_ALERT_HANDSHAKE_FAILURE: 268436496,
  SSLV3_ALERT_BAD_CERTIFICATE: 268436498,
  SSLV3_ALERT_CERTIFICATE_REVOKED: 268436500,
  SSLV3_ALERT_CERTIFICATE_EXPIRED: 268436501,
  SSLV3_ALERT_CERTIFICATE_UNKNOWN: 268436502,
  TLSV1_ALERT_UNKNOWN_CA: 268436504,
  TLSV1_ALERT_PROTOCOL_VERSION: 268436526,
  TLSV1_ALERT_NO_APPLICATION_PROTOCOL: 268436576,
  TLSV1_ALERT_CERTIFICATE_REQUIRED: 268436572,
  TLSV1_CERTIFICATE_REQUIRED: 268436572,
  UNSUPPORTED_PROTOCOL: 268435696,
  NO_SHARED_CIPHER: 268435640,
};

/** `TLS_error:|NUMBER:SSL routines:OPENSSL_internal:NAME:detail:TLS_error_end`, Envoy's form. */
export function tlsError(name: string, detail: string): string {
  const number = errorNumbers[name] ?? 0;
  return `TLS_error:|${number}:SSL routines:OPENSSL_internal:${name}${detail === '' ? '' : `:${detail}`}:TLS_error_end`;
}

/** Node's error of a handshake, in Envoy's form. */
export function handshakeError(error: NodeJS.ErrnoException & { readonly reason?: string }): string {
  const { code, reason } = error;
  if (code === 'ECONNRESET' || code === 'EPIPE') return '';
  if (code?.startsWith('ERR_SSL_')) return tlsError(boringName(code.slice('ERR_SSL_'.length)), '');
  if (reason !== undefined) return tlsError(reason.toUpperCase().replaceAll(/[^A-Z0-9]+/g, '_'), '');
  return `TLS_error:${code ?? error.message}:TLS_error_end`;
}

/** OpenSSL 3 names some of them otherwise. */
function boringName(name: string): string {
  if (name === 'PACKET_LENGTH_TOO_LONG' || name === 'BAD_RECORD_TYPE' || name === 'HTTP_REQUEST') {
    return 'WRONG_VERSION_NUMBER';
  }
  if (name.startsWith('SSL/TLS_ALERT_')) return `SSLV3_ALERT_${name.slice('SSL/TLS_ALERT_'.length)}`;
  if (name === 'TLSV13_ALERT_CERTIFICATE_REQUIRED') return 'TLSV1_ALERT_CERTIFICATE_REQUIRED';
  return name;
}
