/**
 * HTTP/1.1 connections of one thread to one host.
 *
 *   connecting ──connected──► busy ◄──next request── idle
 *       │ failed, timeout       │ response complete ──►│
 *       ▼                       ▼ must close, reset    ▼ peer closed, stray byte, idle timeout
 *    pending requests fail    closed                 closed
 */
import {
  type CodecCallbacks,
  CodecError,
  type ResetReason,
  type StreamDecoder,
  type StreamEncoder,
} from '../http/codec.ts';
import { Http1ClientCodec } from '../http1/client_codec.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import { type ConnectAttempt, openConnection } from '../net/connector.ts';
import { Deadline, type DeadlineList } from '../net/deadlines.ts';
import type { SocketStream } from '../net/socket_stream.ts';
import type { Breaker } from './circuit_breakers.ts';
import type { ClusterStatistics } from './cluster_statistics.ts';
import type { Host } from './host.ts';

/** A request that wants a connection, and then the decoder of its response. */
export interface PoolRequest extends StreamDecoder {
  /** `reused`: the connection has served before, so the peer may have closed it unseen. */
  poolReady(encoder: StreamEncoder, connection: ConnectionInfo, reused: boolean): void;
  poolFailed(reason: ResetReason, detail: string): void;
}

export interface Http1PoolOptions {
  readonly host: Host;
  readonly breaker: Breaker;
  readonly statistics: ClusterStatistics;
  readonly connectTimeout: DeadlineList;
  readonly connectTimeoutMs: number;
  /** undefined: connections stay until the peer closes them. */
  readonly idleTimeout: DeadlineList | undefined;
  /** 0: no limit. */
  readonly maxRequestsPerConnection: number;
  readonly maxHeadersCount: number;
  readonly sourceIp: string | undefined;
  readonly keepAliveIdleMs: number;
  readonly deadlines: { list(durationMs: number): DeadlineList };
  nowMs(): number;
}

/** Removed from the back of a peer's announced keep-alive time: the race with its closing is lost by a hair otherwise. */
const KEEP_ALIVE_MARGIN_MS = 500;

export class Http1Pool {
  readonly options: Http1PoolOptions;
  readonly #idle: Http1ClientConnection[] = [];
  readonly #busy = new Set<Http1ClientConnection>();
  readonly #pending: PoolRequest[] = [];
  readonly #connecting = new Set<Connecting>();
  #draining = false;

  constructor(options: Http1PoolOptions) {
    this.options = options;
  }

  /** Connections of any state. */
  get connections(): number {
    return this.#idle.length + this.#busy.size + this.#connecting.size;
  }

  get isEmpty(): boolean {
    return this.connections === 0 && this.#pending.length === 0;
  }

  /** Answers at once when an idle connection is there, else later, or with poolFailed. */
  request(request: PoolRequest): void {
    const { breaker, statistics } = this.options;
    const connection = this.#idle.pop();
    if (connection !== undefined) {
      this.#attach(connection, request);
      return;
    }
    if (!breaker.tryAcquire('pending')) {
      statistics.rqPendingOverflow.inc();
      request.poolFailed('overflow', '');
      return;
    }
    statistics.rqPendingTotal.inc();
    statistics.rqPendingActive.inc();
    this.#pending.push(request);
    this.#connectIfNeeded();
  }

  /** The request no longer wants what it asked for. @returns whether it was still waiting. */
  cancel(request: PoolRequest): boolean {
    const index = this.#pending.indexOf(request);
    if (index < 0) return false;
    this.#pending.splice(index, 1);
    this.#pendingLeft();
    return true;
  }

  /** The host has gone: idle connections close now, busy ones after their response. */
  drain(): void {
    this.#draining = true;
    for (const connection of [...this.#idle]) connection.close();
  }

  /** Everything ends now. */
  destroy(): void {
    this.drain();
    for (const attempt of [...this.#connecting]) attempt.abort();
    for (const connection of [...this.#busy]) connection.fail('connection termination');
    this.#failPending('connection termination', 'cluster removed');
  }

  // ── from connections ────────────────────────────────────────────────────────────────────────────────────────────

  connected(attempt: Connecting, stream: SocketStream): void {
    this.#connecting.delete(attempt);
    const connection = new Http1ClientConnection(this, stream);
    const request = this.#pending.shift();
    if (request !== undefined) {
      this.#pendingLeft();
      this.#attach(connection, request);
    } else if (this.#draining) connection.close();
    else this.#park(connection);
  }

  connectFailed(attempt: Connecting, reason: ResetReason, detail: string): void {
    this.#connecting.delete(attempt);
    this.options.breaker.release('connections');
    this.#failPending(reason, detail);
  }

  released(connection: Http1ClientConnection): void {
    this.#busy.delete(connection);
    const request = this.#pending.shift();
    if (request !== undefined) {
      this.#pendingLeft();
      this.#attach(connection, request);
    } else if (this.#draining) connection.close();
    else this.#park(connection);
  }

  closed(connection: Http1ClientConnection): void {
    const index = this.#idle.indexOf(connection);
    if (index >= 0) this.#idle.splice(index, 1);
    this.#busy.delete(connection);
    this.options.breaker.release('connections');
    this.#connectIfNeeded();
  }

  #attach(connection: Http1ClientConnection, request: PoolRequest): void {
    const { breaker, statistics } = this.options;
    if (!breaker.tryAcquire('requests')) {
      statistics.rqPendingOverflow.inc();
      this.#park(connection);
      request.poolFailed('overflow', '');
      return;
    }
    this.#busy.add(connection);
    connection.serve(request);
  }

  #park(connection: Http1ClientConnection): void {
    this.#busy.delete(connection);
    this.#idle.push(connection);
    connection.parked();
  }

  #pendingLeft(): void {
    this.options.breaker.release('pending');
    this.options.statistics.rqPendingActive.dec();
  }

  #failPending(reason: ResetReason, detail: string): void {
    const waiting = this.#pending.splice(0);
    for (const request of waiting) {
      this.#pendingLeft();
      this.options.statistics.rqPendingFailureEject.inc();
      request.poolFailed(reason, detail);
    }
  }

  /** One connection on its way for each waiting request, as far as the breaker lets. */
  #connectIfNeeded(): void {
    const { breaker, statistics } = this.options;
    while (this.#connecting.size < this.#pending.length) {
      if (!breaker.tryAcquire('connections')) {
        statistics.cxOverflow.inc();
        // A thread without any connection to this host opens one over the limit: its requests would starve.
        if (this.connections > 0) return;
        breaker.acquire('connections');
      }
      this.#connecting.add(new Connecting(this));
    }
  }
}

/** One connection attempt with its timeout. */
class Connecting {
  readonly #pool: Http1Pool;
  readonly #attempt: ConnectAttempt;
  readonly #deadline: Deadline;

  constructor(pool: Http1Pool) {
    this.#pool = pool;
    const { host, statistics, connectTimeout, sourceIp, keepAliveIdleMs, nowMs } = pool.options;
    const startMs = nowMs();
    statistics.cxTotal.inc();
    statistics.cxHttp1Total.inc();
    statistics.cxActive.inc();
    this.#deadline = new Deadline(() => {
      this.#attempt.abort();
      statistics.cxConnectTimeout.inc();
      this.#failed('connection timeout', 'connection timeout');
    });
    connectTimeout.arm(this.#deadline, startMs);
    this.#attempt = openConnection({
      address: host.address,
      sourceIp,
      keepAliveIdleMs,
      nowMs,
      onConnected: (stream) => {
        this.#deadline.cancel();
        statistics.cxConnectMs.record(nowMs() - startMs);
        pool.connected(this, stream);
      },
      onFailed: (message) => this.#failed('connection failure', message),
    });
  }

  abort(): void {
    this.#attempt.abort();
    this.#failed('connection termination', 'aborted');
  }

  #failed(reason: ResetReason, detail: string): void {
    const { statistics } = this.#pool.options;
    this.#deadline.cancel();
    statistics.cxConnectFail.inc();
    statistics.cxActive.dec();
    this.#pool.connectFailed(this, reason, detail);
  }
}

/** A connected socket with its codec; serves one request at a time. */
class Http1ClientConnection implements CodecCallbacks {
  readonly #pool: Http1Pool;
  readonly #stream: SocketStream;
  readonly #codec: Http1ClientCodec;
  #request: PoolRequest | undefined = undefined;
  #served = 0;
  #closing = false;
  #closed = false;
  /** The response is complete; set while the codec is still dispatching the bytes that completed it. */
  #complete = false;
  #mustClose = false;
  #dispatching = false;
  #idle: Deadline | undefined = undefined;

  constructor(pool: Http1Pool, stream: SocketStream) {
    this.#pool = pool;
    this.#stream = stream;
    this.#codec = new Http1ClientCodec(this, { maxHeaderCount: pool.options.maxHeadersCount });
    stream.onData = (bytes) => this.#received(bytes);
    stream.onEnd = () => this.#peerEnded();
    stream.onClose = () => this.#ended();
    stream.onDrain = () => this.#request?.onDrain();
  }

  serve(request: PoolRequest): void {
    this.#request = request;
    const { statistics } = this.#pool.options;
    statistics.rqTotal.inc();
    statistics.rqActive.inc();
    this.#complete = false;
    const encoder = this.#codec.newStream(request);
    if (encoder === undefined) {
      // Cannot be: a parked connection has no stream open.
      this.fail('local reset');
      return;
    }
    request.poolReady(encoder, this.#stream.info, this.#served++ > 0);
  }

  parked(): void {
    const { idleTimeout, statistics, deadlines } = this.#pool.options;
    const announcedMs = this.#codec.keepAliveTimeoutMs;
    let list = idleTimeout;
    if (announcedMs !== undefined && (list === undefined || announcedMs - KEEP_ALIVE_MARGIN_MS < list.durationMs)) {
      list = deadlines.list(Math.max(1, announcedMs - KEEP_ALIVE_MARGIN_MS));
    }
    if (list === undefined) return;
    this.#idle ??= new Deadline(() => {
      if (this.#request !== undefined) return;
      statistics.cxIdleTimeout.inc();
      this.close();
    });
    list.arm(this.#idle);
  }

  close(): void {
    this.#closing = true;
    this.#stream.close('flush');
  }

  /** Ends the request with `reason`, and the connection. */
  fail(reason: ResetReason): void {
    this.#closing = true;
    this.#release()?.onReset(reason);
    this.#stream.close('reset');
  }

  // ── from the codec ──────────────────────────────────────────────────────────────────────────────────────────────

  write(bytes: Buffer | string): boolean {
    return this.#stream.write(bytes);
  }

  readDisable(disabled: boolean): void {
    this.#stream.readDisable(disabled);
  }

  onInputWanted(): void {}

  onGoAway(): void {}

  onSettings(): void {}

  onMessageComplete(mustClose: boolean): void {
    this.#complete = true;
    this.#mustClose = mustClose;
    if (!this.#dispatching) this.#finishMessage();
  }

  /** The request was abandoned: HTTP/1.1 has no way to say so but closing. */
  onLocalReset(): void {
    this.#closing = true;
    this.#release();
    this.#stream.close('reset');
  }

  // ── from the byte stream ────────────────────────────────────────────────────────────────────────────────────────

  #received(bytes: Buffer): void {
    if (this.#closing) return;
    if (this.#request === undefined) {
      // Nobody asked: an answer here would be taken for the next request's (attacks.md row 12).
      this.#pool.options.statistics.cxProtocolError.inc();
      this.#closing = true;
      this.#stream.close('reset');
      return;
    }
    this.#dispatching = true;
    const result = this.#codec.dispatch(bytes);
    this.#dispatching = false;
    if (result instanceof CodecError) {
      this.#pool.options.statistics.cxProtocolError.inc();
      this.#stream.info.transportFailureReason = result.message;
      this.fail('protocol error');
    } else if (this.#complete) {
      if (result.consumed < bytes.length) this.#mustClose = true;
      this.#finishMessage();
    }
  }

  #finishMessage(): void {
    const { maxRequestsPerConnection, statistics } = this.#pool.options;
    this.#release();
    if (this.#closing) return;
    if (maxRequestsPerConnection > 0 && this.#served >= maxRequestsPerConnection) {
      statistics.cxMaxRequests.inc();
      this.#mustClose = true;
    }
    if (this.#mustClose || this.#stream.ended) this.close();
    else this.#pool.released(this);
  }

  #release(): PoolRequest | undefined {
    const request = this.#request;
    if (request === undefined) return undefined;
    this.#request = undefined;
    this.#pool.options.statistics.rqActive.dec();
    this.#pool.options.breaker.release('requests');
    return request;
  }

  #peerEnded(): void {
    if (this.#closing) return;
    this.#pool.options.statistics.cxDestroyRemote.inc();
    if (this.#request === undefined) {
      this.close();
      return;
    }
    this.#dispatching = true;
    const error = this.#codec.onEndOfInput();
    this.#dispatching = false;
    if (this.#complete && error === undefined) {
      this.#release();
      this.close();
    } else this.fail('connection termination');
  }

  #ended(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closing = true;
    this.#idle?.cancel();
    const { statistics } = this.#pool.options;
    statistics.cxActive.dec();
    statistics.cxDestroy.inc();
    const request = this.#release();
    if (request !== undefined) {
      statistics.cxDestroyWithActiveRq.inc();
      request.onReset('connection termination');
    }
    this.#pool.closed(this);
  }
}
