/** Connections of a TCP proxy to a cluster's host: bare, or inside a CONNECT or POST request. */
import { failures, type Failure } from '../failures.ts';
import type { ResetReason, StreamEncoder } from '../http/codec.ts';
import { RequestHeaders, type ResponseHeaders } from '../http/headers.ts';
import type { ByteStream } from '../net/byte_stream.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import type { SocketStream } from '../net/socket_stream.ts';
import { type AttemptOwner, ConnectionAttempt } from '../upstream/connection_attempt.ts';
import type { Pool, PoolOptions, PoolRequest } from '../upstream/pool.ts';

const EMPTY = Buffer.alloc(0);
const nothing = (): void => {};

/** Whoever wants the connection. Exactly one is called, unless the attempt was aborted before. */
export interface UpstreamCallbacks {
  /** Its callbacks are the caller's to set when this is called. */
  opened(stream: ByteStream): void;
  failed(reason: ResetReason, detail: string): void;
}

export interface UpstreamAttempt {
  abort(): void;
}

/** A connection of its own to one host, within the cluster's limit of connections (asked for by the caller before). */
export class TcpUpstream implements AttemptOwner, UpstreamAttempt {
  readonly options: PoolOptions;
  readonly #on: UpstreamCallbacks;
  #attempt: ConnectionAttempt | undefined = undefined;
  #over = false;

  constructor(options: PoolOptions, on: UpstreamCallbacks) {
    this.options = options;
    this.#on = on;
  }

  start(): void {
    const { counts } = this.options.host;
    counts.cxTotal++;
    counts.cxActive++;
    this.#attempt = new ConnectionAttempt(this);
  }

  abort(): void {
    if (this.#over) return;
    this.#over = true;
    this.#attempt?.abort();
  }

  connected(_attempt: ConnectionAttempt, stream: SocketStream): void {
    this.#over = true;
    const { statistics, host } = this.options;
    statistics.rqTotal.inc();
    statistics.rqActive.inc();
    host.activeRequests++;
    this.#on.opened(new CountedStream(stream, this.options));
  }

  connectFailed(_attempt: ConnectionAttempt, reason: ResetReason, detail: string): void {
    const { breaker, host } = this.options;
    breaker.release('connections');
    host.counts.cxConnectFail++;
    host.counts.cxActive--;
    if (this.#over) return;
    this.#over = true;
    this.#on.failed(reason, detail);
  }
}

/** A host's connection that gives back what it holds of the cluster's limits when it closes. */
class CountedStream implements ByteStream {
  readonly info: ConnectionInfo;
  readonly #stream: SocketStream;
  #onClose: (failure: Failure | undefined) => void = nothing;

  constructor(stream: SocketStream, { statistics, breaker, host }: PoolOptions) {
    this.#stream = stream;
    this.info = stream.info;
    stream.onClose = (failure) => {
      statistics.cxActive.dec();
      statistics.cxDestroy.inc();
      if (stream.ended || failure !== undefined) statistics.cxDestroyRemote.inc();
      statistics.rqActive.dec();
      host.activeRequests--;
      host.counts.cxActive--;
      breaker.release('connections');
      this.#onClose(failure);
    };
  }

  set onData(callback: (bytes: Buffer) => void) {
    this.#stream.onData = callback;
  }

  set onEnd(callback: () => void) {
    this.#stream.onEnd = callback;
  }

  set onDrain(callback: () => void) {
    this.#stream.onDrain = callback;
  }

  set onClose(callback: (failure: Failure | undefined) => void) {
    this.#onClose = callback;
  }

  write(bytes: Buffer | string): boolean {
    return this.#stream.write(bytes);
  }

  readDisable(disabled: boolean): void {
    this.#stream.readDisable(disabled);
  }

  endWrite(): void {
    this.#stream.endWrite();
  }

  close(how: 'flush' | 'reset'): void {
    this.#stream.close(how);
  }
}

/** The bytes of one connection as the body of a request and its answer (RFC 9110 §9.3.6). */
export class TunnelUpstream implements PoolRequest, ByteStream, UpstreamAttempt {
  onData: (bytes: Buffer) => void = nothing;
  onEnd: () => void = nothing;
  onClose: (failure: Failure | undefined) => void = nothing;
  onDrain: () => void = nothing;
  readonly #pool: Pool;
  readonly #headers: RequestHeaders;
  readonly #on: UpstreamCallbacks;
  #encoder: StreamEncoder | undefined = undefined;
  #connection: ConnectionInfo | undefined = undefined;
  #state: 'waiting' | 'asked' | 'open' | 'closed' = 'waiting';
  #writeEnded = false;
  #readEnded = false;

  constructor(pool: Pool, headers: RequestHeaders, on: UpstreamCallbacks) {
    this.#pool = pool;
    this.#headers = headers;
    this.#on = on;
  }

  start(): void {
    this.#pool.request(this);
  }

  abort(): void {
    if (this.#state === 'waiting') this.#pool.cancel(this);
    this.#state = 'closed';
    this.#encoder?.reset('local reset');
  }

  get info(): ConnectionInfo {
    // `opened` comes after poolReady.
    return this.#connection as ConnectionInfo;
  }

  write(bytes: Buffer | string): boolean {
    const chunk = typeof bytes === 'string' ? Buffer.from(bytes, 'latin1') : bytes;
    return this.#encoder?.encodeData(chunk, false) ?? true;
  }

  readDisable(disabled: boolean): void {
    this.#encoder?.readDisable(disabled);
  }

  endWrite(): void {
    if (this.#writeEnded) return;
    this.#writeEnded = true;
    this.#encoder?.encodeData(EMPTY, true);
    if (this.#readEnded) this.#closed(undefined);
  }

  close(how: 'flush' | 'reset'): void {
    if (this.#state === 'closed') return;
    if (how === 'flush') this.endWrite();
    this.#encoder?.reset('local reset');
    this.#closed(undefined);
  }

  // ── from the pool ───────────────────────────────────────────────────────────────────────────────────────────────

  poolReady(encoder: StreamEncoder, connection: ConnectionInfo): void {
    if (this.#state === 'closed') {
      encoder.reset('local reset');
      return;
    }
    this.#state = 'asked';
    this.#encoder = encoder;
    this.#connection = connection;
    try {
      encoder.encodeHeaders(this.#headers, false);
    } catch (error) {
      encoder.reset('local reset');
      this.#refused('local reset', (error as Error).message);
    }
  }

  poolFailed(reason: ResetReason, detail: string): void {
    this.#refused(reason, detail);
  }

  #refused(reason: ResetReason, detail: string): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#on.failed(reason, detail);
  }

  // ── from the codec ──────────────────────────────────────────────────────────────────────────────────────────────

  decode1xx(): void {}

  decodeHeaders(head: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    if (this.#state !== 'asked') return;
    const { status } = head as ResponseHeaders;
    if (status < 200 || status > 299 || endStream) {
      this.#encoder?.reset('local reset');
      this.#refused('connection failure', `the tunnel was refused with status ${status}`);
      return;
    }
    this.#state = 'open';
    this.#on.opened(this);
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#state !== 'open') return;
    if (chunk.length > 0) this.onData(chunk);
    if (endStream) this.#peerEnded();
  }

  decodeTrailers(): void {
    if (this.#state === 'open') this.#peerEnded();
  }

  onReset(reason: ResetReason): void {
    if (this.#state === 'asked') this.#refused(reason, '');
    if (this.#state !== 'open') return;
    // HTTP/1.1 has but one way to end a tunnel.
    if (reason === 'connection termination') {
      this.#peerEnded();
      this.#closed(undefined);
      return;
    }
    this.#closed(failures.upstreamRemoteReset);
  }

  #peerEnded(): void {
    this.#readEnded = true;
    this.onEnd();
    if (this.#writeEnded) this.#closed(undefined);
  }

  #closed(failure: Failure | undefined): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    this.#encoder = undefined;
    this.onClose(failure);
  }
}

/** The request that opens a tunnel. */
export function tunnelRequest(method: 'CONNECT' | 'POST', authority: string, path: string): RequestHeaders {
  const headers = new RequestHeaders();
  headers.method = method;
  headers.authority = authority;
  headers.scheme = 'http';
  headers.path = method === 'CONNECT' ? '' : path;
  return headers;
}
