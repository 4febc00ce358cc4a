/** Access-log commands about TLS on both sides. Source: Envoy docs "Access logging", command operators. */
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
  PEER_IP_SAN: (tls) => tls.peerIpSans.join(','),
  LOCAL_IP_SAN: (tls) => tls.localIpSans.join(','),
  TLS_GROUP: (tls) => tls.group,
};

const downstreamOnly: Readonly<Record<string, TlsValue>> = {
  PEER_FINGERPRINT_256: (tls) => tls.peerFingerprint,
  PEER_FINGERPRINT_1: (tls) => (tls.peerPresented ? tls.peerFingerprintSha1 : ''),
  PEER_SERIAL: (tls) => tls.peerSerial,
  PEER_CHAIN_FINGERPRINTS_256: (tls) => tls.peerChain.map(({ fingerprint }) => fingerprint).join(','),
  PEER_CHAIN_FINGERPRINTS_1: (tls) => tls.peerChain.map(({ fingerprintSha1 }) => fingerprintSha1).join(','),
  PEER_CHAIN_SERIALS: (tls) => tls.peerChain.map(({ serial }) => serial).join(','),
  PEER_EMAIL_SAN: (tls) => tls.peerEmailSans.join(','),
  PEER_OTHERNAME_SAN: (tls) => tls.peerOtherSans.join(','),
  LOCAL_SUBJECT: (tls) => tls.localSubject,
  LOCAL_EMAIL_SAN: (tls) => tls.localEmailSans.join(','),
  LOCAL_OTHERNAME_SAN: (tls) => tls.localOtherSans.join(','),
  // Of the certificate that signed the peer's own, where it came along.
  PEER_ISSUER_SERIAL: (tls) => tls.peerChain[1]?.serial,
  PEER_ISSUER_FINGERPRINT_256: (tls) => tls.peerChain[1]?.fingerprint,
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
