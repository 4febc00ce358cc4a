/** Private keys of workloads, and signatures with them. */
import { createPublicKey, generateKeyPair, type KeyObject, sign } from 'node:crypto';
import { promisify } from 'node:util';
import { der, oid, sequence } from './der_writer.ts';

export type KeyKind =
  | { readonly kind: 'ecdsa'; readonly curve: 'P-256' | 'P-384' }
  | { readonly kind: 'rsa'; readonly bits: number };

/** Default: ECDSA P-256. */
export const DEFAULT_KEY: KeyKind = { kind: 'ecdsa', curve: 'P-256' };

const generate = promisify(generateKeyPair);

/** Off the event loop: an RSA key takes its time. */
export async function generateKey(kind: KeyKind): Promise<KeyObject> {
  const { privateKey } =
    kind.kind === 'rsa'
      ? await generate('rsa', { modulusLength: kind.bits })
      : await generate('ec', { namedCurve: kind.curve });
  return privateKey;
}

/** PEM; PKCS #8, or the key type's own older form. */
export function keyPem(key: KeyObject, pkcs8: boolean): string {
  const type = pkcs8 ? 'pkcs8' : key.asymmetricKeyType === 'rsa' ? 'pkcs1' : 'sec1';
  return key.export({ type, format: 'pem' }) as string;
}

/** SubjectPublicKeyInfo. */
export function publicKeyDer(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}

/** AlgorithmIdentifier of what `signDer` makes with this key. */
export function signatureAlgorithm(key: KeyObject): Buffer {
  if (key.asymmetricKeyType === 'rsa') return sequence(oid('1.2.840.113549.1.1.11'), der(0x05));
  return sequence(oid(hashOf(key) === 'sha384' ? '1.2.840.10045.4.3.3' : '1.2.840.10045.4.3.2'));
}

export function signDer(bytes: Buffer, key: KeyObject): Buffer {
  return sign(hashOf(key), bytes, key);
}

function hashOf(key: KeyObject): 'sha256' | 'sha384' {
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'sha384' : 'sha256';
}
