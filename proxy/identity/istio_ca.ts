/** Istio's CA protocol: istio.v1.auth.IstioCertificateService/CreateCertificate over gRPC. Source: istio/api security/v1alpha1/ca.proto; istio.md §2.6. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ChannelCredentials } from '@grpc/grpc-js';
import { encodeStruct } from '../telemetry/peer_metadata.ts';
import { readFields } from '../telemetry/protobuf_reader.ts';
import { ProtobufWriter } from '../telemetry/protobuf_writer.ts';
import { signingRequest } from './certificates.ts';
import type { Identity } from './identity_secrets.ts';
import { generateKey, type KeyKind, keyPem } from './keys.ts';

export interface IstioCaOptions {
  /** `istiod.istio-system.svc:15012`. */
  readonly address: string;
  /** PEM file to trust the CA by, read for each call; undefined: without TLS (istiod's plaintext port). */
  readonly rootPath: string | undefined;
  /** The name in the CA's certificate, where it is not the host of its address (ISTIOD_SAN). */
  readonly serverName: string | undefined;
  /** File with the projected token, read for each call; undefined: none is sent. */
  readonly tokenPath: string | undefined;
  /** Certificate and key to show instead of a token (PROV_CERT). */
  readonly provisioned: { readonly chain: string; readonly key: string } | undefined;
  readonly clusterId: string;
  readonly spiffeId: string;
  readonly lifetimeMs: number;
  readonly key: KeyKind;
  readonly pkcs8: boolean;
  /** ISTIO_META_CERT_SIGNER. */
  readonly certSigner: string | undefined;
  /** More headers (CA_HEADER_*). */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Folder to write what was issued to (OUTPUT_CERTS). */
  readonly outputFolder: string | undefined;
}

const METHOD = '/istio.v1.auth.IstioCertificateService/CreateCertificate';
const CALL_TIMEOUT_MS = 10_000;
/** A chain above this is no chain. */
const MAX_ANSWER_BYTES = 1024 * 1024;

/** One key, one signing request, one call. @throws with what the CA said. */
export async function requestFromIstioCa(options: IstioCaOptions, signal: AbortSignal): Promise<Identity> {
  const key = await generateKey(options.key);
  const csr = signingRequest(key, options.spiffeId);
  const answer = await call(options, encodeRequest(csr, options), signal);
  const chain = (readFields(answer) ?? [])
    .filter(({ number, wire }) => number === 1 && wire === 2)
    .map(({ body }) => body.toString('latin1'));
  const root = chain.pop();
  if (root === undefined || chain.length === 0) throw new Error('its answer holds no certificate chain');
  const identity: Identity = { chain: chain.map(line).join(''), key: keyPem(key, options.pkcs8), roots: line(root) };
  if (options.outputFolder !== undefined) writeOut(options.outputFolder, identity);
  return identity;
}

const line = (pem: string): string => (pem.endsWith('\n') ? pem : `${pem}\n`);

/** IstioCertificateRequest { csr = 1; validity_duration = 3 (seconds); metadata = 4 }. */
function encodeRequest(csr: string, { lifetimeMs, certSigner }: IstioCaOptions): Buffer {
  const out = new ProtobufWriter();
  out.string(1, csr);
  out.integer(3, Math.round(lifetimeMs / 1000));
  if (certSigner !== undefined) out.bytes(4, encodeStruct({ CertSigner: certSigner }));
  return out.message;
}

async function call(options: IstioCaOptions, request: Buffer, signal: AbortSignal): Promise<Buffer> {
  const grpc = await import('@grpc/grpc-js');
  const metadata = new grpc.Metadata();
  metadata.set('ClusterID', options.clusterId);
  for (const [name, value] of options.headers) metadata.set(name, value);
  if (options.tokenPath !== undefined) metadata.set('authorization', `Bearer ${readToken(options.tokenPath)}`);
  const { serverName } = options;
  const client = new grpc.Client(options.address, await credentials(options), {
    'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
    'grpc.use_local_subchannel_pool': 1,
    ...(serverName !== undefined && {
      'grpc.ssl_target_name_override': serverName,
      'grpc.default_authority': serverName,
    }),
  });
  const asIs = (bytes: Buffer): Buffer => bytes;
  try {
    return await new Promise<Buffer>((resolve, reject) => {
      const deadline = Date.now() + CALL_TIMEOUT_MS;
      const sent = client.makeUnaryRequest(METHOD, asIs, asIs, request, metadata, { deadline }, (error, answer) => {
        if (error !== null) reject(new Error(`${grpc.status[error.code] ?? error.code}: ${error.details}`));
        else if (answer === undefined) reject(new Error('no answer'));
        else resolve(answer);
      });
      signal.addEventListener('abort', () => sent.cancel(), { once: true });
    });
  } finally {
    client.close();
  }
}

/** @throws naming the file, never its content. */
function readToken(path: string): string {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (error) {
    throw new Error(`the token ${path} cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
  }
}

async function credentials({ rootPath, provisioned }: IstioCaOptions): Promise<ChannelCredentials> {
  const grpc = await import('@grpc/grpc-js');
  if (rootPath === undefined) return grpc.credentials.createInsecure();
  const read = (path: string): Buffer => {
    try {
      return readFileSync(path);
    } catch (error) {
      throw new Error(`${path} cannot be read (${(error as NodeJS.ErrnoException).code})`, { cause: error });
    }
  };
  return provisioned === undefined
    ? grpc.credentials.createSsl(read(rootPath))
    : grpc.credentials.createSsl(read(rootPath), read(provisioned.key), read(provisioned.chain));
}

/** Whole files at a time: whoever reads them sees the old or the new. */
function writeOut(folder: string, { chain, key, roots }: Identity): void {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  for (const [name, text, mode] of [
    ['key.pem', key, 0o600],
    ['cert-chain.pem', chain, 0o644],
    ['root-cert.pem', roots, 0o644],
  ] as const) {
    const path = join(folder, name);
    writeFileSync(`${path}.new`, text, { mode });
    renameSync(`${path}.new`, path);
  }
}
