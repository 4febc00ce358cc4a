/** Makes signing requests and certificates (RFC 2986, RFC 5280) as Istio's agent and CA do. */
import { createHash, type KeyObject, randomBytes } from 'node:crypto';
import { bits, der, integer, octets, oid, sequence, set, time, utf8, yes } from './der_writer.ts';
import { publicKeyDer, signatureAlgorithm, signDer } from './keys.ts';

const SUBJECT_ALT_NAME = '2.5.29.17';
const BASIC_CONSTRAINTS = '2.5.29.19';
const KEY_USAGE = '2.5.29.15';
const EXTENDED_KEY_USAGE = '2.5.29.37';
const SUBJECT_KEY_ID = '2.5.29.14';
const AUTHORITY_KEY_ID = '2.5.29.35';
const EXTENSION_REQUEST = '1.2.840.113549.1.9.14';
const ORGANIZATION = '2.5.4.10';
const COMMON_NAME = '2.5.4.3';
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** Certificates are valid a little before they are made: clocks differ. */
const CLOCK_SKEW_MS = 2 * 60_000;

/** PEM of a request for one SPIFFE identity: empty subject, one URI name, critical (istio.md §2.6). */
export function signingRequest(key: KeyObject, spiffeId: string): string {
  const names = extension(SUBJECT_ALT_NAME, true, sequence(uriName(spiffeId)));
  const attributes = der(0xa0, sequence(oid(EXTENSION_REQUEST), set(sequence(names))));
  const info = sequence(integer(Buffer.from([0])), sequence(), publicKeyDer(key), attributes);
  return pem('CERTIFICATE REQUEST', sequence(info, signatureAlgorithm(key), bits(signDer(info, key))));
}

export interface Issuer {
  readonly key: KeyObject;
  /** DER of its name, as it stands in its certificate. */
  readonly name: Buffer;
  readonly publicKey: Buffer;
}

export interface CertificateRequest {
  /** DER SubjectPublicKeyInfo. */
  readonly publicKey: Buffer;
  readonly uris?: readonly string[];
  readonly dnsNames?: readonly string[];
  /** Empty: no subject, the names are critical. */
  readonly commonName?: string;
  readonly organization?: string;
  readonly isAuthority?: boolean;
  /** Default: now. */
  readonly fromMs?: number;
  readonly lifetimeMs: number;
  readonly serial?: Buffer;
  /** Names as DER of GeneralName elements, beside the others. */
  readonly rawNames?: readonly Buffer[];
}

/** PEM. Without an issuer it signs itself with `key`. */
export function issueCertificate(request: CertificateRequest, issuer: Issuer): string {
  const fromMs = request.fromMs ?? Date.now() - CLOCK_SKEW_MS;
  const subject = nameOf(request);
  const algorithm = signatureAlgorithm(issuer.key);
  const body = sequence(
    der(0xa0, integer(Buffer.from([2]))),
    integer(request.serial ?? positive(randomBytes(16))),
    algorithm,
    issuer.name,
    sequence(time(fromMs), time(fromMs + request.lifetimeMs)),
    subject,
    request.publicKey,
    der(0xa3, sequence(...extensionsOf(request, issuer, subject.length === 2))),
  );
  return pem('CERTIFICATE', sequence(body, algorithm, bits(signDer(body, issuer.key))));
}

/** A root that signs itself. */
export function selfSignedAuthority(
  key: KeyObject,
  request: Omit<CertificateRequest, 'publicKey' | 'isAuthority'>,
): { readonly pem: string; readonly issuer: Issuer } {
  const publicKey = publicKeyDer(key);
  const full: CertificateRequest = { ...request, publicKey, isAuthority: true };
  const issuer: Issuer = { key, name: nameOf(full), publicKey };
  return { pem: issueCertificate(full, issuer), issuer };
}

/** GeneralName with a URI. */
export function uriName(uri: string): Buffer {
  return der(0x86, Buffer.from(uri, 'latin1'));
}

export function dnsName(name: string): Buffer {
  return der(0x82, Buffer.from(name, 'latin1'));
}

function nameOf({ commonName, organization }: CertificateRequest): Buffer {
  const parts: Buffer[] = [];
  if (organization !== undefined) parts.push(set(sequence(oid(ORGANIZATION), utf8(organization))));
  if (commonName !== undefined) parts.push(set(sequence(oid(COMMON_NAME), utf8(commonName))));
  return sequence(...parts);
}

function extensionsOf(request: CertificateRequest, issuer: Issuer, emptySubject: boolean): Buffer[] {
  const { uris = [], dnsNames = [], rawNames = [], isAuthority = false } = request;
  const names = [...uris.map(uriName), ...dnsNames.map(dnsName), ...rawNames];
  const usage = isAuthority
    ? bits(Buffer.from([0b0000_0110]), 1) // keyCertSign, cRLSign
    : bits(Buffer.from([0b1010_0000]), 5); // digitalSignature, keyEncipherment
  const out = [
    extension(KEY_USAGE, true, usage),
    extension(BASIC_CONSTRAINTS, true, isAuthority ? sequence(yes) : sequence()),
    extension(SUBJECT_KEY_ID, false, octets(keyId(request.publicKey))),
    extension(AUTHORITY_KEY_ID, false, sequence(der(0x80, keyId(issuer.publicKey)))),
  ];
  if (!isAuthority) out.push(extension(EXTENDED_KEY_USAGE, false, sequence(oid(SERVER_AUTH), oid(CLIENT_AUTH))));
  if (names.length > 0) out.push(extension(SUBJECT_ALT_NAME, emptySubject, sequence(...names)));
  return out;
}

function extension(id: string, critical: boolean, value: Buffer): Buffer {
  return critical ? sequence(oid(id), yes, octets(value)) : sequence(oid(id), octets(value));
}

/** RFC 5280 §4.2.1.2 (1), over the whole key: any unique value will do. */
function keyId(publicKey: Buffer): Buffer {
  return createHash('sha1').update(publicKey).digest();
}

function positive(bytes: Buffer): Buffer {
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes;
}

export function pem(label: string, bytes: Buffer): string {
  const lines = bytes.toString('base64').match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}
