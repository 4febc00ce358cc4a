/** Certificate chain and key out of a PKCS #12 bundle (RFC 7292), as PEM. Old ciphers too: bundles live long. */
import { createRequire } from 'node:module';
import type Forge from 'node-forge';
import { MaterialError } from './material_error.ts';

export interface Pkcs12 {
  /** PEM, leaf first. */
  readonly chain: string;
  /** PEM, PKCS #8. */
  readonly key: string;
}

/** @throws without words of the bundle's own: it holds a key. */
export function readPkcs12(bundle: Buffer, password: string | undefined): Pkcs12 {
  // Only where there is such a bundle: 26 ms and 13 MB.
  const forge = createRequire(import.meta.url)('node-forge') as typeof Forge;
  let bags: { readonly keys: Forge.pkcs12.Bag[]; readonly certificates: Forge.pkcs12.Bag[] };
  try {
    bags = bagsOf(forge, bundle, password ?? '');
  } catch {
    throw new MaterialError('pkcs12 is no PKCS #12 bundle, or its password is wrong');
  }
  const [key] = bags.keys;
  if (key === undefined || bags.certificates.length === 0)
    throw new MaterialError('pkcs12 holds no certificate with its key');
  // The leaf is the one that carries the key's id.
  const [id] = (key.attributes as { localKeyId?: string[] }).localKeyId ?? [];
  const isLeaf = ({ attributes }: Forge.pkcs12.Bag): boolean =>
    id !== undefined && (attributes as { localKeyId?: string[] }).localKeyId?.[0] === id;
  const leaf = bags.certificates.find(isLeaf) ?? bags.certificates[0];
  const chain = [leaf, ...bags.certificates.filter((bag) => bag !== leaf)];
  const pem = (label: string, bag: Forge.pkcs12.Bag | undefined): string => {
    const der = forge.asn1.toDer(bag?.asn1 as Forge.asn1.Asn1).getBytes();
    const lines =
      Buffer.from(der, 'latin1')
        .toString('base64')
        .match(/.{1,64}/g) ?? [];
    return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
  };
  return { chain: chain.map((bag) => pem('CERTIFICATE', bag)).join(''), key: pem('PRIVATE KEY', key) };
}

function bagsOf(forge: typeof Forge, bundle: Buffer, password: string) {
  const pki = forge.pki as Record<'certificateFromAsn1' | 'privateKeyFromAsn1', unknown>;
  const kept = { ...pki };
  const asTheyAre = (): never => {
    throw new Error('kept as it is');
  };
  // It knows RSA only, and writes anew what it has read: what it cannot read it leaves in `asn1`, byte by byte.
  pki.certificateFromAsn1 = asTheyAre;
  pki.privateKeyFromAsn1 = asTheyAre;
  try {
    const read = forge.pkcs12.pkcs12FromAsn1(forge.asn1.fromDer(bundle.toString('latin1')), false, password);
    const ofType = (name: string): Forge.pkcs12.Bag[] => {
      const oid = forge.pki.oids[name] as string;
      return read.getBags({ bagType: oid })[oid] ?? [];
    };
    return { keys: [...ofType('pkcs8ShroudedKeyBag'), ...ofType('keyBag')], certificates: ofType('certBag') };
  } finally {
    pki.certificateFromAsn1 = kept.certificateFromAsn1;
    pki.privateKeyFromAsn1 = kept.privateKeyFromAsn1;
  }
}
