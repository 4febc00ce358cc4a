/** OCSP responses as a responder of the authority would give them (RFC 6960 §4.2.1). */
import { createHash, X509Certificate } from 'node:crypto';
import { bits, der, integer, octets, oid, sequence } from '../../proxy/identity/der_writer.ts';
import { signatureAlgorithm, signDer } from '../../proxy/identity/keys.ts';
import type { KeyPair, MeshCa } from './mesh_ca.ts';

const SHA1 = '1.3.14.3.2.26';
const BASIC = '1.3.6.1.5.5.7.48.1.1';
const HOUR_MS = 3_600_000;

/** DER: the certificate is good, from an hour ago on. `nextMs`: until when; undefined: it does not say. */
export function ocspResponse(ca: MeshCa, { chain }: KeyPair, nextMs: number | undefined): Buffer {
  const { issuer } = ca;
  const hash = (bytes: Buffer): Buffer => octets(createHash('sha1').update(bytes).digest());
  const serial = integer(Buffer.from(new X509Certificate(chain).serialNumber, 'hex'));
  const id = sequence(sequence(oid(SHA1)), hash(issuer.name), hash(issuer.publicKey), serial);
  const from = generalized(Date.now() - HOUR_MS);
  const single = sequence(id, der(0x80), from, ...(nextMs === undefined ? [] : [der(0xa0, generalized(nextMs))]));
  const data = sequence(der(0xa1, issuer.name), from, sequence(single));
  const basic = sequence(data, signatureAlgorithm(issuer.key), bits(signDer(data, issuer.key)));
  return sequence(der(0x0a, Buffer.from([0])), der(0xa0, sequence(oid(BASIC), octets(basic))));
}

function generalized(epochMs: number): Buffer {
  return der(0x18, Buffer.from(`${new Date(epochMs).toISOString().replace(/[-:T]|\.\d{3}Z/g, '')}Z`));
}
