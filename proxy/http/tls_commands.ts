/** Access-log commands about TLS on both sides. Source: Envoy docs "Access logging", command operators. */
import type { TlsInfo } from '../net/connection_info.ts';
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
  LOCAL_SUBJECT: (tls) => tls.localSubject,
};

const downstreamOnly: Readonly<Record<string, TlsValue>> = {
  PEER_FINGERPRINT_256: (tls) => tls.peerFingerprint,
  PEER_FINGERPRINT_1: (tls) => (tls.peerPresented ? tls.peerFingerprintSha1 : ''),
  PEER_SERIAL: (tls) => tls.peerSerial,
  PEER_CERT_V_START: (tls) => instant(tls.peerValidFromMs),
  PEER_CERT_V_END: (tls) => instant(tls.peerValidToMs),
};

/** By command name; undefined prints as absent. */
export const tlsValues: ReadonlyMap<string, (info: StreamInfo) => string | undefined> = new Map([
  ...Object.entries({ ...common, ...downstreamOnly }).map(
    ([name, value]) => [`DOWNSTREAM_${name}`, of((info) => info.connection.tls, value)] as const,
  ),
  ...Object.entries(common).map(
    ([name, value]) => [`UPSTREAM_${name}`, of((info) => info.upstreamTls, value)] as const,
  ),
]);

function of(side: (info: StreamInfo) => TlsInfo | undefined, value: TlsValue) {
  return (info: StreamInfo): string | undefined => {
    const tls = side(info);
    return tls === undefined ? undefined : value(tls);
  };
}

function instant(epochMs: number): string | undefined {
  return epochMs > 0 ? new Date(epochMs).toISOString() : undefined;
}
