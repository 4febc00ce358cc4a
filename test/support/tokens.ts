/** JSON Web Tokens signed for tests, good and bad. */
import { constants, createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';

export type Json = Readonly<Record<string, unknown>>;

const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const otherRsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const ed = generateKeyPairSync('ed25519');
export const SECRET = Buffer.from('a secret that is long enough for sha-256');

const jwk = (key: KeyObject, kid: string, more: Json = {}): Json => ({
  ...(key.export({ format: 'jwk' }) as object),
  kid,
  ...more,
});

/** RSA without `alg`, EC, Ed25519 and a shared secret. */
export const KEY_SET = JSON.stringify({
  keys: [
    jwk(rsa.publicKey, 'rsa'),
    jwk(ec.publicKey, 'ec', { alg: 'ES256' }),
    jwk(ed.publicKey, 'ed'),
    { kty: 'oct', kid: 'secret', alg: 'HS256', k: SECRET.toString('base64url') },
  ],
});
export const OTHER_KEY_SET = JSON.stringify({ keys: [jwk(otherRsa.publicKey, 'rsa')] });

export const base64url = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');

/** Signs with `how`; `header` and `claims` may be anything, JSON or not. */
export function token(
  claims: unknown,
  how: 'RS256' | 'PS256' | 'ES256' | 'EdDSA' | 'HS256' | 'other' | 'hs-with-public-key' | 'none' = 'RS256',
  header: unknown = {},
): string {
  const alg = how === 'other' ? 'RS256' : how === 'hs-with-public-key' ? 'HS256' : how;
  const kid = {
    RS256: 'rsa',
    PS256: 'rsa',
    ES256: 'ec',
    EdDSA: 'ed',
    HS256: 'secret',
    other: 'rsa',
    'hs-with-public-key': 'rsa',
    none: 'rsa',
  }[how];
  const head = typeof header === 'string' ? header : { alg, typ: 'JWT', kid, ...(header as object) };
  const signed = `${base64url(head)}.${base64url(claims)}`;
  return `${signed}.${signature(how, Buffer.from(signed)).toString('base64url')}`;
}

function signature(how: Parameters<typeof token>[1], signed: Buffer): Buffer {
  switch (how) {
    case 'PS256':
      return sign('sha256', signed, {
        key: rsa.privateKey,
        padding: constants.RSA_PKCS1_PSS_PADDING,
        saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
      });
    case 'ES256':
      return sign('sha256', signed, { key: ec.privateKey, dsaEncoding: 'ieee-p1363' });
    case 'EdDSA':
      return sign(null, signed, ed.privateKey);
    case 'HS256':
      return createHmac('sha256', SECRET).update(signed).digest();
    case 'hs-with-public-key':
      return createHmac('sha256', rsa.publicKey.export({ type: 'spki', format: 'pem' }))
        .update(signed)
        .digest();
    case 'other':
      return sign('sha256', signed, otherRsa.privateKey);
    case 'none':
      return Buffer.alloc(0);
    default:
      return sign('sha256', signed, rsa.privateKey);
  }
}

/** Seconds since the epoch, `offset` from now. */
export const inSeconds = (offset: number): number => Math.floor(Date.now() / 1000) + offset;
