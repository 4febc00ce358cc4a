/** The CA of one developer's machine: made once, kept in the user's state folder, trusted by every `pillion dev` there. */
import { createPrivateKey, type KeyObject } from 'node:crypto';
import { chmodSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { certificatesOf } from '../net/tls/certificate.ts';
import { type Issuer, issueCertificate, selfSignedAuthority } from './certificates.ts';
import { readDer, derChildren } from '../net/tls/der.ts';
import { sequence } from './der_writer.ts';
import type { Identity } from './identity_secrets.ts';
import { DEFAULT_KEY, generateKey, keyPem, publicKeyDer, type KeyKind } from './keys.ts';

const ROOT_LIFE_MS = 10 * 365 * 86_400_000;
const LEAF_LIFE_MS = 24 * 3_600_000;
const RENEW_BEFORE_MS = 30 * 86_400_000;

export interface DevelopmentCa {
  readonly folder: string;
  issue(spiffeId: string, key?: KeyKind): Promise<Identity>;
}

/** Default: `pillion/ca` in $XDG_STATE_HOME, else ~/.local/state. */
export function developmentCaFolder(environment: NodeJS.ProcessEnv = process.env): string {
  const state = environment['XDG_STATE_HOME'];
  return join(state === undefined || state === '' ? join(homedir(), '.local', 'state') : state, 'pillion', 'ca');
}

/** Makes it where there is none. @throws when the folder cannot be used. */
export async function openDevelopmentCa(folder: string): Promise<DevelopmentCa> {
  const existing = load(folder);
  const ca = existing ?? (await create(folder));
  return {
    folder,
    async issue(spiffeId, kind = DEFAULT_KEY) {
      const key = await generateKey(kind);
      const chain = issueCertificate(
        { publicKey: publicKeyDer(key), uris: [spiffeId], lifetimeMs: LEAF_LIFE_MS },
        ca.issuer,
      );
      return { chain, key: keyPem(key, true), roots: ca.root };
    },
  };
}

interface Loaded {
  readonly root: string;
  readonly issuer: Issuer;
}

/** Key and certificate stand in one file, so that nobody ever sees one without the other. */
function load(folder: string): Loaded | undefined {
  const path = join(folder, 'ca.pem');
  let text: string;
  try {
    text = readFileSync(path, 'latin1');
    // Somebody has opened it to others since.
    if ((statSync(path).mode & 0o077) !== 0) chmodSync(path, 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new Error(`Cannot read the development CA: ${(error as Error).message}`, { cause: error });
  }
  const [certificate] = certificatesOf(text);
  let key: KeyObject;
  try {
    key = createPrivateKey(text);
  } catch {
    throw new Error(`${path} is no development CA (no private key in it); remove it, and a new one is made`);
  }
  if (certificate === undefined) {
    throw new Error(`${path} is no development CA (no certificate in it); remove it, and a new one is made`);
  }
  if (certificate.validToMs - RENEW_BEFORE_MS < Date.now()) {
    rmSync(path, { force: true });
    return undefined;
  }
  return { root: certificate.pem, issuer: { key, name: subjectOf(certificate.der), publicKey: publicKeyDer(key) } };
}

async function create(folder: string): Promise<Loaded> {
  const key = await generateKey(DEFAULT_KEY);
  const { pem } = selfSignedAuthority(key, { organization: 'Pillion development CA', lifetimeMs: ROOT_LIFE_MS });
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const mine = join(folder, `.ca.${process.pid}.${Date.now()}`);
  writeFileSync(mine, `${keyPem(key, true)}${pem}`, { mode: 0o600, flag: 'wx' });
  try {
    // Whoever comes second takes the first one's.
    linkSync(mine, join(folder, 'ca.pem'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  } finally {
    rmSync(mine, { force: true });
  }
  const loaded = load(folder);
  if (loaded === undefined) throw new Error(`Cannot keep a development CA in ${folder}`);
  return loaded;
}

/** The subject's DER out of a certificate's. */
function subjectOf(certificate: Buffer): Buffer {
  const outer = readDer(certificate);
  const toBeSigned = outer === undefined ? undefined : readDer(outer.body);
  const parts = derChildren(toBeSigned?.body ?? Buffer.alloc(0));
  const subject = parts[parts[0]?.tag === 0xa0 ? 5 : 4];
  return sequence(subject?.body ?? Buffer.alloc(0));
}
