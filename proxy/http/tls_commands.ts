/** Access-log commands about TLS on both sides. Source: Envoy docs "Access logging", command operators. */
import { X509Certificate } from 'node:crypto';
import type { TlsInfo } from '../net/connection_info.ts';
import type { Command } from './format_commands.ts';
import { timeFormat } from './format_time.ts';
import type { FormatInput } from './formatter.ts';
import type { StreamInfo } from './stream_info.ts';

type TlsValue = (tls: TlsInfo) => string | undefined;

/** Both sides have them. */
const common: Readonly<Record<string, TlsValue>> = {
  TLS_VERSION: (tls) => tls.version,
  TLS_CIPHER: (tls) => tls.cipher,
  TLS_SESSION_ID: (tls) => tls.sessionId,
  PEER_URI_SAN: (tls) => tls.peerUriSans.join(','),
  PEER_DNS_SAN: (tls) => tls.peerDnsSans.join(','),
  PEER_SUBJECT: (tls) => tls.peerSubject,
  PEER_ISSUER: (tls) => tls.peerIssuer,
  PEER_CERT: (tls) => encodeURIComponent(tls.peerCertificatePem),
  LOCAL_URI_SAN: (tls) => tls.localUriSans.join(','),
  LOCAL_DNS_SAN: (tls) => tls.localDnsSans.join(','),
  PEER_IP_SAN: (tls) => otherNames(tls, 'IP Address'),
  // Certificates of workloads carry URIs and DNS names.
  LOCAL_IP_SAN: () => undefined,
  // Node does not say which group a handshake used.
  TLS_GROUP: () => undefined,
};

const downstreamOnly: Readonly<Record<string, TlsValue>> = {
  PEER_FINGERPRINT_256: (tls) => tls.peerFingerprint,
  PEER_FINGERPRINT_1: (tls) => (tls.peerPresented ? tls.peerFingerprintSha1 : ''),
  PEER_SERIAL: (tls) => tls.peerSerial,
  // Of the chain the peer's own certificate is kept.
  PEER_CHAIN_FINGERPRINTS_256: (tls) => tls.peerFingerprint,
  PEER_CHAIN_FINGERPRINTS_1: (tls) => (tls.peerPresented ? tls.peerFingerprintSha1 : ''),
  PEER_CHAIN_SERIALS: (tls) => tls.peerSerial,
  PEER_EMAIL_SAN: (tls) => otherNames(tls, 'email'),
  PEER_OTHERNAME_SAN: (tls) => otherNames(tls, 'othername'),
  LOCAL_SUBJECT: (tls) => tls.localSubject,
  // Certificates of workloads carry URIs and DNS names; these kinds are not kept of our own.
  LOCAL_EMAIL_SAN: () => undefined,
  LOCAL_OTHERNAME_SAN: () => undefined,
  PEER_ISSUER_SERIAL: () => undefined,
  PEER_ISSUER_FINGERPRINT_256: () => undefined,
};

/** Points in time: they take a format as START_TIME does. */
const times: Readonly<Record<string, (tls: TlsInfo) => number>> = {
  PEER_CERT_V_START: (tls) => tls.peerValidFromMs,
  PEER_CERT_V_END: (tls) => tls.peerValidToMs,
};

const downstream = (info: StreamInfo): TlsInfo | undefined => info.connection.tls;
const upstream = (info: StreamInfo): TlsInfo | undefined => info.upstreamTls;

/** By command name. */
export const tlsCommands: Readonly<Record<string, (argument: string) => Command>> = Object.fromEntries([
  ...Object.entries({ ...common, ...downstreamOnly }).map(([name, value]) => [
    `DOWNSTREAM_${name}`,
    of(downstream, value),
  ]),
  ...Object.entries(common).map(([name, value]) => [`UPSTREAM_${name}`, of(upstream, value)]),
  ...Object.entries(times).flatMap(([name, value]) => [
    [`DOWNSTREAM_${name}`, timeOf(downstream, value)],
    [`UPSTREAM_${name}`, timeOf(upstream, value)],
  ]),
]) as Record<string, (argument: string) => Command>;

function of(side: (info: StreamInfo) => TlsInfo | undefined, value: TlsValue): () => Command {
  return () => (input) => {
    const tls = side(input.info);
    return tls === undefined ? undefined : value(tls);
  };
}

function timeOf(side: (info: StreamInfo) => TlsInfo | undefined, value: (tls: TlsInfo) => number) {
  return (argument: string): Command =>
    timeFormat(argument, ({ info }: FormatInput) => {
      const tls = side(info);
      return tls === undefined ? undefined : value(tls) || undefined;
    });
}

/** Kinds of alternative names that are read from the certificate when a log asks for them. */
function otherNames(
  { peerCertificatePem: pem }: TlsInfo,
  kind: 'IP Address' | 'email' | 'othername',
): string | undefined {
  if (pem === '') return undefined;
  const names = new X509Certificate(pem).subjectAltName ?? '';
  const found = [...names.matchAll(/([A-Za-z ]+):(?:"((?:[^"\\]|\\.)*)"|([^,]*))(?:, |$)/g)];
  return found
    .filter(([, name]) => name === kind)
    .map(([, , quoted, plain]) => quoted ?? plain ?? '')
    .join(',');
}
