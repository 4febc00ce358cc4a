/** envoy.extensions.transport_sockets.tls.v3: contexts of both sides, and secrets. What is not executed is refused by name. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { getCiphers } from 'node:tls';
import { ConfigError } from '../../proxy/config_error.ts';
import { parseStringMatcher } from '../../proxy/http/matchers.ts';
import { certificatesOf, type SubjectAltName } from '../../proxy/net/tls/certificate.ts';
import { matchesDnsName } from '../../proxy/net/tls/dns_names.ts';
import type {
  CertificateConfig,
  CertificateReference,
  CommonTlsConfig,
  DataSource,
  DownstreamTlsConfig,
  NameMatcher,
  Secret,
  TlsVersion,
  UpstreamTlsConfig,
  ValidationConfig,
} from '../../proxy/net/tls/tls_config.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import type { Json } from '../resources.ts';

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
  refuse(fields, ['session_ticket_keys_sds_secret_config']);
  if (fields.boolean('require_sni')) fields.fail('require_sni', 'is not supported: match the chain by server_names');
  if (fields.oneOf('ocsp_staple_policy', OCSP_POLICIES, 'LENIENT_STAPLING') !== 'LENIENT_STAPLING') {
    fields.fail('ocsp_staple_policy', 'OCSP stapling is not supported');
  }
  const common = buildCommon(fields.messageOrEmpty('common_tls_context'), origin, 'TLSv1.3');
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
  const keys = fields.message('session_ticket_keys');
  const timeoutMs = fields.durationMs('session_timeout');
  return {
    common,
    requireClientCertificate,
    tickets: !(fields.boolean('disable_stateless_session_resumption') ?? false),
    ticketKeys: keys?.messages('keys').map((key) => dataSource(key)),
    sessionTimeoutS: timeoutMs === undefined ? undefined : Math.floor(timeoutMs / 1000),
    handshakeTimeoutMs: handshakeTimeoutMs ?? DEFAULT_HANDSHAKE_MS,
  };
}

const OCSP_POLICIES = ['LENIENT_STAPLING', 'STRICT_STAPLING', 'MUST_STAPLE'] as const;

/** envoy.extensions.transport_sockets.tls.v3.Secret. @throws {ConfigError} with the field's path. */
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

/** @throws {ConfigError} where a key does not fit its certificate, or neither can be read. Says nothing of the key itself. */
export function checkKeyPair(chainPem: string, keyPem: string, password: string | undefined, path = ''): void {
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(chainPem);
  } catch (cause) {
    throw new ConfigError(path, 'certificate_chain is no PEM certificate', { cause });
  }
  let fits = false;
  try {
    fits = certificate.checkPrivateKey(
      createPrivateKey({ key: keyPem, ...(password !== undefined && { passphrase: password }) }),
    );
  } catch {
    // The library's own words may quote what it was given.
    throw new ConfigError(path, 'private_key is no PEM private key, or its password is wrong');
  }
  if (!fits) throw new ConfigError(path, 'private_key does not belong to certificate_chain');
}

/** A pair that does not fit, or roots that are none, must not replace good ones. @throws {ConfigError} */
export function checkSecret(secret: Secret): void {
  if (secret.kind === 'certificate') {
    const { chain, key, password } = secret.certificate;
    if (chain.kind === 'inline' && key.kind === 'inline' && password?.kind !== 'file') {
      checkKeyPair(
        chain.bytes.toString('latin1'),
        key.bytes.toString('latin1'),
        password?.bytes.toString(),
        'tls_certificate',
      );
    }
  } else if (secret.kind === 'validation') {
    const { trustedCa } = secret.validation;
    if (trustedCa?.kind !== 'inline') return;
    const roots = certificatesOf(trustedCa.bytes.toString('latin1'));
    if (roots.length === 0) throw new ConfigError('validation_context.trusted_ca', 'holds no PEM certificate');
  }
}

/** `newest`: TLS_AUTO's. */
function buildCommon(fields: Fields, origin: string, newest: TlsVersion): CommonTlsConfig {
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
    certificates: buildCertificates(fields),
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

function buildCertificates(fields: Fields): CertificateReference[] {
  const inline = fields.messages('tls_certificates').map((entry): CertificateReference => {
    const certificate = buildCertificate(entry);
    const { chain, key, password } = certificate;
    if (chain.kind === 'inline' && key.kind === 'inline' && password?.kind !== 'file') {
      checkKeyPair(chain.bytes.toString(), key.bytes.toString(), password?.bytes.toString(), entry.path);
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

function buildCertificate(fields: Fields): CertificateConfig {
  refuse(fields, ['private_key_provider', 'pkcs12', 'ocsp_staple', 'signed_certificate_timestamp']);
  return {
    chain: dataSource(fields.requiredMessage('certificate_chain')),
    key: dataSource(fields.requiredMessage('private_key')),
    password: fields.has('password') ? dataSource(fields.requiredMessage('password')) : undefined,
  };
}

function buildValidation(fields: Fields): ValidationConfig {
  refuse(fields, [
    'ca_certificate_provider_instance',
    'custom_validator_config',
    'max_verify_depth',
    'require_signed_certificate_timestamp',
    'only_verify_leaf_cert_crl',
    // OpenSSL tells one fault of a chain: behind an expiry that is forgiven a forged root would hide.
    'allow_expired_certificate',
  ]);
  const source = (name: string): DataSource | undefined =>
    fields.has(name) ? dataSource(fields.requiredMessage(name)) : undefined;
  return {
    trustedCa: source('trusted_ca'),
    systemRoots: fields.has('system_root_certs'),
    crl: source('crl'),
    names: [
      ...fields.messages('match_typed_subject_alt_names').map(typedMatcher),
      ...fields.messages('match_subject_alt_names').map((matcher) => nameMatcher(matcher, undefined)),
    ],
    certificateHashes: fields.strings('verify_certificate_hash').map((hash, index) => {
      const hex = hash.replaceAll(':', '').toLowerCase();
      if (!/^[0-9a-f]{64}$/.test(hex)) fields.fail(`verify_certificate_hash[${index}]`, 'Invalid hex-encoded SHA-256');
      return hex;
    }),
    publicKeyHashes: fields.strings('verify_certificate_spki').map((hash, index) => {
      if (Buffer.from(hash, 'base64').length !== 32) {
        fields.fail(`verify_certificate_spki[${index}]`, 'Invalid base64-encoded SHA-256');
      }
      return hash;
    }),
    acceptUntrusted:
      fields.oneOf('trust_chain_verification', ['VERIFY_TRUST_CHAIN', 'ACCEPT_UNTRUSTED'], 'VERIFY_TRUST_CHAIN') ===
      'ACCEPT_UNTRUSTED',
  };
}

function judges(validation: ValidationConfig): boolean {
  const { trustedCa, systemRoots, certificateHashes, publicKeyHashes, acceptUntrusted } = validation;
  return (
    acceptUntrusted || systemRoots || trustedCa !== undefined || certificateHashes.length + publicKeyHashes.length > 0
  );
}

/** Names without roots say nothing: anybody can write them into a certificate of their own. */
function checkedValidation(validation: ValidationConfig, fields: Fields): ValidationConfig {
  if (validation.names.length > 0 && validation.trustedCa === undefined && !validation.systemRoots) {
    fields.fail(
      'match_typed_subject_alt_names',
      'SAN-based verification of peer certificates without trusted CA is insecure and not allowed',
    );
  }
  if (validation.crl !== undefined && validation.trustedCa === undefined && !validation.systemRoots) {
    fields.fail('crl', 'needs trusted_ca');
  }
  return validation;
}

const SAN_TYPES = { EMAIL: 'email', DNS: 'dns', URI: 'uri', IP_ADDRESS: 'ip' } as const;

function typedMatcher(fields: Fields): NameMatcher {
  if (fields.raw('san_type') === 'OTHER_NAME') fields.fail('san_type', 'OTHER_NAME is not supported');
  const type = fields.oneOf(
    'san_type',
    ['EMAIL', 'DNS', 'URI', 'IP_ADDRESS', 'SAN_TYPE_UNSPECIFIED'],
    'SAN_TYPE_UNSPECIFIED',
  );
  if (type === 'SAN_TYPE_UNSPECIFIED') return fields.fail('san_type', 'is required');
  return nameMatcher(fields.requiredMessage('matcher'), SAN_TYPES[type]);
}

/** Names are compared as the bytes that stand in the certificate; a DNS name may be a wildcard. */
function nameMatcher(matcher: Fields, type: SubjectAltName['type'] | undefined): NameMatcher {
  const parsed = parseStringMatcher(matcher);
  const exact = matcher.string('exact');
  const text = exact ?? matcherText(matcher);
  return {
    text,
    matches(name) {
      if (name.type === 'other' || (type !== undefined && name.type !== type)) return false;
      if (name.type === 'dns' && exact !== undefined) return matchesDnsName(name.value, exact);
      return parsed.matches(name.value);
    },
  };
}

function matcherText(matcher: Fields): string {
  const prefix = matcher.string('prefix');
  if (prefix !== undefined) return `${prefix}*`;
  const suffix = matcher.string('suffix');
  if (suffix !== undefined) return `*${suffix}`;
  const contains = matcher.string('contains');
  return contains === undefined ? `regex ${matcher.message('safe_regex')?.string('regex') ?? ''}` : `*${contains}*`;
}

function secretName(fields: Fields): string {
  return fields.requiredString('name');
}

/** envoy.config.core.v3.DataSource. Never quotes what it holds. */
export function dataSource(fields: Fields): DataSource {
  const path = fields.string('filename');
  if (path !== undefined) {
    return path === '' ? fields.fail('filename', 'is required and must not be empty') : { kind: 'file', path };
  }
  const base64 = fields.raw('inline_bytes');
  if (typeof base64 === 'string') return { kind: 'inline', bytes: Buffer.from(base64, 'base64') };
  const text = fields.raw('inline_string');
  if (typeof text === 'string') return { kind: 'inline', bytes: Buffer.from(text) };
  const variable = fields.string('environment_variable');
  if (variable !== undefined) {
    const value = process.env[variable];
    if (value === undefined) fields.fail('environment_variable', `${variable} is not set`);
    return { kind: 'inline', bytes: Buffer.from(value ?? '') };
  }
  return fields.fail('filename', 'one of filename, inline_bytes, inline_string, environment_variable is required');
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

function refuse(fields: Fields, names: readonly string[]): void {
  for (const name of names) {
    const value = fields.raw(name);
    if (value === undefined || value === false || (Array.isArray(value) && value.length === 0)) continue;
    fields.fail(name, 'is not supported');
  }
}
