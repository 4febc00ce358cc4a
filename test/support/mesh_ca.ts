/** Certificates for tests: an authority, and whatever it should and should not sign. */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import type { Json } from '../../config/resources.ts';
import {
  type CertificateRequest,
  issueCertificate,
  type Issuer,
  selfSignedAuthority,
  pem,
} from '../../proxy/identity/certificates.ts';
import { bits, integer, sequence, time } from '../../proxy/identity/der_writer.ts';
import { publicKeyDer, signatureAlgorithm, signDer } from '../../proxy/identity/keys.ts';

const HOUR_MS = 3_600_000;

export interface KeyPair {
  /** PEM, leaf first. */
  readonly chain: string;
  /** PEM. */
  readonly key: string;
}

export class MeshCa {
  readonly pem: string;
  readonly issuer: Issuer;

  constructor(name = 'test CA') {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const made = selfSignedAuthority(privateKey, { organization: name, lifetimeMs: 24 * HOUR_MS });
    this.pem = made.pem;
    this.issuer = made.issuer;
  }

  /** One URI name, valid for an hour. */
  issue(uri: string | undefined, more: Partial<CertificateRequest> & { readonly rsa?: boolean } = {}): KeyPair {
    const { rsa, ...rest } = more;
    const { privateKey } =
      rsa === true
        ? generateKeyPairSync('rsa', { modulusLength: 2048 })
        : generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const chain = issueCertificate(
      { publicKey: publicKeyDer(privateKey), lifetimeMs: HOUR_MS, ...(uri !== undefined && { uris: [uri] }), ...rest },
      this.issuer,
    );
    return { chain, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
  }

  /** Signed by itself, claiming a name of this mesh. */
  selfSigned(uri: string): KeyPair {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const publicKey = publicKeyDer(privateKey);
    const itself: Issuer = { key: privateKey, name: sequence(), publicKey };
    const chain = issueCertificate({ publicKey, uris: [uri], lifetimeMs: HOUR_MS }, itself);
    return { chain, key: privateKey.export({ type: 'pkcs8', format: 'pem' }) as string };
  }

  /** A CRL with these serial numbers, PEM. */
  revocations(serials: readonly Buffer[]): string {
    const { key, name } = this.issuer;
    const now = Date.now();
    const revoked = serials.map((serial) => sequence(integer(serial), time(now - 1000)));
    const body = sequence(
      integer(Buffer.from([1])),
      signatureAlgorithm(key),
      name,
      time(now - 1000),
      time(now + HOUR_MS),
      ...(revoked.length > 0 ? [sequence(...revoked)] : []),
    );
    return pem('X509 CRL', sequence(body, signatureAlgorithm(key), bits(signDer(body, key))));
  }
}

export function keyOf({ key }: KeyPair): KeyObject {
  return createPrivateKey(key);
}

/** TlsCertificate. */
export function inlineCertificate({ chain, key }: KeyPair): Json {
  return { certificate_chain: { inline_string: chain }, private_key: { inline_string: key } };
}

const TYPE = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3';

export interface UpstreamTlsOptions {
  readonly own?: KeyPair | undefined;
  readonly roots?: string | undefined;
  readonly uris?: readonly string[];
  readonly alpn?: readonly string[];
  /** Default TLSv1_3, as istiod has it; TLS_AUTO: Envoy's own, 1.2. */
  readonly newest?: 'TLSv1_2' | 'TLSv1_3' | 'TLS_AUTO';
  readonly curves?: readonly string[];
  readonly validation?: Json;
  readonly common?: Json;
  readonly more?: Json;
}

/** transport_socket of a cluster. */
export function upstreamTls(options: UpstreamTlsOptions): Json {
  const { own, roots, uris = [], alpn = [], newest = 'TLSv1_3', curves, validation, common, more } = options;
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': `${TYPE}.UpstreamTlsContext`,
      common_tls_context: {
        tls_params: { tls_maximum_protocol_version: newest, ...(curves && { ecdh_curves: curves }) },
        ...(own !== undefined && { tls_certificates: [inlineCertificate(own)] }),
        ...((roots !== undefined || validation !== undefined) && {
          validation_context: {
            ...(roots !== undefined && { trusted_ca: { inline_string: roots } }),
            ...(uris.length > 0 && {
              match_typed_subject_alt_names: uris.map((exact) => ({ san_type: 'URI', matcher: { exact } })),
            }),
            ...validation,
          },
        }),
        ...(alpn.length > 0 && { alpn_protocols: alpn }),
        ...common,
      },
      ...more,
    },
  };
}

export interface DownstreamTlsOptions {
  readonly own: KeyPair;
  readonly roots?: string;
  /** A prefix of the URI name. */
  readonly prefix?: string;
  readonly alpn?: readonly string[];
  readonly validation?: Json;
  readonly more?: Json;
}

/** transport_socket of a filter chain; a client certificate is wanted where roots are given. */
export function downstreamTls({ own, roots, prefix, alpn = [], validation, more }: DownstreamTlsOptions): Json {
  return {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': `${TYPE}.DownstreamTlsContext`,
      common_tls_context: {
        tls_certificates: [inlineCertificate(own)],
        ...(roots !== undefined && {
          validation_context: {
            trusted_ca: { inline_string: roots },
            ...(prefix !== undefined && {
              match_typed_subject_alt_names: [{ san_type: 'URI', matcher: { prefix } }],
            }),
            ...validation,
          },
        }),
        ...(alpn.length > 0 && { alpn_protocols: alpn }),
      },
      ...(roots !== undefined && { require_client_certificate: true }),
      ...more,
    },
  };
}
