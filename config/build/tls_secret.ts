/** envoy.extensions.transport_sockets.tls.v3.Secret. */
import { ConfigError } from '../../proxy/config_error.ts';
import { certificatesOf } from '../../proxy/net/tls/certificate.ts';
import type { Secret } from '../../proxy/net/tls/tls_config.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { Json } from '../resources.ts';
import { dataSource } from './data_source.ts';
import { buildCertificate, checkCertificate } from './tls_certificate.ts';
import { buildValidation } from './tls_validation.ts';

/** @throws {ConfigError} with the field's path. */
export function buildSecret(json: Json): Secret {
  const fields = new Fields(json);
  const certificate = fields.message('tls_certificate');
  if (certificate !== undefined) return { kind: 'certificate', certificate: buildCertificate(certificate) };
  const validation = fields.message('validation_context');
  if (validation !== undefined) return { kind: 'validation', validation: buildValidation(validation) };
  const keys = fields.message('session_ticket_keys');
  if (keys !== undefined) return { kind: 'ticket keys', keys: keys.messages('keys').map((key) => dataSource(key)) };
  const generic = fields.message('generic_secret');
  if (generic !== undefined) return { kind: 'bytes', bytes: dataSource(generic.requiredMessage('secret')) };
  return fields.fail(
    'tls_certificate',
    'one of tls_certificate, validation_context, session_ticket_keys, generic_secret is required',
  );
}

/** A pair that does not fit, or roots that are none, must not replace good ones. @throws {ConfigError} */
export function checkSecret(secret: Secret): void {
  if (secret.kind === 'certificate') {
    checkCertificate(secret.certificate, 'tls_certificate', undefined);
  } else if (secret.kind === 'validation') {
    const { trustedCa } = secret.validation;
    if (trustedCa?.kind !== 'inline') return;
    const roots = certificatesOf(trustedCa.bytes.toString('latin1'));
    if (roots.length === 0) throw new ConfigError('validation_context.trusted_ca', 'holds no PEM certificate');
  }
}
