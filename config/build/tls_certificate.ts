/** envoy.extensions.transport_sockets.tls.v3.TlsCertificate: what a side shows, read and checked as far as it is there. */
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { ConfigError } from '../../proxy/config_error.ts';
import { Certificate, certificatesOf } from '../../proxy/net/tls/certificate.ts';
import { MaterialError } from '../../proxy/net/tls/material_error.ts';
import { readOcspResponse, stapleFault, type StaplePolicy } from '../../proxy/net/tls/ocsp_staple.ts';
import { readPkcs12 } from '../../proxy/net/tls/pkcs12.ts';
import type { CertificateConfig, CertificateExtras } from '../../proxy/net/tls/tls_config.ts';
import type { Fields } from '../../proxy/resource_fields.ts';
import { dataSource, optionalSource, refuse } from './data_source.ts';

/** @throws {ConfigError} with the field's path. */
export function buildCertificate(fields: Fields): CertificateConfig {
  refuse(fields, ['signed_certificate_timestamp']);
  const provider = fields.message('private_key_provider');
  // There is no hardware to ask here. As Envoy without it: the plain key, where falling back is allowed.
  if (provider !== undefined && provider.boolean('fallback') !== true) {
    fields.fail('private_key_provider', 'is not supported without fallback: true');
  }
  if (fields.message('ocsp_staple')?.has('inline_string') === true) {
    fields.fail('ocsp_staple', 'OCSP staple cannot be provided via inline_string');
  }
  const extras: CertificateExtras = {
    password: optionalSource(fields, 'password'),
    ocspStaple: optionalSource(fields, 'ocsp_staple'),
  };
  if (!fields.has('pkcs12')) {
    const chain = dataSource(fields.requiredMessage('certificate_chain'));
    return { ...extras, kind: 'pem', chain, key: dataSource(fields.requiredMessage('private_key')) };
  }
  for (const other of ['certificate_chain', 'private_key', 'private_key_provider']) {
    if (fields.has(other)) fields.fail('pkcs12', `Certificate configuration can't have both pkcs12 and ${other}`);
  }
  return { ...extras, kind: 'pkcs12', bundle: dataSource(fields.requiredMessage('pkcs12')) };
}

/** What does not fit must not replace what does. What stands in files is checked when they are read. @throws {ConfigError} */
export function checkCertificate(config: CertificateConfig, path: string, policy: StaplePolicy | undefined): void {
  const { password, ocspStaple } = config;
  if (password?.kind === 'file') return;
  const pair = pairOf(config, password?.bytes.toString(), path);
  if (pair === undefined) return;
  checkKeyPair(pair.chain, pair.key, pair.password, path);
  // A secret is not told which side it is for: what its staple must be is known where it is used.
  if (policy === undefined || ocspStaple?.kind === 'file') return;
  try {
    const staple = ocspStaple && readOcspResponse(ocspStaple.bytes);
    const [own] = certificatesOf(pair.chain);
    const fault = stapleFault(staple, own ?? new Certificate(Buffer.alloc(0)), policy);
    if (fault !== undefined) throw new ConfigError(path, fault);
  } catch (error) {
    throw error instanceof MaterialError ? new ConfigError(`${path}.ocsp_staple`, error.message) : error;
  }
}

/** undefined: some of it stands in a file. */
function pairOf(
  config: CertificateConfig,
  password: string | undefined,
  path: string,
): { readonly chain: string; readonly key: string; readonly password: string | undefined } | undefined {
  if (config.kind === 'pem') {
    const { chain, key } = config;
    if (chain.kind === 'file' || key.kind === 'file') return undefined;
    return { chain: chain.bytes.toString('latin1'), key: key.bytes.toString('latin1'), password };
  }
  if (config.bundle.kind === 'file') return undefined;
  try {
    return { ...readPkcs12(config.bundle.bytes, password), password: undefined };
  } catch (error) {
    throw error instanceof MaterialError ? new ConfigError(path, error.message) : error;
  }
}

/** @throws {ConfigError} where a key does not fit its certificate, or neither can be read. Says nothing of the key itself. */
function checkKeyPair(chainPem: string, keyPem: string, password: string | undefined, path: string): void {
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
