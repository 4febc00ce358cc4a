/**
 * OpenSSL's own functions by node:ffi, for what node:tls keeps to itself: who the peer is, is judged within the
 * handshake, so that a refused one gets the alert that says why. Node lets every handshake succeed and closes afterwards.
 *
 * A context is known by the address that Node prints of it. Where anything of this is not as expected, `openssl()` is
 * undefined, and the judgement comes after the handshake as before.
 */
import { DynamicLibrary, getRawPointer } from 'node:ffi';
import { createSecureContext, type SecureContext } from 'node:tls';
import { inspect } from 'node:util';
import { Certificate } from './certificate.ts';

/** What OpenSSL says of a chain. Error 0: good. */
export interface ChainVerdict {
  /** X509_V_ERR_…, as a number. */
  readonly error: number;
  /** Of the certificate that is at fault; 0: the peer's own. */
  readonly depth: number;
  /** Leaf first, the trusted one last; empty where the chain is not good. */
  readonly chain: readonly Certificate[];
}

/** A handshake in which the peer has shown a certificate. Only within the call. */
export interface PeerShown {
  /** Borrowed: another's after the call. */
  readonly leaf: Buffer;
  /** The certificates that came with it, in order. Before `verifyChain`, or after. */
  above(): Certificate[];
  /** Verifies the chain as the options say. 60 µs with P-256. */
  verifyChain(options: ChainOptions): ChainVerdict;
}

export interface ChainOptions {
  /** Certificates and CRLs may be expired, or not valid yet. */
  readonly allowExpired: boolean;
  /** Only the leaf is looked for in CRLs. */
  readonly leafCrlOnly: boolean;
  /** Certificates above the leaf, the trusted one counted (max_verify_depth). */
  readonly maxDepth: number | undefined;
  /** Roots other than the context's own: X509_STORE of `storeOf`. */
  readonly store: bigint | undefined;
}

/** @returns X509_V_ERR_…, which decides on the alert; 0: the peer is accepted. Must not throw. */
export type HandshakeJudge = (peer: PeerShown) => number;

export interface OpenSsl {
  /** From now on `judge` decides on each peer that shows a certificate to this context. */
  judgeBy(context: SecureContext, judge: HandshakeJudge): void;
  /** As BoringSSL: only the chain that is configured is sent, nothing is looked for among the roots. */
  sendOnlyOwnChain(context: SecureContext): void;
  /** The roots and CRLs of a context; lives as long as that. */
  storeOf(context: SecureContext): bigint;
}

const X509_V_ERR_UNSPECIFIED = 1;
const SSL_CTRL_MODE = 33;
const SSL_MODE_NO_AUTO_CHAIN = 8n;
const SSL_CTRL_GET_MIN_PROTO_VERSION = 130;
const TLS1_2_VERSION = 0x0303n;
const SSL_VERIFY_PEER = 1;
const X509_V_FLAG_CRL_CHECK_ALL = 0x8n;
const X509_V_FLAG_PARTIAL_CHAIN = 0x80000n;
/** Of certificates and of CRLs. */
const X509_V_FLAG_NO_CHECK_TIME = 0x200000n;
/** OpenSSL's own limit of a message with certificates is 100 KB. */
const MAX_CERTIFICATE_BYTES = 131_072;

let found: OpenSsl | undefined | 'not looked for' = 'not looked for';

/** Once a thread. */
export function openssl(): OpenSsl | undefined {
  if (found === 'not looked for') {
    try {
      found = bind();
    } catch {
      found = undefined;
    }
  }
  return found;
}

type Functions = ReturnType<typeof functionsOf>;

function functionsOf(library: DynamicLibrary) {
  const p = 'pointer';
  return library.getFunctions({
    SSL_CTX_ctrl: { arguments: [p, 'i32', 'i64', p], return: 'i64' },
    SSL_CTX_get_cert_store: { arguments: [p], return: p },
    SSL_CTX_set_cert_verify_callback: { arguments: [p, p, p], return: 'void' },
    SSL_get_ex_data_X509_STORE_CTX_idx: { arguments: [], return: 'i32' },
    SSL_is_server: { arguments: [p], return: 'i32' },
    SSL_set_verify: { arguments: [p, 'i32', p], return: 'void' },
    X509_STORE_CTX_new: { arguments: [], return: p },
    X509_STORE_CTX_init: { arguments: [p, p, p, p], return: 'i32' },
    X509_STORE_CTX_free: { arguments: [p], return: 'void' },
    X509_STORE_CTX_get_verify_cb: { arguments: [p], return: p },
    X509_STORE_CTX_set_verify_cb: { arguments: [p, p], return: 'void' },
    X509_STORE_CTX_set_default: { arguments: [p, p], return: 'i32' },
    X509_STORE_CTX_get_ex_data: { arguments: [p, 'i32'], return: p },
    X509_STORE_CTX_get_error: { arguments: [p], return: 'i32' },
    X509_STORE_CTX_set_error: { arguments: [p, 'i32'], return: 'void' },
    X509_STORE_CTX_get_error_depth: { arguments: [p], return: 'i32' },
    X509_STORE_CTX_get0_cert: { arguments: [p], return: p },
    X509_STORE_CTX_get0_chain: { arguments: [p], return: p },
    X509_STORE_CTX_get0_untrusted: { arguments: [p], return: p },
    X509_STORE_CTX_get0_param: { arguments: [p], return: p },
    X509_VERIFY_PARAM_set_flags: { arguments: [p, 'u64'], return: 'i32' },
    X509_VERIFY_PARAM_clear_flags: { arguments: [p, 'u64'], return: 'i32' },
    X509_VERIFY_PARAM_set_depth: { arguments: [p, 'i32'], return: 'void' },
    X509_verify_cert: { arguments: [p], return: 'i32' },
    OPENSSL_sk_num: { arguments: [p], return: 'i32' },
    OPENSSL_sk_value: { arguments: [p, 'i32'], return: p },
    i2d_X509: { arguments: [p, p], return: 'i32' },
  });
}

function bind(): OpenSsl | undefined {
  if (process.platform === 'win32' || !(process.versions['openssl'] ?? '').startsWith('3.')) return undefined;
  const library = new DynamicLibrary(null);
  const c = functionsOf(library);
  // A context whose lowest version is known shows that the address is right.
  const probe = createSecureContext({ minVersion: 'TLSv1.2' });
  const address = addressOf(probe);
  if (address === undefined || c.SSL_CTX_ctrl(address, SSL_CTRL_GET_MIN_PROTO_VERSION, 0n, 0n) !== TLS1_2_VERSION) {
    return undefined;
  }
  return new Binding(library, c);
}

class Binding implements OpenSsl {
  /** Kept: its callbacks go with it. */
  readonly library: DynamicLibrary;
  readonly #c: Functions;
  /** By number: the address of a context may come again before its judge is gone. */
  readonly #judges = new Map<bigint, HandshakeJudge>();
  readonly #gone = new FinalizationRegistry<bigint>((id) => this.#judges.delete(id));
  #lastId = 0n;
  readonly #connectionIndex: number;
  /** The callback that changes nothing: Node's own forgives every error. */
  readonly #strict: bigint;
  readonly #callback: bigint;
  readonly #der = Buffer.allocUnsafeSlow(MAX_CERTIFICATE_BYTES);
  /** Where the next byte goes; i2d moves it. */
  readonly #position = new BigUint64Array(new ArrayBuffer(8));
  readonly #derAddress: bigint;
  readonly #positionAddress: bigint;

  constructor(library: DynamicLibrary, c: Functions) {
    this.library = library;
    this.#c = c;
    this.#derAddress = getRawPointer(this.#der.buffer);
    this.#positionAddress = getRawPointer(this.#position.buffer);
    this.#connectionIndex = c.SSL_get_ex_data_X509_STORE_CTX_idx();
    const fresh = c.X509_STORE_CTX_new();
    c.X509_STORE_CTX_init(fresh, 0n, 0n, 0n);
    this.#strict = c.X509_STORE_CTX_get_verify_cb(fresh);
    c.X509_STORE_CTX_free(fresh);
    this.#callback = library.registerCallback(
      { arguments: ['u64', 'u64'], return: 'i32' },
      (verification: bigint, id: bigint) => this.#shown(verification, id),
    );
  }

  judgeBy(context: SecureContext, judge: HandshakeJudge): void {
    const id = ++this.#lastId;
    this.#judges.set(id, judge);
    this.#gone.register(context, id);
    this.#c.SSL_CTX_set_cert_verify_callback(mustHaveAddress(context), this.#callback, id);
  }

  sendOnlyOwnChain(context: SecureContext): void {
    this.#c.SSL_CTX_ctrl(mustHaveAddress(context), SSL_CTRL_MODE, SSL_MODE_NO_AUTO_CHAIN, 0n);
  }

  storeOf(context: SecureContext): bigint {
    return this.#c.SSL_CTX_get_cert_store(mustHaveAddress(context));
  }

  /** Instead of X509_verify_cert, within the handshake. @returns 1: accepted. */
  #shown(verification: bigint, id: bigint): number {
    const c = this.#c;
    let error = X509_V_ERR_UNSPECIFIED;
    try {
      const connection = c.X509_STORE_CTX_get_ex_data(verification, this.#connectionIndex);
      // Node's clients ask for a verdict only afterwards; OpenSSL heeds it here.
      if (c.SSL_is_server(connection) === 0) c.SSL_set_verify(connection, SSL_VERIFY_PEER, 0n);
      const judge = this.#judges.get(id);
      if (judge !== undefined) {
        const leaf = this.#bytesOf(c.X509_STORE_CTX_get0_cert(verification));
        error = judge({
          leaf,
          above: () => this.#certificates(c.X509_STORE_CTX_get0_untrusted(verification), 1),
          verifyChain: (options) => this.#verify(verification, options),
        });
      }
    } catch {
      // Nothing may be thrown into OpenSSL. What is not judged is refused.
    }
    c.X509_STORE_CTX_set_error(verification, error);
    return error === 0 ? 1 : 0;
  }

  #verify(verification: bigint, options: ChainOptions): ChainVerdict {
    const { store } = options;
    if (store === undefined) return this.#run(verification, options);
    const c = this.#c;
    const own = c.X509_STORE_CTX_new();
    try {
      const leaf = c.X509_STORE_CTX_get0_cert(verification);
      if (c.X509_STORE_CTX_init(own, store, leaf, c.X509_STORE_CTX_get0_untrusted(verification)) !== 1) return UNKNOWN;
      const connection = c.X509_STORE_CTX_get_ex_data(verification, this.#connectionIndex);
      c.X509_STORE_CTX_set_default(own, c.SSL_is_server(connection) === 0 ? OF_SERVERS : OF_CLIENTS);
      return this.#run(own, options);
    } finally {
      c.X509_STORE_CTX_free(own);
    }
  }

  #run(verification: bigint, options: ChainOptions): ChainVerdict {
    const { allowExpired, leafCrlOnly, maxDepth, store } = options;
    const c = this.#c;
    c.X509_STORE_CTX_set_verify_cb(verification, this.#strict);
    const parameters = c.X509_STORE_CTX_get0_param(verification);
    // As Envoy: what stands in trusted_ca is trusted, root or not; a trust domain has roots.
    const partial = store === undefined ? X509_V_FLAG_PARTIAL_CHAIN : 0n;
    c.X509_VERIFY_PARAM_set_flags(parameters, partial | (allowExpired ? X509_V_FLAG_NO_CHECK_TIME : 0n));
    // OpenSSL counts what stands between the leaf and the trusted one.
    if (maxDepth !== undefined) c.X509_VERIFY_PARAM_set_depth(parameters, Math.max(0, maxDepth - 1));
    if (leafCrlOnly) c.X509_VERIFY_PARAM_clear_flags(parameters, X509_V_FLAG_CRL_CHECK_ALL);
    if (c.X509_verify_cert(verification) !== 1) {
      const error = c.X509_STORE_CTX_get_error(verification);
      return {
        error: error === 0 ? X509_V_ERR_UNSPECIFIED : error,
        depth: c.X509_STORE_CTX_get_error_depth(verification),
        chain: [],
      };
    }
    return { error: 0, depth: 0, chain: this.#certificates(c.X509_STORE_CTX_get0_chain(verification), 0) };
  }

  #certificates(stack: bigint, from: number): Certificate[] {
    const certificates: Certificate[] = [];
    for (let i = from; i < this.#c.OPENSSL_sk_num(stack); i++) {
      certificates.push(new Certificate(Buffer.from(this.#bytesOf(this.#c.OPENSSL_sk_value(stack, i)))));
    }
    return certificates;
  }

  /** Borrowed: until the next certificate. @throws when it is longer than any should be */
  #bytesOf(certificate: bigint): Buffer {
    const length = this.#c.i2d_X509(certificate, 0n);
    if (length <= 0 || length > MAX_CERTIFICATE_BYTES) throw new Error('a certificate that cannot be read');
    this.#position[0] = this.#derAddress;
    this.#c.i2d_X509(certificate, this.#positionAddress);
    return this.#der.subarray(0, length);
  }
}

const UNKNOWN: ChainVerdict = { error: X509_V_ERR_UNSPECIFIED, depth: 0, chain: [] };
const OF_CLIENTS = Buffer.from('ssl_client\0');
const OF_SERVERS = Buffer.from('ssl_server\0');

/** `[External: 55d5c1c0]` is how Node prints the pointer that it hands out. */
function addressOf(context: SecureContext): bigint | undefined {
  const { _external: external } = context.context as { readonly _external?: unknown };
  const hex = /^\[External: ([0-9a-f]+)\]$/.exec(inspect(external))?.[1];
  return hex === undefined ? undefined : BigInt(`0x${hex}`);
}

function mustHaveAddress(context: SecureContext): bigint {
  const address = addressOf(context);
  if (address === undefined) throw new Error('a TLS context without an address');
  return address;
}
