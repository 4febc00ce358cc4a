/** Public keys and what they verify. Source: RFC 7517; choice of the key as in Envoy's jwt_verify_lib. */
import type { CryptoKey, JWK } from 'jose';
import { ALGORITHMS, JWT_STATUS, type JwtStatus, type ParsedToken } from './token.ts';

interface Key {
  readonly jwk: JWK;
  readonly kty: string;
  readonly kid: string | undefined;
  readonly alg: string | undefined;
  /** Imported once for each algorithm, when first asked for; undefined: the key cannot be used for it. */
  readonly imported: Map<string, Promise<CryptoKey | Uint8Array | undefined>>;
}

/** More keys than this in one set are not looked at: each is a signature check for a token without `kid`. */
const MAX_KEYS = 100;

export class KeySet {
  readonly #keys: readonly Key[];

  private constructor(keys: readonly Key[]) {
    this.#keys = keys;
  }

  get size(): number {
    return this.#keys.length;
  }

  /** undefined: not a JSON object with a list of keys. Keys of unknown kinds are passed over. */
  static parse(text: string): KeySet | undefined {
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      return undefined;
    }
    const list = (json as { readonly keys?: unknown } | null)?.keys;
    if (!Array.isArray(list)) return undefined;
    return new KeySet(list.slice(0, MAX_KEYS).flatMap(readKey));
  }

  /** Whether the token was signed by one of these keys. Never rejects. */
  async verify(token: ParsedToken): Promise<JwtStatus> {
    if (this.#keys.length === 0) return JWT_STATUS.noKeys;
    // What the token says of its own keys (jwk, jku, x5c) is never looked at (attacks.md row 50).
    if (Object.hasOwn(token.header, 'crit')) return JWT_STATUS.verificationFails;
    const wantedKind = ALGORITHMS.get(token.alg);
    let matched = false;
    for (const key of this.#keys) {
      if (token.kid !== undefined && token.kid !== '' && key.kid !== undefined && key.kid !== token.kid) continue;
      if (key.alg !== undefined && key.alg !== token.alg) continue;
      matched = true;
      // An HMAC keyed with a public key: only the key's own kind of algorithm is tried with it.
      if (key.kty !== wantedKind) continue;
      if (await verifies(key, token)) return JWT_STATUS.ok;
    }
    return matched ? JWT_STATUS.verificationFails : JWT_STATUS.noKey;
  }
}

async function verifies(key: Key, token: ParsedToken): Promise<boolean> {
  let imported = key.imported.get(token.alg);
  if (imported === undefined) {
    imported = importKey(key.jwk, token.alg);
    key.imported.set(token.alg, imported);
  }
  const material = await imported;
  if (material === undefined) return false;
  try {
    await (await jose()).compactVerify(token.text, material, { algorithms: [token.alg] });
    return true;
  } catch {
    return false;
  }
}

let library: Promise<typeof import('jose')> | undefined;

/** Loaded with the first token: 46 modules that most proxies never need. */
function jose(): Promise<typeof import('jose')> {
  library ??= import('jose');
  return library;
}

async function importKey(jwk: JWK, alg: string): Promise<CryptoKey | Uint8Array | undefined> {
  try {
    const material = await (await jose()).importJWK(jwk, alg);
    // An empty secret would verify what anybody can make.
    return material instanceof Uint8Array && material.length === 0 ? undefined : material;
  } catch {
    return undefined;
  }
}

function readKey(json: unknown): Key[] {
  if (json === null || typeof json !== 'object' || Array.isArray(json)) return [];
  const fields = json as Readonly<Record<string, unknown>>;
  const { kty, kid, alg, use } = fields;
  if (typeof kty !== 'string' || ![...ALGORITHMS.values()].includes(kty)) return [];
  if (use !== undefined && use !== 'sig') return [];
  if ((kid !== undefined && typeof kid !== 'string') || (alg !== undefined && typeof alg !== 'string')) return [];
  // A private key among them is of no use here, and `key_ops` would forbid what jose is to do with the public part.
  const { d: _d, p: _p, q: _q, dp: _dp, dq: _dq, qi: _qi, key_ops: _ops, ext: _ext, ...jwk } = fields;
  return [{ jwk: jwk as JWK, kty, kid, alg, imported: new Map() }];
}
