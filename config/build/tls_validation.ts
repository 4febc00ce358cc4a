/** envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext: who the peer has to be. */
import { openssl } from '../../proxy/net/tls/openssl.ts';
import { nameMatcher, parseSanMatcher } from '../../proxy/net/tls/san_matcher.ts';
import type { NameMatcher, SpiffeConfig, ValidationConfig } from '../../proxy/net/tls/tls_config.ts';
import type { Fields } from '../../proxy/resource_fields.ts';
import { dataSource, optionalSource, refuse } from './data_source.ts';

const SPIFFE_VALIDATOR = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig';

/** @throws {ConfigError} with the field's path. */
export function buildValidation(fields: Fields): ValidationConfig {
  refuse(fields, ['ca_certificate_provider_instance', 'require_signed_certificate_timestamp']);
  const spiffe = buildSpiffe(fields);
  const native = [
    'allow_expired_certificate',
    'only_verify_leaf_cert_crl',
    'max_verify_depth',
    'custom_validator_config',
  ];
  for (const name of native) {
    // What Node says after the handshake is one fault of a chain: behind one that is forgiven another would hide.
    const value = fields.raw(name);
    if (value !== undefined && value !== false && openssl() === undefined) {
      fields.fail(name, 'is not supported by this build of Node');
    }
  }
  return {
    trustedCa: optionalSource(fields, 'trusted_ca'),
    systemRoots: fields.has('system_root_certs'),
    crl: optionalSource(fields, 'crl'),
    names: spiffe === undefined ? names(fields) : uriNames(fields),
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
    allowExpired: fields.boolean('allow_expired_certificate') ?? false,
    leafCrlOnly: fields.boolean('only_verify_leaf_cert_crl') ?? false,
    maxDepth: fields.integer('max_verify_depth', 0, 100),
    spiffe,
    acceptUntrusted:
      fields.oneOf('trust_chain_verification', ['VERIFY_TRUST_CHAIN', 'ACCEPT_UNTRUSTED'], 'VERIFY_TRUST_CHAIN') ===
      'ACCEPT_UNTRUSTED',
  };
}

function names(fields: Fields): NameMatcher[] {
  return [
    ...fields.messages('match_typed_subject_alt_names').map(parseSanMatcher),
    ...fields.messages('match_subject_alt_names').map((matcher) => nameMatcher(matcher, undefined)),
  ];
}

/** A SPIFFE certificate is known by its URI; matchers of other kinds say nothing, as in Envoy. */
function uriNames(fields: Fields): NameMatcher[] {
  return fields
    .messages('match_typed_subject_alt_names')
    .filter((entry) => entry.raw('san_type') === 'URI')
    .map(parseSanMatcher);
}

function buildSpiffe(fields: Fields): SpiffeConfig | undefined {
  const extension = fields.message('custom_validator_config');
  if (extension === undefined) return undefined;
  const any = extension.requiredMessage('typed_config');
  const typeUrl = any.requiredString('@type');
  if (typeUrl !== SPIFFE_VALIDATOR) any.fail('@type', `"${typeUrl}" is not supported`);
  const bundles = optionalSource(any, 'trust_bundles');
  const domains = any.messages('trust_domains').map((domain) => ({
    name: domain.requiredString('name'),
    bundle: dataSource(domain.requiredMessage('trust_bundle')),
  }));
  const seen = new Set<string>();
  for (const { name } of domains) {
    if (seen.has(name)) {
      any.fail('trust_domains', `Multiple trust bundles are given for one trust domain for ${name}`);
    }
    seen.add(name);
  }
  if (domains.length === 0 && bundles === undefined) any.fail('trust_domains', 'must have at least one item');
  return { domains: bundles === undefined ? domains : [], bundles };
}

/** Whether not every certificate at all would do, or that is what is wanted. */
export function judges(validation: ValidationConfig): boolean {
  const { trustedCa, systemRoots, spiffe, certificateHashes, publicKeyHashes, acceptUntrusted } = validation;
  return (
    acceptUntrusted ||
    systemRoots ||
    spiffe !== undefined ||
    trustedCa !== undefined ||
    certificateHashes.length + publicKeyHashes.length > 0
  );
}

/** Names without roots say nothing: anybody can write them into a certificate of their own. */
export function checkedValidation(validation: ValidationConfig, fields: Fields): ValidationConfig {
  const { trustedCa, systemRoots, spiffe, names, crl } = validation;
  const rooted = trustedCa !== undefined || systemRoots;
  if (names.length > 0 && !rooted && spiffe === undefined) {
    fields.fail(
      'match_typed_subject_alt_names',
      'SAN-based verification of peer certificates without trusted CA is insecure and not allowed',
    );
  }
  if (crl !== undefined && !rooted) fields.fail('crl', 'needs trusted_ca');
  return validation;
}
