/** A workload's identity as the two secrets that Istio's configuration names. Source: istio.md §2.6, §6.6. */
import { createHash } from 'node:crypto';
import type { Resource } from '../../config/resources.ts';
import { certificatesOf } from '../net/tls/certificate.ts';

/** Key and certificate chain. */
export const IDENTITY_SECRET = 'default';
/** Whom the mesh trusts. */
export const ROOT_SECRET = 'ROOTCA';

/** PEM, all of it. */
export interface Identity {
  /** Leaf first, without the root. */
  readonly chain: string;
  readonly key: string;
  /** One or more. */
  readonly roots: string;
}

/** @param origin who issued it, for dumps and messages. */
export function identitySecrets({ chain, key, roots }: Identity, origin: string): Resource[] {
  return [certificateSecret(IDENTITY_SECRET, chain, key, origin), rootSecret(ROOT_SECRET, roots, undefined, origin)];
}

export function certificateSecret(name: string, chain: string, key: string, origin: string): Resource {
  return {
    type: 'secret',
    name,
    // Of the certificate: it names its key, and nobody learns of the key from a version.
    version: versionOf(chain),
    json: {
      name,
      tls_certificate: { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } },
    },
    origin,
  };
}

export function rootSecret(name: string, roots: string | 'system', crl: string | undefined, origin: string): Resource {
  const validation_context = {
    ...(roots === 'system' ? { system_root_certs: {} } : { trusted_ca: { inline_string: roots } }),
    ...(crl !== undefined && { crl: { inline_string: crl } }),
  };
  return {
    type: 'secret',
    name,
    version: versionOf(`${roots} ${crl ?? ''}`),
    json: { name, validation_context },
    origin,
  };
}

export function versionOf(text: string | Buffer): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** How long from now until a certificate should be replaced: at `ratio` of its life before its end, give or take. */
export function rotationDelayMs(
  chain: string,
  nowMs: number,
  ratio: number,
  jitter: number,
  random: () => number,
): number {
  const [leaf] = certificatesOf(chain);
  if (leaf === undefined) return 0;
  const lifeMs = leaf.validToMs - leaf.validFromMs;
  const share = Math.min(1, Math.max(0, ratio + jitter * (2 * random() - 1)));
  return Math.max(0, leaf.validToMs - lifeMs * share - nowMs);
}
