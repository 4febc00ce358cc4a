/**
 * OCSP responses that a server shows with its certificate (RFC 6066 §8, RFC 6960). As Envoy: they come from the
 * configuration, are not verified here, and are never fetched.
 */
import type { Certificate } from './certificate.ts';
import { derChildren, readDer } from './der.ts';
import { timeOf } from './der_time.ts';
import { MaterialError } from './material_error.ts';

export interface OcspStaple {
  readonly der: Buffer;
  /** Of the certificate that it speaks of; lower-case hex without leading zero bytes. */
  readonly serial: string;
  /** nextUpdate, epoch milliseconds; without one it is over at once: there is always something newer. */
  readonly validToMs: number;
}

/** Envoy: envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext.OcspStaplePolicy. */
export type StaplePolicy = 'LENIENT_STAPLING' | 'STRICT_STAPLING' | 'MUST_STAPLE';

export type StapleAction = 'staple' | 'omit' | 'fail';

const BASIC_RESPONSE = Buffer.from('2b0601050507300101', 'hex');

/** What a client that asks is told. A certificate that demands a staple makes its policy MUST_STAPLE. */
export function stapleAction(
  staple: OcspStaple | undefined,
  policy: StaplePolicy,
  mustStaple: boolean,
  nowMs: number,
): StapleAction {
  if (staple !== undefined && staple.validToMs > nowMs) return 'staple';
  if (mustStaple || policy === 'MUST_STAPLE') return 'fail';
  return policy === 'STRICT_STAPLING' && staple !== undefined ? 'fail' : 'omit';
}

/** Envoy's complaints about a certificate and its staple; undefined: none. */
export function stapleFault(
  staple: OcspStaple | undefined,
  certificate: Certificate,
  policy: StaplePolicy,
): string | undefined {
  if (staple !== undefined) {
    return staple.serial === certificate.serial ? undefined : 'OCSP response does not match its TLS certificate';
  }
  if (certificate.mustStaple) return 'OCSP response is required for must-staple certificate';
  return policy === 'MUST_STAPLE' ? 'Required OCSP response is missing from TLS context' : undefined;
}

/** @throws where it is no successful response about one certificate. */
export function readOcspResponse(der: Buffer): OcspStaple {
  // OCSPResponse { responseStatus ENUMERATED, [0] { responseType, response } }
  const [status, explicit] = derChildren(readDer(der)?.body ?? NOTHING);
  if (status?.tag !== 0x0a) throw new MaterialError('ocsp_staple is no OCSP response in DER');
  if (status.body[0] !== 0) throw new MaterialError('OCSP response was unsuccessful');
  const [type, response] = derChildren(readDer(explicit?.body ?? NOTHING)?.body ?? NOTHING);
  if (type === undefined || !type.body.equals(BASIC_RESPONSE))
    throw new MaterialError('OCSP response is of an unknown type');
  // BasicOCSPResponse { ResponseData { version?, responderID, producedAt, responses }, … }
  const [data] = derChildren(readDer(response?.body ?? NOTHING)?.body ?? NOTHING);
  const responses = derChildren(data?.body ?? NOTHING).find(({ tag }) => tag === 0x30);
  const [single, another] = derChildren(responses?.body ?? NOTHING);
  if (single === undefined || another !== undefined) {
    throw new MaterialError('OCSP Response must be for one certificate only');
  }
  // SingleResponse { certID { …, serialNumber }, certStatus, thisUpdate, [0] nextUpdate? }
  const parts = derChildren(single.body);
  const serial = derChildren(parts[0]?.body ?? NOTHING)[3];
  const next = parts.slice(3).find(({ tag }) => tag === 0xa0);
  const validToMs = timeOf(readDer(next?.body ?? NOTHING));
  return {
    der,
    serial: (serial?.body.toString('hex') ?? '').replace(/^(?:00)+(?=.)/, ''),
    validToMs: Number.isNaN(validToMs) ? 0 : validToMs,
  };
}

const NOTHING = Buffer.alloc(0);
