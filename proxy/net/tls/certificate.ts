/** What the mesh asks of a certificate, read from its own bytes: names as they stand there, never as a library prints them. */
import { createHash } from 'node:crypto';
import { type DerElement, derChildren, derOid, readDer } from './der.ts';
import { timeOf } from './der_time.ts';

/** Text is latin1: one character a byte, so that a NUL or a byte above 127 stays what it is (attacks.md row 54). */
export interface SubjectAltName {
  readonly type: 'uri' | 'dns' | 'email' | 'ip' | 'other';
  readonly value: string;
  /** Of an other name: what kind it is. */
  readonly oid?: string;
}

const SUBJECT_ALT_NAME = '2.5.29.17';
const KEY_USAGE = '2.5.29.15';
const BASIC_CONSTRAINTS = '2.5.29.19';
const TLS_FEATURE = '1.3.6.1.5.5.7.1.24';
const STATUS_REQUEST = 5;
/** Bits 5 and 6 of KeyUsage, the first is the highest. */
const KEY_CERT_SIGN = 0x04;
const CRL_SIGN = 0x02;
/** RFC 4514 §3, and what Envoy prints beside. */
const SHORT_NAMES: Readonly<Record<string, string>> = {
  '2.5.4.3': 'CN',
  '2.5.4.5': 'serialNumber',
  '2.5.4.6': 'C',
  '2.5.4.7': 'L',
  '2.5.4.8': 'ST',
  '2.5.4.9': 'street',
  '2.5.4.10': 'O',
  '2.5.4.11': 'OU',
  '0.9.2342.19200300.100.1.1': 'UID',
  '0.9.2342.19200300.100.1.25': 'DC',
  '1.2.840.113549.1.9.1': 'emailAddress',
};

/** A certificate whose parts are read when they are asked for. */
export class Certificate {
  readonly der: Buffer;
  #names: readonly SubjectAltName[] | undefined = undefined;
  #uris: readonly string[] | undefined = undefined;
  #dnsNames: readonly string[] | undefined = undefined;
  #fields: CertificateFields | undefined = undefined;
  #fingerprint = '';

  /** `der` is kept. */
  constructor(der: Buffer) {
    this.der = der;
  }

  get names(): readonly SubjectAltName[] {
    this.#names ??= subjectAltNames(this.#parsed().extensions);
    return this.#names;
  }

  get uris(): readonly string[] {
    this.#uris ??= this.names.filter(({ type }) => type === 'uri').map(({ value }) => value);
    return this.#uris;
  }

  get dnsNames(): readonly string[] {
    this.#dnsNames ??= this.names.filter(({ type }) => type === 'dns').map(({ value }) => value);
    return this.#dnsNames;
  }

  /** Of the kinds that only logs ask for. */
  namesOf(kind: SubjectAltName['type']): readonly string[] {
    return this.names.filter(({ type }) => type === kind).map(({ value }) => value);
  }

  /** RFC 2253 form, most specific first; empty for an empty subject. */
  get subject(): string {
    return distinguishedName(this.#parsed().subject);
  }

  get issuer(): string {
    return distinguishedName(this.#parsed().issuer);
  }

  /** Lower-case hex without leading zero bytes. */
  get serial(): string {
    return this.#parsed()
      .serial.toString('hex')
      .replace(/^(?:00)+(?=.)/, '');
  }

  /** Epoch milliseconds. */
  get validFromMs(): number {
    return this.#parsed().validFromMs;
  }

  get validToMs(): number {
    return this.#parsed().validToMs;
  }

  /** Whether it is a CA's, or has the usage of one (RFC 5280 §4.2.1.3 and §4.2.1.9). */
  get signsCertificates(): boolean {
    const { extensions } = this.#parsed();
    const constraints = extensionValue(extensions, BASIC_CONSTRAINTS);
    // SEQUENCE { cA BOOLEAN DEFAULT FALSE, … }
    const [isAuthority] = constraints === undefined ? [] : derChildren(readDer(constraints)?.body ?? NOTHING);
    if (isAuthority?.tag === 0x01 && isAuthority.body[0] !== 0) return true;
    const usage = extensionValue(extensions, KEY_USAGE);
    const bits = usage === undefined ? undefined : readDer(usage)?.body;
    return ((bits?.[1] ?? 0) & (KEY_CERT_SIGN | CRL_SIGN)) !== 0;
  }

  /** It demands an OCSP response beside it (RFC 7633, status_request). */
  get mustStaple(): boolean {
    const value = extensionValue(this.#parsed().extensions, TLS_FEATURE);
    const features = value === undefined ? [] : derChildren(readDer(value)?.body ?? NOTHING);
    return features.some(({ body }) => body.length === 1 && body[0] === STATUS_REQUEST);
  }

  /** Hex SHA-256 of the certificate. */
  get fingerprint(): string {
    if (this.#fingerprint === '') this.#fingerprint = createHash('sha256').update(this.der).digest('hex');
    return this.#fingerprint;
  }

  /** Hex SHA-1 of the certificate: access logs may ask for it. */
  get fingerprintSha1(): string {
    return createHash('sha1').update(this.der).digest('hex');
  }

  /** Base64 SHA-256 of the SubjectPublicKeyInfo. */
  get publicKeyHash(): string {
    return createHash('sha256').update(this.#parsed().publicKey).digest('base64');
  }

  get pem(): string {
    const lines = this.der.toString('base64').match(/.{1,64}/g) ?? [];
    return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
  }

  #parsed(): CertificateFields {
    this.#fields ??= parseFields(this.der);
    return this.#fields;
  }
}

interface CertificateFields {
  readonly serial: Buffer;
  readonly issuer: Buffer;
  readonly subject: Buffer;
  readonly validFromMs: number;
  readonly validToMs: number;
  /** The whole SubjectPublicKeyInfo with its tag. */
  readonly publicKey: Buffer;
  readonly extensions: Buffer;
}

const NOTHING = Buffer.alloc(0);

/** RFC 5280 §4.1. Empty fields where the bytes are no certificate: then it matches nothing. */
function parseFields(der: Buffer): CertificateFields {
  const certificate = readDer(der);
  const toBeSigned = certificate === undefined ? undefined : readDer(certificate.body);
  const body = toBeSigned?.body ?? NOTHING;
  const all = derChildren(body);
  // Version 1 has no explicit version field.
  const parts = all[0]?.tag === 0xa0 ? all.slice(1) : all;
  const [from, to] = derChildren(parts[3]?.body ?? NOTHING);
  const key = parts[5];
  const explicit = parts.find(({ tag }) => tag === 0xa3);
  return {
    serial: parts[0]?.body ?? NOTHING,
    issuer: parts[2]?.body ?? NOTHING,
    validFromMs: timeOf(from),
    validToMs: timeOf(to),
    subject: parts[4]?.body ?? NOTHING,
    publicKey: key === undefined ? NOTHING : body.subarray(key.end - encodedLength(key, body), key.end),
    extensions: (explicit === undefined ? undefined : readDer(explicit.body))?.body ?? NOTHING,
  };
}

/** Header and contents of an element that ends at `end`. */
function encodedLength({ body, end }: DerElement, whole: Buffer): number {
  const { length } = body;
  const header = length < 0x80 ? 2 : length < 0x100 ? 3 : length < 0x1_0000 ? 4 : length < 0x100_0000 ? 5 : 6;
  return Math.min(header + length, end, whole.length);
}

function subjectAltNames(extensions: Buffer): SubjectAltName[] {
  const value = extensionValue(extensions, SUBJECT_ALT_NAME);
  const names = value === undefined ? undefined : readDer(value);
  return names === undefined ? [] : derChildren(names.body).flatMap(nameOf);
}

/** The DER inside extnValue; undefined: the certificate has no such extension. */
function extensionValue(extensions: Buffer, oid: string): Buffer | undefined {
  for (const extension of derChildren(extensions)) {
    const [id, ...rest] = derChildren(extension.body);
    if (id !== undefined && derOid(id.body) === oid) return rest.at(-1)?.body;
  }
  return undefined;
}

/** GeneralName, RFC 5280 §4.2.1.6. */
function nameOf({ tag, body }: DerElement): SubjectAltName[] {
  switch (tag) {
    case 0x81:
      return [{ type: 'email', value: body.latin1Slice() }];
    case 0x82:
      return [{ type: 'dns', value: body.latin1Slice() }];
    case 0x86:
      return [{ type: 'uri', value: body.latin1Slice() }];
    case 0x87:
      return [{ type: 'ip', value: ipText(body) }];
    case 0xa0:
      return [{ type: 'other', value: otherName(body), oid: derOid(derChildren(body)[0]?.body ?? NOTHING) }];
    default:
      return [];
  }
}

/** OtherName: type-id, [0] value. What is no text, number, boolean or identifier is ''. */
function otherName(body: Buffer): string {
  const [, explicit] = derChildren(body);
  const value = explicit === undefined ? undefined : readDer(explicit.body);
  switch (value?.tag) {
    case 0x01:
      return value.body[0] === 0 ? 'false' : 'true';
    case 0x02:
    case 0x0a:
      return value.body.length === 0
        ? ''
        : BigInt.asIntN(value.body.length * 8, BigInt(`0x${value.body.toString('hex')}`)).toString();
    case 0x06:
      return derOid(value.body);
    case 0x1e:
      return utf16(value.body);
    case 0x04: // OCTET STRING
    case 0x0c: // UTF8String
    case 0x12: // NumericString
    case 0x13: // PrintableString
    case 0x14: // T61String
    case 0x16: // IA5String
    case 0x1a: // VisibleString
      return value.body.toString('utf8');
    default:
      return '';
  }
}

function ipText(body: Buffer): string {
  if (body.length === 4) return [...body].join('.');
  if (body.length !== 16) return '';
  const words = Array.from({ length: 8 }, (_, index) => body.readUInt16BE(index * 2).toString(16));
  // Canonical form (RFC 5952): the URL parser has it.
  const host = new URL(`http://[${words.join(':')}]/`).hostname.slice(1, -1);
  return host;
}

function distinguishedName(name: Buffer): string {
  const parts: string[] = [];
  for (const set of derChildren(name)) {
    const attributes = derChildren(set.body).map((attribute) => {
      const [type, value] = derChildren(attribute.body);
      const oid = type === undefined ? '' : derOid(type.body);
      const text = value === undefined ? '' : value.tag === 0x1e ? utf16(value.body) : value.body.toString('utf8');
      return `${SHORT_NAMES[oid] ?? oid}=${escapeValue(text)}`;
    });
    parts.push(attributes.join('+'));
  }
  return parts.reverse().join(',');
}

function utf16(body: Buffer): string {
  return Buffer.from(body.subarray(0, body.length & ~1))
    .swap16()
    .toString('utf16le');
}

/** RFC 2253 §2.4. */
function escapeValue(text: string): string {
  let out = '';
  for (let i = 0; i < text.length; i++) {
    const char = text[i] as string;
    const code = char.charCodeAt(0);
    const atEnds = (i === 0 && (char === ' ' || char === '#')) || (i === text.length - 1 && char === ' ');
    if (',+"\\<>;'.includes(char) || atEnds) out += `\\${char}`;
    else if (code < 0x20 || code === 0x7f) out += `\\${code.toString(16).toUpperCase().padStart(2, '0')}`;
    else out += char;
  }
  return out;
}

/** The certificates of a PEM text, in order. */
export function certificatesOf(pem: string): Certificate[] {
  const out: Certificate[] = [];
  for (const [, base64 = ''] of pem.matchAll(/-----BEGIN CERTIFICATE-----([\s\S]*?)-----END CERTIFICATE-----/g)) {
    out.push(new Certificate(Buffer.from(base64.replace(/\s+/g, ''), 'base64')));
  }
  return out;
}
