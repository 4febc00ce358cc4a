/** Certificates, keys and roots of one TLS context, put together from configuration and secrets; anew when a secret changes. */
import { createHash } from 'node:crypto';
import { getCACertificates, type SecureContext, type SecureContextOptions, type TLSSocket } from 'node:tls';
import { type Certificate, certificatesOf } from './certificate.ts';
import { MaterialError, unusable } from './material_error.ts';
import { type OcspStaple, readOcspResponse } from './ocsp_staple.ts';
import { openssl } from './openssl.ts';
import { readPkcs12 } from './pkcs12.ts';
import { PeerJudge } from './peer_judge.ts';
import { fileSecretName, type SecretCell, type SecretLookup } from './secrets.ts';
import type {
  CertificateConfig,
  CertificateReference,
  CommonTlsConfig,
  DataSource,
  NameMatcher,
  SpiffeConfig,
  TicketKeysReference,
  ValidationConfig,
} from './tls_config.ts';
import { bundleMap, crlsOf, NO_TRUST, type Trust, trustOf } from './trust_bundles.ts';

/** How the peer is judged. */
export interface PeerRules {
  /** Whether the chain must end at a trusted root. */
  readonly chain: boolean;
  /** Certificates and CRLs may be expired, or not valid yet. */
  readonly allowExpired: boolean;
  /** Only the peer's own certificate is looked for in CRLs. */
  readonly leafCrlOnly: boolean;
  /** CRLs are there. */
  readonly revocable: boolean;
  /** Certificates above the peer's own, the trusted one counted. */
  readonly maxDepth: number | undefined;
  /** SPIFFE: the roots of each trust domain, instead of the context's. */
  readonly trustDomains: ReadonlyMap<string, Trust> | undefined;
  readonly names: readonly NameMatcher[];
  readonly certificateHashes: readonly string[];
  readonly publicKeyHashes: readonly string[];
}

/** Everything is there. */
export interface TlsMaterial {
  /** Another one when anything is another: certificate, key, roots, names. Hex. */
  readonly generation: string;
  readonly options: SecureContextOptions;
  readonly judge: PeerJudge;
  /** Our own certificate, the first where there are several; undefined: we show none. */
  readonly own: Certificate | undefined;
  /** All of them. */
  readonly owns: readonly Certificate[];
  /** What is shown beside the first. */
  readonly staple: OcspStaple | undefined;
  /** What the configuration gives to make keys of session tickets from. */
  readonly ticketSecret: Buffer | undefined;
  /** When certificates of ours and the authorities we trust end, under the names that Envoy gives them. */
  readonly expiries: readonly { readonly name: string; readonly atMs: number }[];
}

/** Envoy's default list (envoy.extensions.transport_sockets.tls.v3.TlsParameters), AES first: all machines here have it. */
const TLS12_CIPHERS =
  'ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384';
const TLS13_SUITES = 'TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256';
/** Envoy's. OpenSSL's own begins with a post-quantum exchange that costs a second packet each way. */
const CURVES = 'X25519:P-256';
const SSL_OP_NO_RENEGOTIATION = 0x4000_0000;

/** One context's material, kept until a secret that it was made of changes. */
export class TlsMaterialSource {
  readonly #config: CommonTlsConfig;
  readonly #secrets: SecretLookup;
  readonly #ticketKeys: TicketKeysReference | undefined;
  /** What the current material was made of: name and version seen. */
  #used: [name: string, version: string | undefined][] = [];
  #current: TlsMaterial | MaterialError | undefined = undefined;

  /** `ticketKeys`: of a server. */
  constructor(config: CommonTlsConfig, secrets: SecretLookup, ticketKeys?: TicketKeysReference) {
    this.#config = config;
    this.#ticketKeys = ticketKeys;
    this.#secrets = secrets;
  }

  /** The newest. The same object as long as nothing has changed. */
  get(): TlsMaterial | MaterialError {
    if (this.#current !== undefined && this.#isCurrent()) return this.#current;
    this.#used = [];
    try {
      this.#current = this.#make();
    } catch (error) {
      // OpenSSL's complaints name no secret, and may be of any kind.
      this.#current = unusable(error);
    }
    return this.#current;
  }

  #isCurrent(): boolean {
    for (const [name, version] of this.#used) if (this.#secrets.get(name)?.version !== version) return false;
    return true;
  }

  #make(): TlsMaterial {
    const config = this.#config;
    const certificates = config.certificates.map((reference) =>
      reference.kind === 'inline' ? reference.certificate : this.#certificate(reference.name),
    );
    const pairs = certificates.map((certificate) => this.#pair(certificate));
    const owns = pairs.flatMap(({ chain }) => certificatesOf(chain).slice(0, 1));
    const validation = this.#validation();
    const trust = validation === undefined ? NO_TRUST : this.#trust(validation);
    const domains = validation?.spiffe && this.#trustDomains(validation.spiffe);
    const rules =
      validation === undefined || validation.acceptUntrusted ? undefined : rulesOf(validation, trust, domains);
    return {
      generation: generationOf(config, pairs, trust, validation, domains),
      options: contextOptions(config, pairs, trust),
      judge: new PeerJudge(rules),
      own: owns[0],
      owns,
      staple: pairs[0]?.staple,
      ticketSecret: this.#ticketSecret(),
      expiries: [
        ...owns.map(({ validToMs }, index) => ({
          name: certificateName('unnamed_cert', config.certificates[index]),
          atMs: validToMs,
        })),
        ...certificatesOf(trust?.roots[0] ?? '')
          .slice(0, 1)
          .map(({ validToMs }) => ({
            name: config.validation?.secret ?? certificateName('unnamed_ca_cert', undefined),
            atMs: validToMs,
          })),
      ],
    };
  }

  #validation(): ValidationConfig | undefined {
    const { validation } = this.#config;
    if (validation === undefined) return undefined;
    const { inline, secret: name } = validation;
    if (name === undefined) return inline;
    const { secret } = this.#need(name);
    if (secret.kind !== 'validation') throw new MaterialError(`secret "${name}" holds no validation context`);
    const merged = inline === undefined ? secret.validation : merge(inline, secret.validation);
    const { certificateHashes, publicKeyHashes, acceptUntrusted } = merged;
    const pinned = merged.names.length === 0 && certificateHashes.length + publicKeyHashes.length > 0;
    const rooted = merged.trustedCa !== undefined || merged.systemRoots || merged.spiffe !== undefined;
    if (!rooted && !pinned && !acceptUntrusted) {
      throw new MaterialError(`secret "${name}" holds no trusted CA: nobody could be told from anybody else`);
    }
    return merged;
  }

  #certificate(name: string): CertificateConfig {
    const { secret } = this.#need(name);
    if (secret.kind !== 'certificate') throw new MaterialError(`secret "${name}" holds no certificate`);
    return secret.certificate;
  }

  #pair(certificate: CertificateConfig): KeyPair {
    const { password: secret, ocspStaple } = certificate;
    const password = secret === undefined ? undefined : this.#bytes(secret).toString('utf8');
    const staple = ocspStaple === undefined ? undefined : readOcspResponse(this.#bytes(ocspStaple));
    if (certificate.kind === 'pkcs12') {
      return { ...readPkcs12(this.#bytes(certificate.bundle), password), password: undefined, staple };
    }
    return {
      chain: this.#bytes(certificate.chain).toString('latin1'),
      key: this.#bytes(certificate.key).toString('latin1'),
      password,
      staple,
    };
  }

  #trust(validation: ValidationConfig): Trust {
    const { trustedCa, systemRoots, crl } = validation;
    const given = trustedCa === undefined ? NO_TRUST : trustOf(this.#bytes(trustedCa).toString('latin1'));
    if (trustedCa !== undefined && given.roots.length === 0) throw new MaterialError('trusted_ca holds no certificate');
    const crls = crl === undefined ? [] : crlsOf(this.#bytes(crl).toString('latin1'));
    if (crl !== undefined && crls.length === 0) throw new MaterialError('crl holds no CRL');
    return {
      roots: systemRoots ? [...given.roots, ...getCACertificates('system')] : given.roots,
      crls: [...given.crls, ...crls],
    };
  }

  #trustDomains({ domains, bundles }: SpiffeConfig): Map<string, Trust> {
    if (bundles !== undefined) return bundleMap(this.#bytes(bundles).toString('utf8'));
    return new Map(
      domains.map(({ name, bundle }) => {
        const trust = trustOf(this.#bytes(bundle).toString('latin1'));
        if (trust.roots.length === 0)
          throw new MaterialError(`the bundle of trust domain "${name}" holds no certificate`);
        return [name, trust];
      }),
    );
  }

  #ticketSecret(): Buffer | undefined {
    const given = this.#ticketKeys;
    if (given === undefined) return undefined;
    let keys: readonly DataSource[];
    if (given.kind === 'inline') keys = given.keys;
    else {
      const { secret } = this.#need(given.name);
      if (secret.kind !== 'ticket keys') throw new MaterialError(`secret "${given.name}" holds no session ticket keys`);
      keys = secret.keys;
    }
    const [first] = keys;
    if (first === undefined) throw new MaterialError('there is no session ticket key');
    return this.#bytes(first);
  }

  #bytes(source: DataSource): Buffer {
    if (source.kind === 'inline') return source.bytes;
    const { secret } = this.#need(fileSecretName(source.path), `file ${source.path} has not been read`);
    if (secret.kind !== 'bytes' || secret.bytes.kind !== 'inline') {
      throw new MaterialError(`file ${source.path} has not been read`);
    }
    return secret.bytes.bytes;
  }

  #need(name: string, otherwise = `secret "${name}" has not arrived`): SecretCell {
    const cell = this.#secrets.get(name);
    this.#used.push([name, cell?.version]);
    if (cell === undefined) throw new MaterialError(otherwise);
    return cell;
  }
}

interface KeyPair {
  readonly chain: string;
  readonly key: string;
  readonly password: string | undefined;
  readonly staple: OcspStaple | undefined;
}

/** Sessions are resumed by those who would have made them: all that a peer is judged by, and shown, counts. */
function generationOf(
  config: CommonTlsConfig,
  pairs: readonly KeyPair[],
  trust: Trust,
  validation: ValidationConfig | undefined,
  domains: ReadonlyMap<string, Trust> | undefined,
): string {
  const hash = createHash('sha256');
  const { names, certificateHashes, publicKeyHashes, allowExpired, leafCrlOnly, maxDepth, acceptUntrusted } =
    validation ?? NO_VALIDATION;
  for (const part of [
    JSON.stringify([config.ciphers, config.curves, config.minVersion, config.maxVersion, config.alpn]),
    ...pairs.flatMap(({ chain, key, staple }) => [chain, key, staple?.der.toString('latin1') ?? '']),
    JSON.stringify(trust),
    JSON.stringify(validation === undefined ? null : names.map(({ text }) => text)),
    JSON.stringify([certificateHashes, publicKeyHashes, allowExpired, leafCrlOnly, maxDepth, acceptUntrusted]),
    JSON.stringify(domains === undefined ? null : [...domains]),
  ]) {
    hash.update(`${part.length} `).update(part);
  }
  return hash.digest('hex');
}

const NO_VALIDATION: ValidationConfig = {
  trustedCa: undefined,
  systemRoots: false,
  crl: undefined,
  names: [],
  certificateHashes: [],
  publicKeyHashes: [],
  allowExpired: false,
  leafCrlOnly: false,
  maxDepth: undefined,
  spiffe: undefined,
  acceptUntrusted: false,
};

/** Envoy merges the secret into the default: single fields are the secret's, lists are joined. */
function merge(first: ValidationConfig, secret: ValidationConfig): ValidationConfig {
  return {
    trustedCa: secret.trustedCa ?? first.trustedCa,
    systemRoots: secret.systemRoots || first.systemRoots,
    crl: secret.crl ?? first.crl,
    names: [...first.names, ...secret.names],
    certificateHashes: [...first.certificateHashes, ...secret.certificateHashes],
    publicKeyHashes: [...first.publicKeyHashes, ...secret.publicKeyHashes],
    allowExpired: secret.allowExpired || first.allowExpired,
    leafCrlOnly: secret.leafCrlOnly || first.leafCrlOnly,
    maxDepth: secret.maxDepth ?? first.maxDepth,
    spiffe: secret.spiffe ?? first.spiffe,
    acceptUntrusted: secret.acceptUntrusted || first.acceptUntrusted,
  };
}

function rulesOf(
  { names, certificateHashes, publicKeyHashes, allowExpired, leafCrlOnly, maxDepth }: ValidationConfig,
  trust: Trust,
  domains: ReadonlyMap<string, Trust> | undefined,
): PeerRules | undefined {
  const chain = trust.roots.length > 0 || domains !== undefined;
  if (!chain && certificateHashes.length === 0 && publicKeyHashes.length === 0) return undefined;
  return {
    chain,
    allowExpired,
    leafCrlOnly,
    maxDepth,
    revocable: trust.crls.length > 0 || [...(domains?.values() ?? [])].some(({ crls }) => crls.length > 0),
    trustDomains: domains,
    names,
    certificateHashes,
    publicKeyHashes,
  };
}

function contextOptions(config: CommonTlsConfig, pairs: readonly KeyPair[], trust: Trust): SecureContextOptions {
  return {
    minVersion: config.minVersion,
    maxVersion: config.maxVersion,
    ciphers: `${TLS13_SUITES}:${config.ciphers ?? TLS12_CIPHERS}`,
    ecdhCurve: config.curves ?? CURVES,
    secureOptions: SSL_OP_NO_RENEGOTIATION,
    allowPartialTrustChain: true,
    // An empty list, lest Node takes its own roots.
    ca: [...trust.roots],
    ...(trust.crls.length > 0 && { crl: [...trust.crls] }),
    ...(config.signatureAlgorithms !== undefined && { sigalgs: config.signatureAlgorithms }),
    ...(pairs.length > 0 && {
      cert: pairs.map(({ chain }) => chain),
      key: pairs.map(({ key, password }) => ({
        pem: key,
        ...(password !== undefined && { passphrase: password }),
      })),
    }),
  };
}

/** The secret's, or one made of where it stands: Envoy hashes the path, which is empty inline. */
function certificateName(unnamed: string, reference: CertificateReference | undefined): string {
  if (reference?.kind === 'secret') return reference.name;
  const certificate = reference?.certificate;
  const chain = certificate?.kind === 'pkcs12' ? certificate.bundle : certificate?.chain;
  const hash = createHash('sha256').update(chain?.kind === 'file' ? chain.path : '');
  return `${unnamed}_${hash.digest('hex').slice(0, 8)}`;
}

/** The one that this connection shows: the client's algorithms decide between several. */
export function ownCertificate(socket: TLSSocket, { own, owns }: TlsMaterial): Certificate | undefined {
  if (owns.length < 2) return own;
  const shown = socket.getX509Certificate()?.raw;
  return shown === undefined ? own : (owns.find(({ der }) => der.equals(shown)) ?? own);
}

/** What node:tls has no option for. After this `material.judge` decides within each handshake, where that is possible. */
export function prepareContext(context: SecureContext, { judge }: TlsMaterial): void {
  // As Envoy: what stands in trusted_ca is trusted, root or not. `createServer` does not pass the option on.
  (context.context as { setAllowPartialTrustChain?(): void }).setAllowPartialTrustChain?.();
  openssl()?.sendOnlyOwnChain(context);
  judge.attach(context);
}
