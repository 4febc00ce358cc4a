/** TLS over connections to hosts: the handshake, who the server has to be, and sessions to resume. */
import { isIP, type Socket } from 'node:net';
import { createSecureContext, type SecureContext, type TLSSocket } from 'node:tls';
import { readIntoSharedBuffer, SocketStream } from '../socket_stream.ts';
import type { SocketInfo } from '../acceptor.ts';
import { FrameStripper, PEER_EXCHANGE } from '../../telemetry/metadata_frame.ts';
import type { Certificate } from './certificate.ts';
import { chainError, onceSession, startClient } from './client_socket.ts';
import { matchesDnsName } from './dns_names.ts';
import { takeRefusal } from './peer_judge.ts';
import { describe, handshakeError, verifyName, type VerificationFailure } from './peer_verification.ts';
import type { SecretLookup } from './secrets.ts';
import { MaterialError, unusable } from './material_error.ts';
import { prepareContext, type TlsMaterial, TlsMaterialSource } from './tls_material.ts';
import type { NameMatcher, UpstreamTlsConfig } from './tls_config.ts';
import { secured } from './secured.ts';
import { sessionFacts, withoutPeer } from './tls_session.ts';
import type { TlsStatistics } from './tls_statistics.ts';

/** What lies over a connected socket. */
export interface UpstreamTransport {
  /** `socket` is connected; nothing was read or written. One callback comes, later; none after abort. */
  open(socket: Socket, info: SocketInfo, on: UpstreamTransportCallbacks): { abort(): void };
}

export interface UpstreamTransportCallbacks {
  ready(stream: SocketStream): void;
  /** Envoy's words; the socket is closed. */
  failed(message: string): void;
}

/** One transport socket of a cluster on one thread. */
export class UpstreamTls {
  readonly config: UpstreamTlsConfig;
  readonly #source: TlsMaterialSource;
  readonly #statistics: TlsStatistics;
  readonly #complain: (message: string) => void;
  #made: { readonly material: TlsMaterial; readonly context: SecureContext } | undefined = undefined;
  #unusable: { readonly material: TlsMaterial; readonly error: MaterialError } | undefined = undefined;

  /** `complain` is told, in a sentence, of every connection that was refused because of who the server is. */
  constructor(
    config: UpstreamTlsConfig,
    secrets: SecretLookup,
    statistics: TlsStatistics,
    complain: (message: string) => void,
  ) {
    this.config = config;
    this.#source = new TlsMaterialSource(config.common, secrets);
    this.#statistics = statistics;
    this.#complain = complain;
  }

  /** One for each host and set of options: sessions are kept in it, and go to nobody else. */
  transport(options: TransportOptions): UpstreamTransport {
    return new HostTransport(this, this.#statistics, this.#complain, options);
  }

  /** The newest certificates and roots; made anew only when they have changed. */
  context(): { readonly material: TlsMaterial; readonly context: SecureContext } | MaterialError {
    const material = this.#source.get();
    if (material instanceof MaterialError) return material;
    if (this.#made?.material === material) return this.#made;
    if (this.#unusable?.material === material) return this.#made ?? this.#unusable.error;
    try {
      const context = createSecureContext(material.options);
      prepareContext(context, material);
      if (this.#made !== undefined) this.#statistics.contextUpdates.inc();
      this.#made = { material, context };
      this.#statistics.expires(material.expiries);
      return this.#made;
    } catch (cause) {
      // Certificate and key may come one after the other: until they fit, the last good pair goes on.
      const error = unusable(cause);
      this.#unusable = { material, error };
      this.#complain(`any host: ${error.message}`);
      return this.#made ?? error;
    }
  }
}

export interface TransportOptions {
  /** Of the endpoint, as the log shows it. */
  readonly address: string;
  /** The endpoint's; for auto_host_sni. */
  readonly hostname: string;
  /** Sent first where istio-peer-exchange is negotiated, and the like expected; undefined: the cluster does not. */
  readonly frame: Buffer | undefined;
  /** Instead of the configured list. */
  readonly alpn: readonly string[] | undefined;
  /** Instead of the configured name (auto_sni). */
  readonly serverName: string | undefined;
  /** A name the certificate must have, beside what is configured (auto_san_validation). */
  readonly verifyName: string | undefined;
}

/** What a session was made with; only in the same circumstances it may be resumed. */
interface KeptSession {
  readonly session: Buffer;
  readonly generation: string;
  readonly peer: Certificate | undefined;
  /** Epoch milliseconds. */
  readonly madeMs: number;
}

class HostTransport implements UpstreamTransport {
  readonly #tls: UpstreamTls;
  readonly #statistics: TlsStatistics;
  readonly #complain: (message: string) => void;
  readonly #options: TransportOptions;
  readonly #serverName: string;
  readonly #verifyName: string | undefined;
  readonly #alpn: string[] | undefined;
  #kept: KeptSession | undefined = undefined;

  constructor(
    tls: UpstreamTls,
    statistics: TlsStatistics,
    complain: (message: string) => void,
    options: TransportOptions,
  ) {
    const { config } = tls;
    this.#tls = tls;
    this.#statistics = statistics;
    this.#complain = complain;
    this.#options = options;
    const host = config.autoHostSni ? options.hostname : '';
    this.#serverName = options.serverName ?? (host !== '' ? host : config.sni);
    this.#verifyName = options.verifyName ?? (config.autoSniSan ? this.#serverName : undefined);
    const alpn = options.alpn ?? config.common.alpn;
    this.#alpn = alpn.length === 0 ? undefined : [...alpn];
  }

  open(socket: Socket, info: SocketInfo, on: UpstreamTransportCallbacks): { abort(): void } {
    const made = this.#tls.context();
    if (made instanceof MaterialError) {
      this.#statistics.secretsNotReady.inc();
      socket.on('error', () => {});
      socket.destroy();
      return later(() => on.failed(`TLS_error:${made.message}:TLS_error_end`));
    }
    const { material, context } = made;
    const kept =
      this.#kept?.generation === material.generation && stillValid(this.#kept, material) ? this.#kept : undefined;
    const named = this.#serverName !== '' && isIP(this.#serverName) === 0;
    if (named) info.requestedServerName = this.#serverName;
    info.handshakeStartMs = performance.now();
    // Judged below, in the terms of the configuration; nothing is sent before.
    const tls = startClient(socket, {
      context,
      serverName: named ? this.#serverName : '',
      alpn: this.#alpn,
      session: kept?.session,
    });
    return this.#handshake(tls, socket, info, material, kept, on);
  }

  #handshake(
    tls: TLSSocket,
    raw: Socket,
    info: SocketInfo,
    material: TlsMaterial,
    kept: KeptSession | undefined,
    on: UpstreamTransportCallbacks,
  ): { abort(): void } {
    let done = false;
    let lastError: NodeJS.ErrnoException | undefined;
    const end = (): void => {
      done = true;
      tls.destroy();
      raw.destroy();
    };
    const failed = (message: string): void => {
      if (done) return;
      end();
      on.failed(message);
    };
    const refused = (failure: VerificationFailure): void => {
      this.#statistics.failed(failure);
      this.#kept = undefined;
      this.#complain(`${this.#where(material)} and the server was refused: ${failure.explanation}`);
      failed(failure.reason);
    };
    raw.on('error', () => {});
    const onError = (error: NodeJS.ErrnoException): void => {
      lastError ??= error;
      const refusal = error.code === 'ERR_SSL_CERTIFICATE_VERIFY_FAILED' ? takeRefusal() : undefined;
      if (refusal !== undefined && !done) {
        refused(refusal);
        return;
      }
      const reason = handshakeError(error);
      if (done) {
        // In TLS 1.3 the server judges our certificate when we are already through.
        if (info.tls === undefined || !reason.includes('ALERT')) return;
        info.transportFailureReason ??= reason;
        this.#statistics.connectionError.inc();
        this.#complain(`${this.#where(material)} and ${inWords(error)}`);
        return;
      }
      this.#statistics.connectionError.inc();
      this.#complain(`${this.#where(material)} and the handshake failed: ${inWords(error)}`);
      failed(reason === '' ? 'delayed connect error: Connection reset by peer' : reason);
    };
    tls.on('error', onError);
    tls.once('end', () => {
      if (!done) onError(Object.assign(new Error('the server ended the handshake'), { code: 'ECONNRESET' }));
    });
    tls.once('close', () => {
      if (done) return;
      this.#statistics.connectionError.inc();
      this.#complain(`${this.#where(material)} and the server ended the handshake without a word`);
      failed(lastError === undefined ? 'connection closed during the handshake' : handshakeError(lastError));
    });
    tls.once('secure', () => {
      if (done) return;
      const resumed = tls.isSessionReused();
      const facts = sessionFacts(tls);
      const peer = resumed ? kept?.peer : material.judge.peerOf(facts.peer);
      const failure = this.#judge(peer, resumed ? undefined : chainError(tls), material);
      if (failure !== undefined) {
        refused(failure);
        return;
      }
      done = true;
      this.#statistics.done(secured(info, tls, facts, peer, material), resumed, peer !== undefined);
      if (this.#tls.config.maxSessionKeys > 0 && !(resumed && kept !== undefined && isFresh(kept))) {
        this.#keepSession(tls, material, peer);
      }
      const stream = new SocketStream(tls, info, readIntoSharedBuffer(tls), raw);
      if (this.#options.frame !== undefined && info.alpn === PEER_EXCHANGE) {
        stream.takeFirst(
          new FrameStripper((told) => {
            info.peer = told;
          }),
        );
        stream.write(this.#options.frame);
      }
      on.ready(stream);
    });
    return {
      abort() {
        if (!done) end();
      },
    };
  }

  #keepSession(tls: TLSSocket, { generation }: TlsMaterial, peer: Certificate | undefined): void {
    const keep = (session: Buffer): void => {
      this.#kept = { session: withoutPeer(session), generation, peer, madeMs: Date.now() };
    };
    // In TLS 1.3 tickets come after the handshake, before it their session is of no use.
    if (tls.getProtocol() === 'TLSv1.3') onceSession(tls, keep);
    else {
      const session = tls.getSession();
      if (session) keep(session);
    }
  }

  #judge(peer: Certificate | undefined, error: unknown, { judge }: TlsMaterial): VerificationFailure | undefined {
    if (!judge.verifies) return undefined;
    const failure = judge.judge(peer, error);
    if (failure !== undefined || peer === undefined || this.#verifyName === undefined) return failure;
    return verifyName(peer, [exactName(this.#verifyName)]);
  }

  /** What we did, for the log: `10.1.2.3:80: we offered mutual TLS (spiffe://…)`. */
  #where({ own }: TlsMaterial): string {
    const sni = this.#serverName === '' ? '' : ` for ${this.#serverName}`;
    const mode = own === undefined ? 'TLS without a certificate of ours' : `mutual TLS as ${describe(own)}`;
    return `${this.#options.address}: we offered ${mode}${sni}`;
  }
}

/** A host name or address as a certificate may have it. */
function exactName(text: string): NameMatcher {
  return {
    text,
    matches: ({ type, value }) => (type === 'dns' ? matchesDnsName(value, text) : type !== 'other' && value === text),
  };
}

/** Servers send new tickets with each connection; taking each of them costs more than it is worth. */
const SESSION_REFRESH_MS = 60_000;

function isFresh({ madeMs }: KeptSession): boolean {
  return Date.now() - madeMs < SESSION_REFRESH_MS;
}

/** A resumed session shows no certificate: what it showed then must hold still. */
function stillValid({ peer }: KeptSession, { judge }: TlsMaterial): boolean {
  return peer === undefined || !judge.isOver(peer);
}

/** What an operator can do something about. */
function inWords(error: NodeJS.ErrnoException & { readonly reason?: string }): string {
  const code = error.code ?? '';
  if (handshakeError(error).includes('WRONG_VERSION_NUMBER')) {
    return 'the answer is no TLS; the server takes plain text there';
  }
  if (code === 'ECONNRESET' || code === 'EPIPE') {
    return 'the server reset the connection (it may want plain text, or does not accept our certificate)';
  }
  if (code.includes('ALERT')) return `the server refused us: ${error.reason ?? code}`;
  return error.reason ?? code;
}

function later(work: () => void): { abort(): void } {
  let aborted = false;
  process.nextTick(() => {
    if (!aborted) work();
  });
  return {
    abort() {
      aborted = true;
    },
  };
}
