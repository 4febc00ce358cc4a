/** What is known of one connection: addresses, TLS facts, and state shared by its filters. */
import type { Metadata } from '../http/stream_info.ts';
import type { Peer } from '../telemetry/peer.ts';
import type { HelloFingerprints } from './hello_fingerprints.ts';
import type { SubjectAltName } from './tls/certificate.ts';

/** An address as Envoy prints it: `ip:port`, `[v6]:port`, or a unix socket's path. */
export interface SocketAddress {
  readonly ip: string;
  /** 0 for unix sockets. */
  readonly port: number;
  /** `ip:port`, `[ip]:port` or the path. */
  readonly text: string;
}

/** Makes an address; `ip` may be a path when `port` is 0. */
export function socketAddress(ip: string, port: number): SocketAddress {
  if (port === 0 && ip.includes('/')) return { ip, port, text: ip };
  const plain = ip.startsWith('::ffff:') && ip.includes('.') ? ip.slice(7) : ip;
  return { ip: plain, port, text: plain.includes(':') ? `[${plain}]:${port}` : `${plain}:${port}` };
}

export interface ConnectionInfo {
  /** Unique in the process. */
  readonly id: number;
  /** Ours: of an accepted connection the original destination, once it is known. */
  localAddress: SocketAddress;
  remoteAddress: SocketAddress;
  /** The socket's peer, where a PROXY header named another client. */
  directRemoteAddress?: SocketAddress;
  /** Whether the listener restored the address that the client had dialled. */
  localAddressRestored: boolean;
  readonly startMs: number;
  /** Of a connection that we made: when it was begun. */
  connectStartMs?: number;
  /** Ours, whatever the client had dialled. */
  directLocalAddress?: SocketAddress;
  /** Of the listener, once matched. */
  filterChainName?: string;
  listenerMetadata?: Metadata | undefined;
  filterChainMetadata?: Metadata | undefined;
  /** Of the ClientHello, where a tls_inspector was asked for them. */
  fingerprints?: HelloFingerprints;
  /** When TLS began and when it was through; `performance.now()`. Not there without TLS. */
  handshakeStartMs?: number;
  handshakeEndMs?: number;
  /** When it was over; `performance.now()`. Not there before. */
  endMs?: number;
  /** How it was cut; undefined: it goes on, or ended in order. */
  closeType?: 'LocalReset' | 'RemoteReset';
  /** Why we closed it, in Envoy's words. */
  localCloseReason?: string;
  /** The socket below. */
  carrier?: { readonly descriptor: number } | undefined;
  /** From the ClientHello, peeked or terminated; of a connection that we made, what we asked for. */
  requestedServerName: string | undefined;
  alpn: string | undefined;
  tls: TlsInfo | undefined;
  transportFailureReason: string | undefined;
  terminationDetails: string | undefined;
  /** Who the other side says it is (istio-peer-exchange). */
  peer?: Peer | undefined;
  /** Envoy's filter state, by key. Made when first used. */
  filterState: Map<string, unknown> | undefined;
  /** What listener filters found out, by namespace. */
  dynamicMetadata?: Map<string, Record<string, unknown>> | undefined;
}

/** A connection in the clear of which no more is known. */
export function plainConnection(
  id: number,
  localAddress: SocketAddress,
  remoteAddress: SocketAddress,
  startMs: number,
): ConnectionInfo {
  return {
    id,
    localAddress,
    remoteAddress,
    localAddressRestored: false,
    startMs,
    requestedServerName: undefined,
    alpn: undefined,
    tls: undefined,
    transportFailureReason: undefined,
    terminationDetails: undefined,
    filterState: undefined,
  };
}

export interface TlsInfo {
  readonly version: string;
  readonly cipher: string;
  /** Of the key exchange: `X25519MLKEM768`, `P-256`; '' where there was none. */
  readonly group: string;
  /** Whether the peer showed a certificate that was verified. */
  readonly mutual: boolean;
  readonly peerUriSans: readonly string[];
  readonly peerDnsSans: readonly string[];
  readonly peerSubject: string;
  /** Hex SHA-256 of the peer's certificate. */
  readonly peerFingerprint: string;
  readonly localUriSans: readonly string[];
  /** Whether the session was resumed: the certificate is the one of its first connection. */
  readonly resumed: boolean;
  /** Whether it showed a certificate, verified or not. */
  readonly peerPresented: boolean;
  readonly peerIssuer: string;
  /** Lower-case hex. */
  readonly peerSerial: string;
  /** Hex SHA-1. */
  readonly peerFingerprintSha1: string;
  /** Epoch milliseconds; 0 without a certificate. */
  readonly peerValidFromMs: number;
  readonly peerValidToMs: number;
  /** PEM, empty without a certificate. */
  readonly peerCertificatePem: string;
  readonly peerIpSans: readonly string[];
  readonly peerEmailSans: readonly string[];
  readonly peerOtherSans: readonly string[];
  /** All of them, with their kinds, in the certificate's order. */
  readonly peerNames: readonly SubjectAltName[];
  /** As the peer sent them, its own first. Empty on a resumed session of ours. */
  readonly peerChain: readonly ChainCertificate[];
  readonly localDnsSans: readonly string[];
  readonly localIpSans: readonly string[];
  readonly localEmailSans: readonly string[];
  readonly localOtherSans: readonly string[];
  /** RFC 2253. */
  readonly localSubject: string;
  /** Hex. */
  readonly sessionId: string;
}

/** A certificate of the peer's chain, as logs tell it. */
export interface ChainCertificate {
  /** Hex SHA-256. */
  readonly fingerprint: string;
  /** Hex SHA-1. */
  readonly fingerprintSha1: string;
  /** Lower-case hex. */
  readonly serial: string;
}
