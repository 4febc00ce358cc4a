/** What OpenSSL's form of a session says that node:tls does not. Source: openssl ssl/ssl_asn1.c, SSL_SESSION_ASN1. */
import type { TLSSocket } from 'node:tls';
import { der } from '../../identity/der_writer.ts';
import { derEnd, derStart, readDer } from './der.ts';

/** `\0nodejs:tls:session:1\0`; a length of two bytes and the server's name follow. */
const ENVELOPE_BYTES = 22;
const OCTET_STRING = 0x04;
/** SEQUENCE { version, TLS version, cipher, session id, … } */
const ID_FIELD = 3;
/** [3] EXPLICIT X509. */
const PEER_TAG = 0xa3;
/** [19] EXPLICIT INTEGER: the group of the key exchange, by its number of the TLS registry. */
const GROUP_TAG = 0xb3;

/** IANA "TLS Supported Groups", in BoringSSL's spelling where it has one. */
const GROUPS: ReadonlyMap<number, string> = new Map([
  [0x0015, 'P-224'],
  [0x0017, 'P-256'],
  [0x0018, 'P-384'],
  [0x0019, 'P-521'],
  [0x001d, 'X25519'],
  [0x001e, 'X448'],
  [0x001f, 'brainpoolP256r1tls13'],
  [0x0020, 'brainpoolP384r1tls13'],
  [0x0021, 'brainpoolP512r1tls13'],
  [0x0100, 'ffdhe2048'],
  [0x0101, 'ffdhe3072'],
  [0x0102, 'ffdhe4096'],
  [0x0103, 'ffdhe6144'],
  [0x0104, 'ffdhe8192'],
  [0x0200, 'MLKEM512'],
  [0x0201, 'MLKEM768'],
  [0x0202, 'MLKEM1024'],
  [0x11eb, 'SecP256r1MLKEM768'],
  [0x11ec, 'X25519MLKEM768'],
  [0x11ed, 'SecP384r1MLKEM1024'],
]);

export interface SessionFacts {
  /** '' without an ephemeral key exchange; a number in hex where it has no name here. */
  readonly group: string;
  /** Hex; '' without one, as TLS 1.3 and sessions in tickets have none. */
  readonly id: string;
  /** The peer's certificate, DER, a view of the session; after a resumption too. undefined: none was shown. */
  readonly peer: Buffer | undefined;
}

/**
 * Of a handshake that is through: now, since logs are written when the connection may be gone. 4 µs; what node:tls has of
 * the peer's certificate costs three times as much.
 */
export function sessionFacts(socket: TLSSocket): SessionFacts {
  const { _handle: handle } = socket as TLSSocket & { readonly _handle?: SessionHandle | null };
  // Before a client's session Node itself puts the server's name.
  const session = typeof handle?.getSession === 'function' ? handle.getSession() : undefined;
  if (session === undefined) return { group: '', id: '', peer: socket.getPeerX509Certificate()?.raw };
  return readSession(session);
}

interface SessionHandle {
  getSession?(): Buffer | undefined;
}

/** OpenSSL's form of a session. With each handshake: no view is made of what nobody wants. */
export function readSession(session: Buffer): SessionFacts {
  let group = '';
  let id = '';
  let peer: Buffer | undefined;
  // SEQUENCE: its fields begin behind its own length.
  let at = derStart(session, 0);
  for (let index = 0; at >= 0 && at < session.length; index++) {
    const start = derStart(session, at);
    const end = start < 0 ? -1 : derEnd(session, at, start);
    if (end < 0 || end > session.length) break;
    const tag = session[at];
    if (index === ID_FIELD && tag === OCTET_STRING && end - start <= 32) id = session.toString('hex', start, end);
    else if (tag === PEER_TAG) peer = session.subarray(start, end);
    else if (tag === GROUP_TAG) group = nameOf(readDer(session, start)?.body);
    at = end;
  }
  return { group, id, peer };
}

/**
 * A client's session as it is kept: without the server's certificate, which OpenSSL would decode with each connection and
 * whose owner keeps it anyway; and without the server's name that Node puts before it.
 */
export function withoutPeer(session: Buffer): Buffer {
  // DER begins with 0x30.
  const wrapped = session[0] === 0 && session.length > ENVELOPE_BYTES + 2;
  const start = wrapped ? ENVELOPE_BYTES + 2 + session.readUInt16BE(ENVELOPE_BYTES) : 0;
  const whole = readDer(session, start);
  if (whole === undefined) return session;
  const kept: Buffer[] = [];
  for (let at = 0; at < whole.body.length; ) {
    const field = readDer(whole.body, at);
    if (field === undefined) return session.subarray(start);
    if (field.tag !== PEER_TAG) kept.push(whole.body.subarray(at, field.end));
    at = field.end;
  }
  return der(whole.tag, ...kept);
}

function nameOf(bytes: Buffer | undefined): string {
  if (bytes === undefined || bytes.length === 0 || bytes.length > 4) return '';
  const group = bytes.readUIntBE(0, bytes.length);
  return GROUPS.get(group) ?? `0x${group.toString(16).padStart(4, '0')}`;
}
