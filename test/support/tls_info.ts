/** TLS facts of a connection for tests without sockets. */
import type { TlsInfo } from '../../proxy/net/connection_info.ts';

/** Mutual TLS without any name; `more` overrides. */
export function tlsInfo(more: Partial<TlsInfo> = {}): TlsInfo {
  return {
    version: 'TLSv1.3',
    cipher: 'TLS_AES_128_GCM_SHA256',
    mutual: true,
    peerUriSans: [],
    peerDnsSans: [],
    peerSubject: '',
    peerFingerprint: '',
    localUriSans: [],
    resumed: false,
    peerPresented: true,
    peerIssuer: '',
    peerSerial: '',
    peerFingerprintSha1: '',
    peerValidFromMs: 0,
    peerValidToMs: 0,
    peerCertificatePem: '',
    localDnsSans: [],
    localSubject: '',
    sessionId: '',
    group: '',
    peerIpSans: [],
    peerEmailSans: [],
    peerOtherSans: [],
    peerNames: [],
    peerChain: [],
    localIpSans: [],
    localEmailSans: [],
    localOtherSans: [],
    ...more,
  };
}
