/** What OpenSSL's form of a session says that node:tls does not. Source: openssl ssl/ssl_asn1.c, SSL_SESSION_ASN1. */
import { derChildren, readDer } from './der.ts';

const ENVELOPE = Buffer.from('\0nodejs:tls:session:1\0', 'latin1');
const OCTET_STRING = 0x04;
/** SEQUENCE { version, TLS version, cipher, session id, … } */
const ID_FIELD = 3;
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
}

const NOTHING: SessionFacts = { group: '', id: '' };

/** Of `TLSSocket.getSession()`. */
export function readSession(session: Buffer | undefined): SessionFacts {
  const whole = session === undefined ? undefined : readDer(session, derStart(session));
  if (whole === undefined) return NOTHING;
  const fields = derChildren(whole.body);
  const id = fields[ID_FIELD];
  const group = fields.find(({ tag }) => tag === GROUP_TAG);
  const number = group === undefined ? undefined : readDer(group.body)?.body;
  return {
    group:
      number === undefined || number.length === 0 || number.length > 4
        ? ''
        : nameOf(number.readUIntBE(0, number.length)),
    id: id?.tag === OCTET_STRING && id.body.length <= 32 ? id.body.toString('hex') : '',
  };
}

/** Clients' sessions stand behind `\0nodejs:tls:session:1\0`, a length of two bytes and the server's name. */
function derStart(session: Buffer): number {
  if (session[0] !== 0 || session.length < ENVELOPE.length + 2 || session.indexOf(ENVELOPE) !== 0) return 0;
  return ENVELOPE.length + 2 + session.readUInt16BE(ENVELOPE.length);
}

function nameOf(group: number): string {
  return GROUPS.get(group) ?? `0x${group.toString(16).padStart(4, '0')}`;
}
