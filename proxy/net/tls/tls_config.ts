/** TLS contexts of clusters and filter chains, read. Envoy: envoy.extensions.transport_sockets.tls.v3. */
import type { SubjectAltName } from './certificate.ts';
import type { StaplePolicy } from './ocsp_staple.ts';

/** Bytes that stand in the resource, or in a file that the control thread reads and watches. */
export type DataSource =
  | { readonly kind: 'inline'; readonly bytes: Buffer }
  | { readonly kind: 'file'; readonly path: string };

/** TlsCertificate. */
export type CertificateConfig = CertificateExtras &
  (
    | { readonly kind: 'pem'; readonly chain: DataSource; readonly key: DataSource }
    | { readonly kind: 'pkcs12'; readonly bundle: DataSource }
  );

export interface CertificateExtras {
  readonly password: DataSource | undefined;
  /** DER. */
  readonly ocspStaple: DataSource | undefined;
}

/** CertificateValidationContext. */
export interface ValidationConfig {
  /** PEM. undefined: see `systemRoots`. */
  readonly trustedCa: DataSource | undefined;
  /** What the operating system trusts. */
  readonly systemRoots: boolean;
  readonly crl: DataSource | undefined;
  /** Any of them must match; none: any name. */
  readonly names: readonly NameMatcher[];
  /** Lower-case hex SHA-256 of certificates. */
  readonly certificateHashes: readonly string[];
  /** Base64 SHA-256 of public keys. */
  readonly publicKeyHashes: readonly string[];
  /** Certificates and CRLs may be expired, or not valid yet. */
  readonly allowExpired: boolean;
  /** Only the peer's own certificate is looked for in CRLs. */
  readonly leafCrlOnly: boolean;
  /** Certificates above the peer's own, the trusted one counted; undefined: OpenSSL's limit. */
  readonly maxDepth: number | undefined;
  /** envoy.tls.cert_validator.spiffe: roots by trust domain, instead of trustedCa. */
  readonly spiffe: SpiffeConfig | undefined;
  /** trust_chain_verification ACCEPT_UNTRUSTED: any certificate will do (insecureSkipVerify). */
  readonly acceptUntrusted: boolean;
}

/** SPIFFECertValidatorConfig. */
export interface SpiffeConfig {
  /** PEM, with CRLs in it where certificates are revoked. */
  readonly domains: readonly { readonly name: string; readonly bundle: DataSource }[];
  /** SPIFFE bundle map in JSON; then `domains` is empty. */
  readonly bundles: DataSource | undefined;
}

/** What a secret resource holds. Envoy: envoy.extensions.transport_sockets.tls.v3.Secret. */
export type Secret =
  | { readonly kind: 'certificate'; readonly certificate: CertificateConfig }
  | { readonly kind: 'validation'; readonly validation: ValidationConfig }
  | { readonly kind: 'ticket keys'; readonly keys: readonly DataSource[] }
  | { readonly kind: 'bytes'; readonly bytes: DataSource };

/** A name a certificate may have. */
export interface NameMatcher {
  matches(name: SubjectAltName): boolean;
  /** As an operator would say it: `spiffe://cluster.local/ns/a/sa/b`, `spiffe://cluster.local/*`. */
  readonly text: string;
}

/** Either in the context itself or a secret by name. */
export type CertificateReference =
  | { readonly kind: 'inline'; readonly certificate: CertificateConfig }
  | { readonly kind: 'secret'; readonly name: string };

/** Of session tickets: in the context itself or a secret by name. */
export type TicketKeysReference =
  | { readonly kind: 'inline'; readonly keys: readonly DataSource[] }
  | { readonly kind: 'secret'; readonly name: string };

export interface CommonTlsConfig {
  readonly certificates: readonly CertificateReference[];
  /** undefined: the peer is not verified. */
  readonly validation:
    | { readonly inline: ValidationConfig | undefined; readonly secret: string | undefined }
    | undefined;
  /** OpenSSL names, `:` between them; undefined: Envoy's default. TLS 1.3 suites cannot be chosen, as in Envoy. */
  readonly ciphers: string | undefined;
  readonly curves: string | undefined;
  readonly signatureAlgorithms: string | undefined;
  readonly minVersion: TlsVersion;
  readonly maxVersion: TlsVersion;
  readonly alpn: readonly string[];
  /** Where it stands, for messages. */
  readonly origin: string;
}

export type TlsVersion = 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';

export interface UpstreamTlsConfig {
  readonly common: CommonTlsConfig;
  /** Empty: none is sent. */
  readonly sni: string;
  /** auto_host_sni: the endpoint's hostname. */
  readonly autoHostSni: boolean;
  /** auto_sni_san_validation: the certificate must name the server name that was sent. */
  readonly autoSniSan: boolean;
  /** Sessions kept for resumption; 0: none. Default 1. */
  readonly maxSessionKeys: number;
}

export interface DownstreamTlsConfig {
  readonly common: CommonTlsConfig;
  readonly requireClientCertificate: boolean;
  /** What a client that asks for an OCSP response is told where there is none, or an old one. */
  readonly staplePolicy: StaplePolicy;
  /** disable_stateless_session_resumption. */
  readonly tickets: boolean;
  /** Given by the configuration, the first counts; undefined: the process's own, the same on all threads. */
  readonly ticketKeys: TicketKeysReference | undefined;
  /** Seconds; default 300 as OpenSSL. */
  readonly sessionTimeoutS: number | undefined;
  /** transport_socket_connect_timeout of the chain; 0: none. Default 15 s as Envoy. */
  readonly handshakeTimeoutMs: number;
}
