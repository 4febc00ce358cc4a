/** A TLS connection as envoy.data.accesslog.v3.TLSProperties. */
import type { TlsInfo } from '../../net/connection_info.ts';
import type { ProtobufWriter } from '../protobuf_writer.ts';

const VERSIONS: Readonly<Record<string, number>> = { TLSv1: 1, 'TLSv1.1': 2, 'TLSv1.2': 3, 'TLSv1.3': 4 };

/** By OpenSSL's names. Source: IANA, "TLS Cipher Suites". */
const CIPHERS: Readonly<Record<string, number>> = {
  TLS_AES_128_GCM_SHA256: 0x1301,
  TLS_AES_256_GCM_SHA384: 0x1302,
  TLS_CHACHA20_POLY1305_SHA256: 0x1303,
  TLS_AES_128_CCM_SHA256: 0x1304,
  'ECDHE-ECDSA-AES128-GCM-SHA256': 0xc02b,
  'ECDHE-ECDSA-AES256-GCM-SHA384': 0xc02c,
  'ECDHE-RSA-AES128-GCM-SHA256': 0xc02f,
  'ECDHE-RSA-AES256-GCM-SHA384': 0xc030,
  'ECDHE-ECDSA-CHACHA20-POLY1305': 0xcca9,
  'ECDHE-RSA-CHACHA20-POLY1305': 0xcca8,
  'ECDHE-ECDSA-AES128-SHA': 0xc009,
  'ECDHE-ECDSA-AES256-SHA': 0xc00a,
  'ECDHE-RSA-AES128-SHA': 0xc013,
  'ECDHE-RSA-AES256-SHA': 0xc014,
  'AES128-GCM-SHA256': 0x009c,
  'AES256-GCM-SHA384': 0x009d,
  'AES128-SHA': 0x002f,
  'AES256-SHA': 0x0035,
};

export function writeTls(out: ProtobufWriter, field: number, tls: TlsInfo, serverName: string | undefined): void {
  const start = out.begin(field);
  out.integer(1, VERSIONS[tls.version] ?? 0);
  const cipher = CIPHERS[tls.cipher];
  if (cipher !== undefined) out.wrapped(2, cipher);
  out.string(3, serverName);
  writeCertificate(out, 4, tls.localUriSans, tls.localDnsSans, tls.localSubject, '');
  writeCertificate(out, 5, tls.peerUriSans, tls.peerDnsSans, tls.peerSubject, tls.peerIssuer);
  out.string(6, tls.sessionId);
  out.end(start);
}

/** TLSProperties.CertificateProperties */
function writeCertificate(
  out: ProtobufWriter,
  field: number,
  uris: readonly string[],
  names: readonly string[],
  subject: string,
  issuer: string,
): void {
  const start = out.begin(field);
  for (const uri of uris) writeName(out, 1, uri);
  for (const name of names) writeName(out, 2, name);
  out.string(2, subject);
  out.string(3, issuer);
  out.end(start);
}

/** SubjectAltName: `uri` or `dns`. */
function writeName(out: ProtobufWriter, kind: 1 | 2, name: string): void {
  const start = out.begin(1);
  out.string(kind, name);
  out.end(start);
}
