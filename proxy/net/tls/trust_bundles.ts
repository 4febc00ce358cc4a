/** Roots and CRLs out of what the configuration calls a trusted CA or a trust bundle. */
import { pem } from '../../identity/certificates.ts';
import { MaterialError } from './material_error.ts';

export interface Trust {
  /** PEM; one or more certificates each. */
  readonly roots: readonly string[];
  /** PEM, one each. */
  readonly crls: readonly string[];
}

export const NO_TRUST: Trust = { roots: [], crls: [] };

/** As Envoy: a PEM text may hold CRLs beside certificates, and then revocation is checked. */
export function trustOf(text: string): Trust {
  return { roots: blocks(text, 'CERTIFICATE|TRUSTED CERTIFICATE|X509 CERTIFICATE'), crls: crlsOf(text) };
}

/** Node reads the first of a text only. */
export function crlsOf(text: string): string[] {
  return blocks(text, 'X509 CRL');
}

/**
 * SPIFFE Trust Domain and Bundle, as Envoy's `trust_bundles` has several: `{ "trust_domains": { NAME: { "keys": [
 * { "use": "x509-svid", "x5c": [BASE64] } ] } } }`. @throws with a reason
 */
export function bundleMap(json: string): Map<string, Trust> {
  let parsed: unknown;
  try {
    parsed = JSON.parse(json);
  } catch {
    throw new MaterialError('trust_bundles is no JSON');
  }
  const domains = member(parsed, 'trust_domains');
  if (domains === null || typeof domains !== 'object') throw new MaterialError('trust_bundles has no trust_domains');
  const map = new Map<string, Trust>();
  for (const [name, bundle] of Object.entries(domains)) {
    const keys = member(bundle, 'keys');
    if (!Array.isArray(keys)) throw new MaterialError(`trust_bundles has no keys for trust domain "${name}"`);
    const roots = keys.flatMap((key: unknown): string[] => {
      const chain = member(key, 'x5c');
      if (member(key, 'use') !== 'x509-svid' || !Array.isArray(chain)) return [];
      return chain.map((der: unknown) => pem('CERTIFICATE', Buffer.from(String(der), 'base64')));
    });
    if (roots.length === 0) throw new MaterialError(`trust_bundles has no x509-svid key for trust domain "${name}"`);
    map.set(name, { roots, crls: [] });
  }
  return map;
}

function member(value: unknown, name: string): unknown {
  return value !== null && typeof value === 'object' ? (value as Record<string, unknown>)[name] : undefined;
}

function blocks(text: string, label: string): string[] {
  return text.match(new RegExp(`-----BEGIN (${label})-----[\\s\\S]*?-----END \\1-----`, 'g')) ?? [];
}
