/**
 * TLS on accepted connections, after their first bytes were looked at.
 *
 * Each filter chain has a `tls.Server` that never listens: a bare TLSSocket would not verify client certificates. It is
 * made anew when a secret changes. Session-ticket keys are derived from the material, so that a session can be resumed
 * on any thread, but only by the same identity, roots and names that judged it.
 */
import { hkdfSync } from 'node:crypto';
import type { Socket } from 'node:net';
import { createServer, type SecureContext, type SecureContextOptions, type Server, type TLSSocket } from 'node:tls';
import type {
  DownstreamTransportSocket,
  PeekedConnection,
  TransportCallbacks,
} from '../../listener/transport_socket.ts';
import type { ConnectionInfo } from '../connection_info.ts';
import { readIntoSharedBuffer, SocketStream } from '../socket_stream.ts';
import type { Certificate } from './certificate.ts';
import { openssl } from './openssl.ts';
import { takeRefusal } from './peer_judge.ts';
import { describe, handshakeError, type VerificationFailure } from './peer_verification.ts';
import type { SecretLookup } from './secrets.ts';
import type { DownstreamTlsConfig } from './tls_config.ts';
import { secured } from './secured.ts';
import { sessionFacts } from './tls_session.ts';
import { peekHello } from './peek_hello.ts';
import { MaterialError, unusable } from './material_error.ts';
import { stapleAction, stapleFault } from './ocsp_staple.ts';
import { prepareContext, type TlsMaterial, TlsMaterialSource } from './tls_material.ts';
import type { TlsStatistics } from './tls_statistics.ts';

const SSL_OP_NO_TICKET = 0x4000;
/** Node takes it for none. */
const NO_STAPLE = null as unknown as Buffer;
type AnswerOcsp = (error: Error | null, response: Buffer) => void;

/** What stands around the TLS of a chain. */
export interface DownstreamTlsDeps {
  readonly secrets: SecretLookup;
  /** The same on all threads. */
  readonly ticketSecret: Uint8Array;
  readonly statistics: TlsStatistics;
  /** Told, in a sentence, of every handshake that failed. */
  complain(message: string): void;
}

/** A handshake under way. */
interface Pending {
  readonly info: ConnectionInfo;
  readonly raw: Socket;
  readonly material: TlsMaterial;
  readonly on: TransportCallbacks;
}

/** The servers of one version of the material: ALPN is answered only where the lists overlap (else Node aborts). */
interface Servers {
  readonly material: TlsMaterial;
  readonly withAlpn: Server | undefined;
  readonly withoutAlpn: Server;
}

export class DownstreamTls implements DownstreamTransportSocket {
  readonly #config: DownstreamTlsConfig;
  readonly #deps: DownstreamTlsDeps;
  readonly #source: TlsMaterialSource;
  readonly #pending = new WeakMap<Socket, Pending>();
  #servers: Servers | undefined = undefined;
  #unusable: { readonly material: TlsMaterial; readonly error: MaterialError } | undefined = undefined;

  constructor(config: DownstreamTlsConfig, deps: DownstreamTlsDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#source = new TlsMaterialSource(config.common, deps.secrets, config.ticketKeys);
  }

  open({ stream, bytes, ended, facts }: PeekedConnection, on: TransportCallbacks): { abort(): void } {
    const servers = this.#newest();
    if (servers instanceof MaterialError) {
      this.#deps.statistics.secretsNotReady.inc();
      this.#deps.complain(`${stream.info.remoteAddress.text} was refused: ${servers.message}`);
      stream.close('reset');
      on.failed(`TLS_error:${servers.message}:TLS_error_end`);
      return NOTHING_TO_ABORT;
    }
    const inspected = facts.transportProtocol !== '' || servers.withAlpn === undefined;
    if (ended || inspected) {
      return this.#start(servers, stream, bytes && Buffer.from(bytes), ended, facts.applicationProtocols, on);
    }
    let later: { abort(): void } | undefined;
    const timer = setTimeout(() => {
      peek.abandon();
      stream.close('reset');
      this.#early(stream.info, 'the TLS handshake took too long', on);
    }, this.#config.handshakeTimeoutMs);
    const peek = peekHello(stream, bytes, {
      peeked: (hello) => {
        clearTimeout(timer);
        later = this.#start(servers, stream, hello.bytes, hello.ended, hello.applicationProtocols, on);
      },
      left: () => {
        clearTimeout(timer);
        this.#early(stream.info, 'the client closed the connection', on);
      },
    });
    return {
      abort: () => {
        clearTimeout(timer);
        peek.abandon();
        if (later === undefined) stream.close('reset');
        else later.abort();
      },
    };
  }

  #start(
    servers: Servers,
    stream: SocketStream,
    first: Buffer | undefined,
    ended: boolean,
    offered: readonly string[],
    on: TransportCallbacks,
  ): { abort(): void } {
    const raw = stream.release();
    if (ended) {
      raw.destroy();
      this.#early(stream.info, 'the client ended the connection', on);
      return NOTHING_TO_ABORT;
    }
    stream.info.handshakeStartMs = performance.now();
    this.#pending.set(raw, { info: stream.info, raw, material: servers.material, on });
    if (first !== undefined) raw.unshift(first);
    // Who ends in the middle of a handshake has left: the TLS socket takes this over, and has it back once it is secure.
    raw.allowHalfOpen = false;
    const { alpn } = this.#config.common;
    const overlaps = offered.some((protocol) => alpn.includes(protocol));
    ((overlaps ? servers.withAlpn : undefined) ?? servers.withoutAlpn).emit('connection', raw);
    return {
      abort: () => {
        this.#pending.delete(raw);
        raw.destroy();
      },
    };
  }

  /** Nothing came of it before TLS began. */
  #early({ remoteAddress }: ConnectionInfo, why: string, on: TransportCallbacks): void {
    this.#deps.statistics.connectionError.inc();
    this.#deps.complain(`the TLS handshake with ${remoteAddress.text} failed: ${why}`);
    on.failed(why);
  }

  #newest(): Servers | MaterialError {
    const material = this.#source.get();
    if (material instanceof MaterialError) return material;
    if (this.#servers?.material === material) return this.#servers;
    if (this.#unusable?.material === material) return this.#servers ?? this.#unusable.error;
    try {
      const { alpn } = this.#config.common;
      const fault = material.own && stapleFault(material.staple, material.own, this.#config.staplePolicy);
      if (fault !== undefined) throw new MaterialError(fault);
      const servers: Servers = {
        material,
        withAlpn: alpn.length === 0 ? undefined : this.#makeServer(material, [...alpn]),
        withoutAlpn: this.#makeServer(material, undefined),
      };
      if (this.#servers !== undefined) this.#deps.statistics.contextUpdates.inc();
      this.#servers = servers;
      this.#deps.statistics.expires(material.expiries);
      return servers;
    } catch (cause) {
      // Certificate and key may come one after the other: until they fit, the last good pair goes on.
      const error = unusable(cause);
      this.#unusable = { material, error };
      this.#deps.complain(error.message);
      return this.#servers ?? error;
    }
  }

  #makeServer(material: TlsMaterial, alpn: string[] | undefined): Server {
    const { common, requireClientCertificate, tickets, sessionTimeoutS, handshakeTimeoutMs } = this.#config;
    const { options } = material;
    const server = createServer({
      ...(options as SecureContextOptions),
      ...(alpn !== undefined && { ALPNProtocols: alpn }),
      honorCipherOrder: true,
      requestCert: common.validation !== undefined,
      // Where OpenSSL judges: then a missing certificate has its alert too. Else judged below, nothing is read or written before.
      rejectUnauthorized: requireClientCertificate && openssl() !== undefined,
      handshakeTimeout: handshakeTimeoutMs,
      sessionIdContext: material.generation.slice(0, 32),
      ticketKeys: this.#ticketKeys(material),
      ...(sessionTimeoutS !== undefined && { sessionTimeout: sessionTimeoutS }),
      secureOptions: (options.secureOptions ?? 0) | (tickets ? 0 : SSL_OP_NO_TICKET),
    });
    const context = contextOf(server);
    if (context !== undefined) prepareContext(context, material);
    const staples = this.#staples(material);
    if (staples !== undefined) server.on('OCSPRequest', (_certificate, _issuer, answer) => staples(answer));
    server.on('secureConnection', (socket) => this.#secure(socket));
    server.on('tlsClientError', (error, socket) => this.#failed(error, socket));
    return server;
  }

  /** undefined: nothing is ever shown, and nobody need ask. Else told of each client that asks. */
  #staples({ own, staple }: TlsMaterial): ((answer: AnswerOcsp) => void) | undefined {
    const { staplePolicy: policy } = this.#config;
    const mustStaple = own?.mustStaple ?? false;
    if (staple === undefined && !mustStaple && policy !== 'MUST_STAPLE') return undefined;
    const { statistics } = this.#deps;
    return (answer) => {
      const action = stapleAction(staple, policy, mustStaple, Date.now());
      statistics.stapled(action);
      if (action === 'fail') answer(new Error('no OCSP response that is still valid'), NO_STAPLE);
      else answer(null, action === 'staple' && staple !== undefined ? staple.der : NO_STAPLE);
    };
  }

  /** All threads derive the same; another certificate, root or name means another key. */
  #ticketKeys(material: TlsMaterial): Buffer {
    const { requireClientCertificate } = this.#config;
    const secret = material.ticketSecret ?? this.#deps.ticketSecret;
    const salt = `${material.generation} ${requireClientCertificate}`;
    return Buffer.from(hkdfSync('sha256', secret, salt, 'session tickets', 48));
  }

  #secure(socket: TLSSocket): void {
    const pending = this.#take(socket);
    if (pending === undefined) {
      socket.destroy();
      return;
    }
    const { info, raw, material, on } = pending;
    socket.allowHalfOpen = true;
    socket.on('error', () => {});
    const facts = sessionFacts(socket);
    const peer = material.judge.peerOf(facts.peer);
    const failure = this.#judge(socket, peer, material);
    const { statistics } = this.#deps;
    if (failure !== undefined) {
      statistics.failed(failure);
      this.#refused(info, failure, material);
      socket.destroy();
      raw.destroy();
      on.failed(failure.reason);
      return;
    }
    const { servername } = socket as TLSSocket & { servername?: string | false | null };
    if (typeof servername === 'string') info.requestedServerName ??= servername;
    const tls = secured(info, socket, facts, peer, material);
    statistics.done(tls, tls.resumed, peer !== undefined);
    on.ready(new SocketStream(socket, info, readIntoSharedBuffer(socket), raw), undefined, false);
  }

  #judge(socket: TLSSocket, peer: Certificate | undefined, { judge }: TlsMaterial): VerificationFailure | undefined {
    const { requireClientCertificate } = this.#config;
    if (peer === undefined && !requireClientCertificate) return undefined;
    const expired = peer !== undefined && socket.isSessionReused() && judge.isOver(peer);
    return judge.judge(
      peer,
      expired ? 'CERT_HAS_EXPIRED' : socket.authorized ? undefined : (socket.authorizationError ?? 'CERT_UNTRUSTED'),
    );
  }

  #refused(info: ConnectionInfo, { explanation }: VerificationFailure, { own }: TlsMaterial): void {
    const mode = this.#config.requireClientCertificate ? 'mutual TLS' : 'TLS';
    const as = own === undefined ? '' : ` as ${describe(own)}`;
    this.#deps.complain(`the client ${info.remoteAddress.text} was refused by ${mode}${as}: ${explanation}`);
  }

  #failed(error: NodeJS.ErrnoException, socket: TLSSocket): void {
    const pending = this.#take(socket);
    socket.on('error', () => {});
    socket.destroy();
    if (pending === undefined) return;
    const { info, raw, material, on } = pending;
    raw.destroy();
    const { statistics } = this.#deps;
    const failure = refusalOf(error, material);
    if (failure !== undefined) {
      statistics.failed(failure);
      this.#refused(info, failure, material);
      on.failed(failure.reason);
      return;
    }
    statistics.connectionError.inc();
    const timedOut = error.code === 'ERR_TLS_HANDSHAKE_TIMEOUT';
    const reason = timedOut ? 'the TLS handshake took too long' : handshakeError(error);
    this.#deps.complain(
      `the TLS handshake with ${info.remoteAddress.text} failed: ${timedOut ? 'it took too long' : inWords(error)}`,
    );
    on.failed(reason === '' ? 'connection closed during the handshake' : reason);
  }

  #take(socket: TLSSocket): Pending | undefined {
    // Node keeps the socket below here; without it nobody is served.
    const raw = (socket as TLSSocket & { readonly _parent?: Socket })._parent;
    const pending = raw === undefined ? undefined : this.#pending.get(raw);
    if (raw !== undefined) this.#pending.delete(raw);
    return pending;
  }
}

const NOTHING_TO_ABORT = { abort(): void {} };
/** The context that all connections of a server share; `createServer` takes none that is made before. */
function contextOf(server: Server): SecureContext | undefined {
  return (server as Server & { readonly _sharedCreds?: SecureContext })._sharedCreds;
}

/** In the handshake OpenSSL asked `material.judge`, or for a certificate that did not come. */
function refusalOf(error: NodeJS.ErrnoException, { judge }: TlsMaterial): VerificationFailure | undefined {
  if (error.code === 'ERR_SSL_CERTIFICATE_VERIFY_FAILED') return takeRefusal();
  return error.code === 'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE' ? judge.judge(undefined, undefined) : undefined;
}

function inWords(error: NodeJS.ErrnoException & { readonly reason?: string }): string {
  const code = error.code ?? '';
  if (code === 'ECONNRESET' || code === 'EPIPE') return 'the client closed the connection';
  if (code.includes('ALERT')) return `the client refused us: ${error.reason ?? code}`;
  return error.reason ?? code;
}
