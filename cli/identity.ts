/** Where the workload's certificate comes from: flags and the agent's environment (istio.md §2.6, §2.9). */
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { ConfigSource } from '../config/resources.ts';
import { developmentCaFolder, openDevelopmentCa } from '../proxy/identity/development_ca.ts';
import { FileSecrets, type IdentityFiles } from '../proxy/identity/file_secrets.ts';
import { requestFromIstioCa } from '../proxy/identity/istio_ca.ts';
import type { KeyKind } from '../proxy/identity/keys.ts';
import { RotatingIdentity } from '../proxy/identity/rotating_identity.ts';
import type { NodeIdentity } from '../proxy/proxy_options.ts';
import type { Logger } from '../proxy/telemetry/log.ts';
import { CommandError, exitCodes } from './exit_codes.ts';
import { durationMs } from './go_duration.ts';

type Environment = Readonly<Record<string, string | undefined>>;

/** What was chosen; `none`: nobody gives an identity, and what needs one refuses. */
export type IdentityChoice =
  | { readonly kind: 'none' }
  | { readonly kind: 'development' }
  | { readonly kind: 'files'; readonly files: IdentityFiles }
  | { readonly kind: 'sds'; readonly socket: string }
  | { readonly kind: 'istio-ca'; readonly address: string };

const WORKLOAD_FOLDER = 'var/run/secrets';

/**
 * `wanted`: the --identity flag: none, development, istio-ca, files:FOLDER, sds:SOCKET; undefined: what the environment
 * says, as pilot-agent reads it, and a development CA in `dev`. @throws {CommandError}
 */
export function chooseIdentity(
  wanted: string | undefined,
  dev: boolean,
  environment: Environment,
  cwd: string,
): IdentityChoice {
  if (wanted !== undefined && wanted !== 'auto') return named(wanted, environment, cwd);
  if (environment['FILE_MOUNTED_CERTS'] === 'true') {
    const folder = resolve(cwd, 'etc/certs');
    return {
      kind: 'files',
      files: {
        chain: environment['ISTIO_META_TLS_CLIENT_CERT_CHAIN'] || join(folder, 'cert-chain.pem'),
        key: environment['ISTIO_META_TLS_CLIENT_KEY'] || join(folder, 'key.pem'),
        roots: environment['ISTIO_META_TLS_CLIENT_ROOT_CERT'] || join(folder, 'root-cert.pem'),
      },
    };
  }
  const credentials = resolve(cwd, WORKLOAD_FOLDER, 'workload-spiffe-credentials');
  if (existsSync(join(credentials, 'certificates.pem'))) return { kind: 'files', files: filesIn(credentials) };
  const socket = resolve(
    cwd,
    WORKLOAD_FOLDER,
    'workload-spiffe-uds',
    environment['WORKLOAD_IDENTITY_SOCKET_FILE'] || 'socket',
  );
  if (existsSync(socket)) return { kind: 'sds', socket };
  const address = environment['CA_ADDR'];
  if (address !== undefined && address !== '') return { kind: 'istio-ca', address };
  return dev ? { kind: 'development' } : { kind: 'none' };
}

function named(wanted: string, environment: Environment, cwd: string): IdentityChoice {
  const colon = wanted.indexOf(':');
  const kind = colon < 0 ? wanted : wanted.slice(0, colon);
  const rest = colon < 0 ? '' : wanted.slice(colon + 1);
  if (kind === 'none' || kind === 'development') return { kind };
  if (kind === 'files' && rest !== '') return { kind, files: filesIn(resolve(cwd, rest)) };
  if (kind === 'sds' && rest !== '') return { kind, socket: resolve(cwd, rest) };
  if (kind === 'istio-ca') {
    return { kind, address: rest || environment['CA_ADDR'] || 'istiod.istio-system.svc:15012' };
  }
  throw new CommandError(
    exitCodes.usage,
    `--identity wants auto, none, development, istio-ca[:ADDRESS], files:FOLDER or sds:SOCKET, got "${wanted}"`,
  );
}

/** A folder in any of the layouts that are about; Istio's own where none is there yet. */
function filesIn(folder: string): IdentityFiles {
  const layouts: readonly IdentityFiles[] = [
    { chain: 'cert-chain.pem', key: 'key.pem', roots: 'root-cert.pem' },
    { chain: 'certificates.pem', key: 'private_key.pem', roots: 'ca_certificates.pem' },
    { chain: 'tls.crt', key: 'tls.key', roots: 'ca.crt' },
  ];
  const found = layouts.find(({ chain }) => existsSync(join(folder, chain))) ?? (layouts[0] as IdentityFiles);
  return { chain: join(folder, found.chain), key: join(folder, found.key), roots: join(folder, found.roots) };
}

export interface IdentityOptions {
  readonly choice: IdentityChoice;
  readonly trustDomain: string;
  readonly namespace: string;
  readonly serviceAccount: string;
  readonly environment: Environment;
  readonly node: NodeIdentity;
  readonly log: Logger;
}

/** Sources of certificates: files that rules name, and the workload's identity. @throws {CommandError} */
export async function identitySources(options: IdentityOptions): Promise<ConfigSource[]> {
  const { choice, environment, log } = options;
  const say = (level: 'info' | 'warning' | 'error', message: string): void => log.log(level, 'identity', message);
  const debounceMs = durationMs(environment['FILE_DEBOUNCE_DURATION'], 'FILE_DEBOUNCE_DURATION') ?? 100;
  const files = new FileSecrets({ identity: choice.kind === 'files' ? choice.files : undefined, log: say, debounceMs });
  const spiffeId = `spiffe://${options.trustDomain}/ns/${options.namespace}/sa/${options.serviceAccount}`;
  switch (choice.kind) {
    case 'none':
    case 'files':
      return [files];
    case 'sds': {
      const { socketSecrets } = await import('../config/xds/socket_secrets.ts');
      return [socketSecrets(choice.socket, options.node, say), files];
    }
    case 'development': {
      const folder = developmentCaFolder();
      const ca = await openDevelopmentCa(folder).catch((error: Error) => {
        throw new CommandError(exitCodes.config, `${error.message} (choose another identity with --identity)`);
      });
      const key = keyKind(environment);
      const issue = () => ca.issue(spiffeId, key);
      return [new RotatingIdentity({ issue, origin: `the development CA in ${folder}`, log: say }), files];
    }
    case 'istio-ca':
      return [istioIdentity(choice.address, spiffeId, environment, say), files];
    default:
      return choice satisfies never;
  }
}

function istioIdentity(
  address: string,
  spiffeId: string,
  environment: Environment,
  log: (level: 'info' | 'warning' | 'error', message: string) => void,
): RotatingIdentity {
  const provisioned = environment['PROV_CERT'];
  const output = environment['OUTPUT_CERTS'];
  const plain = address.startsWith('http://') || address.endsWith(':15010');
  const headers = Object.entries(environment).flatMap(([name, value]) =>
    name.startsWith('CA_HEADER_') && value !== undefined
      ? [[name.slice('CA_HEADER_'.length).toLowerCase().replaceAll('_', '-'), value] as const]
      : [],
  );
  const caOptions: Parameters<typeof requestFromIstioCa>[0] = {
    address: address.replace(/^https?:\/\//, ''),
    rootPath: plain ? undefined : environment['CA_ROOT_CA'] || '/var/run/secrets/istio/root-cert.pem',
    serverName: environment['ISTIOD_SAN'] || undefined,
    tokenPath: provisioned ? undefined : environment['CA_TOKEN_PATH'] || '/var/run/secrets/tokens/istio-token',
    provisioned: provisioned
      ? { chain: join(provisioned, 'cert-chain.pem'), key: join(provisioned, 'key.pem') }
      : undefined,
    clusterId: environment['ISTIO_META_CLUSTER_ID'] || 'Kubernetes',
    spiffeId,
    lifetimeMs: durationMs(environment['SECRET_TTL'], 'SECRET_TTL') ?? 24 * 3_600_000,
    key: keyKind(environment),
    pkcs8: environment['PKCS8_KEY'] === 'true',
    certSigner: environment['ISTIO_META_CERT_SIGNER'] || undefined,
    headers,
    outputFolder: output || undefined,
  };
  return new RotatingIdentity({
    issue: (signal) => requestFromIstioCa(caOptions, signal),
    origin: caOptions.address,
    log,
    graceRatio: share(environment['SECRET_GRACE_PERIOD_RATIO'], 'SECRET_GRACE_PERIOD_RATIO') ?? 0.5,
    graceJitter: share(environment['SECRET_GRACE_PERIOD_RATIO_JITTER'], 'SECRET_GRACE_PERIOD_RATIO_JITTER') ?? 0.01,
  });
}

/** ECDSA P-256, unless the environment asks for RSA or another curve. @throws {CommandError} */
function keyKind(environment: Environment): KeyKind {
  const algorithm = environment['ECC_SIGNATURE_ALGORITHM'] || undefined;
  const size = environment['WORKLOAD_RSA_KEY_SIZE'] || undefined;
  if (algorithm === 'RSA' || (algorithm === undefined && size !== undefined)) {
    const bits = Number(size ?? 2048);
    if (!Number.isInteger(bits) || bits < 2048 || bits > 8192) refuse('WORKLOAD_RSA_KEY_SIZE', '2048 to 8192', size);
    return { kind: 'rsa', bits };
  }
  if (algorithm !== undefined && algorithm !== 'ECDSA') refuse('ECC_SIGNATURE_ALGORITHM', 'ECDSA or RSA', algorithm);
  const curve = environment['ECC_CURVE'] || 'P256';
  if (curve !== 'P256' && curve !== 'P384') refuse('ECC_CURVE', 'P256 or P384', curve);
  return { kind: 'ecdsa', curve: curve === 'P384' ? 'P-384' : 'P-256' };
}

function share(text: string | undefined, name: string): number | undefined {
  if (text === undefined || text === '') return undefined;
  const value = Number(text);
  return value >= 0 && value <= 1 ? value : refuse(name, 'a number from 0 to 1', text);
}

function refuse(name: string, wanted: string, got: string | undefined): never {
  throw new CommandError(exitCodes.usage, `${name} wants ${wanted}, got "${got ?? ''}"`);
}
