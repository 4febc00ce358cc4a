/** envoy.extensions.transport_sockets.tls.v3: contexts of both sides. What is not executed is refused by name. */
import { getCiphers } from 'node:tls';
import type { StaplePolicy } from '../../proxy/net/tls/ocsp_staple.ts';
import type {
  CertificateReference,
  CommonTlsConfig,
  DownstreamTlsConfig,
  TicketKeysReference,
  TlsVersion,
  UpstreamTlsConfig,
} from '../../proxy/net/tls/tls_config.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { dataSource, refuse } from './data_source.ts';
import { buildCertificate, checkCertificate } from './tls_certificate.ts';
import { buildValidation, checkedValidation, judges } from './tls_validation.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

const DEFAULT_HANDSHAKE_MS = 15_000;

/** @throws {ConfigError} with the field's path. */
export function buildUpstreamTls(json: unknown, path: string, origin: string): UpstreamTlsConfig {
  const fields = new Fields(json, path);
  if (fields.boolean('allow_renegotiation')) fields.fail('allow_renegotiation', 'TLS renegotiation is not supported');
  if (fields.boolean('enforce_rsa_key_usage')) fields.fail('enforce_rsa_key_usage', 'is not supported');
  const sni = fields.string('sni') ?? '';
  if (sni.length > 255) fields.fail('sni', `must have at most 255 characters, got ${sni.length}`);
  return {
    common: buildCommon(fields.messageOrEmpty('common_tls_context'), origin, 'TLSv1.2'),
    sni,
    autoHostSni: fields.boolean('auto_host_sni') ?? false,
    autoSniSan: fields.boolean('auto_sni_san_validation') ?? false,
    maxSessionKeys: fields.integer('max_session_keys') ?? 1,
  };
}

/** @throws {ConfigError} with the field's path. */
export function buildDownstreamTls(
  json: unknown,
  path: string,
  origin: string,
  handshakeTimeoutMs: number | undefined,
): DownstreamTlsConfig {
  const fields = new Fields(json, path);
  refuseUnexecuted(fields, 'DownstreamTls');
  if (fields.boolean('require_sni')) fields.fail('require_sni', 'is not supported: match the chain by server_names');
  const staplePolicy = fields.oneOf('ocsp_staple_policy', STAPLE_POLICIES, 'LENIENT_STAPLING');
  const common = buildCommon(fields.messageOrEmpty('common_tls_context'), origin, 'TLSv1.3', staplePolicy);
  if (common.certificates.length === 0) {
    fields.fail('common_tls_context', 'No TLS certificates found for server context');
  }
  const requireClientCertificate = fields.boolean('require_client_certificate') ?? false;
  if (requireClientCertificate && common.validation === undefined) {
    fields.fail('require_client_certificate', 'needs a validation context to verify the certificate against');
  }
  const inline = common.validation?.secret === undefined ? common.validation?.inline : undefined;
  if (requireClientCertificate && inline !== undefined && !judges(inline)) {
    fields.fail('require_client_certificate', 'needs trusted_ca: any certificate at all would do');
  }
  const timeoutMs = fields.durationMs('session_timeout');
  return {
    common,
    requireClientCertificate,
    staplePolicy,
    tickets: !(fields.boolean('disable_stateless_session_resumption') ?? false),
    ticketKeys: ticketKeys(fields),
    sessionTimeoutS: timeoutMs === undefined ? undefined : Math.floor(timeoutMs / 1000),
    handshakeTimeoutMs: handshakeTimeoutMs ?? DEFAULT_HANDSHAKE_MS,
  };
}

function ticketKeys(fields: Fields): TicketKeysReference | undefined {
  const named = fields.message('session_ticket_keys_sds_secret_config');
  if (named !== undefined) return { kind: 'secret', name: secretName(named) };
  const inline = fields.message('session_ticket_keys');
  if (inline === undefined) return undefined;
  const keys = inline.messages('keys').map((key) => dataSource(key));
  return keys.length === 0 ? inline.fail('keys', 'must have at least one item') : { kind: 'inline', keys };
}

const STAPLE_POLICIES = ['LENIENT_STAPLING', 'STRICT_STAPLING', 'MUST_STAPLE'] as const;

/** `newest`: TLS_AUTO's. `staplePolicy`: of a server. */
function buildCommon(fields: Fields, origin: string, newest: TlsVersion, staplePolicy?: StaplePolicy): CommonTlsConfig {
  refuse(fields, [
    'tls_certificate_certificate_provider',
    'tls_certificate_certificate_provider_instance',
    'tls_certificate_provider_instance',
    'custom_tls_certificate_selector',
    'custom_handshaker',
    'key_log',
    'validation_context_certificate_provider',
    'validation_context_certificate_provider_instance',
  ]);
  const params = fields.message('tls_params');
  if (params !== undefined) refuse(params, ['compliance_policies']);
  const minVersion = version(params, 'tls_minimum_protocol_version', 'TLSv1.2');
  const maxVersion = version(params, 'tls_maximum_protocol_version', newest);
  if (minVersion > maxVersion) params?.fail('tls_minimum_protocol_version', `is above ${maxVersion}, the maximum`);
  return {
    certificates: buildCertificates(fields, staplePolicy),
    validation: buildValidationReference(fields),
    ciphers: ciphers(params),
    curves: joined(params, 'ecdh_curves'),
    signatureAlgorithms: joined(params, 'signature_algorithms'),
    minVersion,
    maxVersion,
    alpn: fields.strings('alpn_protocols'),
    origin,
  };
}

function buildCertificates(fields: Fields, staplePolicy: StaplePolicy | undefined): CertificateReference[] {
  const entries = fields.messages('tls_certificates');
  const inline = entries.map((entry): CertificateReference => {
    const certificate = buildCertificate(entry);
    checkCertificate(certificate, entry.path, staplePolicy);
    // The client's algorithms decide which is shown, after Node has asked for the response.
    if (certificate.ocspStaple !== undefined && entries.length > 1) {
      entry.fail('ocsp_staple', 'is not supported beside other certificates');
    }
    return { kind: 'inline', certificate };
  });
  const named = fields
    .messages('tls_certificate_sds_secret_configs')
    .map((entry): CertificateReference => ({ kind: 'secret', name: secretName(entry) }));
  if (inline.length > 0 && named.length > 0) {
    fields.fail('tls_certificates', 'only one of tls_certificates and tls_certificate_sds_secret_configs may be given');
  }
  return [...inline, ...named];
}

function buildValidationReference(fields: Fields): CommonTlsConfig['validation'] {
  const inline = fields.message('validation_context');
  if (inline !== undefined) return { inline: checkedValidation(buildValidation(inline), inline), secret: undefined };
  const named = fields.message('validation_context_sds_secret_config');
  if (named !== undefined) return { inline: undefined, secret: secretName(named) };
  const combined = fields.message('combined_validation_context');
  if (combined === undefined) return undefined;
  refuse(combined, ['validation_context_certificate_provider', 'validation_context_certificate_provider_instance']);
  return {
    inline: buildValidation(combined.messageOrEmpty('default_validation_context')),
    secret: secretName(combined.requiredMessage('validation_context_sds_secret_config')),
  };
}

function secretName(fields: Fields): string {
  return fields.requiredString('name');
}

const VERSIONS = { TLSv1_0: 'TLSv1', TLSv1_1: 'TLSv1.1', TLSv1_2: 'TLSv1.2', TLSv1_3: 'TLSv1.3' } as const;

function version(params: Fields | undefined, name: string, absent: TlsVersion): TlsVersion {
  const given = params?.oneOf(name, ['TLS_AUTO', 'TLSv1_0', 'TLSv1_1', 'TLSv1_2', 'TLSv1_3'], 'TLS_AUTO') ?? 'TLS_AUTO';
  return given === 'TLS_AUTO' ? absent : VERSIONS[given];
}

function joined(params: Fields | undefined, name: string): string | undefined {
  const list = params?.strings(name) ?? [];
  return list.length === 0 ? undefined : list.join(':');
}

/** `[A|B]` are equals to BoringSSL; here the first is preferred. */
function ciphers(params: Fields | undefined): string | undefined {
  const names = (params?.strings('cipher_suites') ?? []).flatMap((entry) =>
    entry
      .replace(/^\[|\]$/g, '')
      .split(/[|:]/)
      .filter((name) => name !== ''),
  );
  if (names.length === 0) return undefined;
  const known = new Set(getCiphers());
  for (const name of names) {
    if (/^[!+\-@]/.test(name) || known.has(name.toLowerCase())) continue;
    params?.fail('cipher_suites', `"${name}" is not a cipher of this version`);
  }
  return names.join(':');
}
