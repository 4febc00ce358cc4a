/** An upstream HTTP/1.1 connection: a connected socket with its codec; serves one request at a time. */
import { type CodecCallbacks, CodecError, type ResetReason } from '../http/codec.ts';
import { Http1ClientCodec } from '../http1/client_codec.ts';
import { Deadline } from '../net/deadlines.ts';
import type { SocketStream } from '../net/socket_stream.ts';
import type { ConnectionHolder, PooledConnection } from './connection_pool.ts';
import type { PoolRequest } from './pool.ts';

/** Removed from the back of a peer's announced keep-alive time: the race with its closing is lost by a hair otherwise. */
const KEEP_ALIVE_MARGIN_MS = 500;

export class Http1Connection implements PooledConnection, CodecCallbacks {
  fullPlace = -1;
  readonly #holder: ConnectionHolder;
  readonly #stream: SocketStream;
  readonly #codec: Http1ClientCodec;
  #request: PoolRequest | undefined = undefined;
  #served = 0;
  #remoteEnd = false;
  #closing = false;
  #closed = false;
  /** The response is complete; set while the codec is still dispatching the bytes that completed it. */
  #complete = false;
  #mustClose = false;
  #draining = false;
  #dispatching = false;
  #idle: Deadline | undefined = undefined;
  #max: Deadline | undefined = undefined;

  constructor(holder: ConnectionHolder, stream: SocketStream) {
    this.#holder = holder;
    this.#stream = stream;
    this.#codec = new Http1ClientCodec(this, { maxHeaderCount: holder.options.maxHeadersCount });
    stream.onData = (bytes) => this.#received(bytes);
    stream.onEnd = () => this.#peerEnded();
    stream.onClose = () => this.#ended();
    stream.onDrain = () => this.#request?.onDrain();
    const { maxConnectionDuration, statistics, protocol } = holder.options;
    if (protocol === 'auto') statistics.cxHttp1Total.inc();
    if (maxConnectionDuration === undefined) return;
    this.#max = new Deadline(() => {
      statistics.cxMaxDurationReached.inc();
      this.drain();
    });
    maxConnectionDuration.arm(this.#max);
  }

  get room(): number {
    return this.#request === undefined && !this.#closing ? 1 : 0;
  }

  get activeCount(): number {
    return this.#request === undefined ? 0 : 1;
  }

  serve(request: PoolRequest): void {
    this.#request = request;
    const { statistics } = this.#holder.options;
    statistics.rqTotal.inc();
    statistics.rqActive.inc();
    this.#complete = false;
    const encoder = this.#codec.newStream(request);
    if (encoder === undefined) {
      // Cannot be: a parked connection has no stream open.
      this.fail('local reset');
      return;
    }
    request.poolReady(encoder, this.#stream.info, this.#served++ > 0, 'HTTP/1.1');
  }

  parked(): void {
    const { idleTimeout, statistics, deadlines } = this.#holder.options;
    const announcedMs = this.#codec.keepAliveTimeoutMs;
    let list = idleTimeout;
    if (announcedMs !== undefined && (list === undefined || announcedMs - KEEP_ALIVE_MARGIN_MS < list.durationMs)) {
      list = deadlines.list(Math.max(1, announcedMs - KEEP_ALIVE_MARGIN_MS));
    }
    if (list === undefined) return;
    this.#idle ??= new Deadline(() => {
      if (this.#request !== undefined) return;
      statistics.cxIdleTimeout.inc();
      this.#close();
    });
    list.arm(this.#idle);
  }

  drain(): void {
    if (this.#request === undefined) this.#close();
    else this.#draining = true;
  }

  /** Ends the request with `reason`, and the connection. */
  fail(reason: ResetReason): void {
    this.#closing = true;
    this.#release()?.onReset(reason);
    this.#stream.close('reset');
  }

  // ── from the codec ──────────────────────────────────────────────────────────────────────────────────────────────

  write(bytes: Buffer | string): boolean {
    this.#holder.options.statistics.cxTxBytes.add(bytes.length);
    return this.#stream.write(bytes);
  }

  readDisable(disabled: boolean): void {
    this.#stream.readDisable(disabled);
  }

  endWrite(): void {
    if (!this.#closing) this.#stream.endWrite();
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
    this.#holder.options.statistics.cxRxBytes.add(bytes.length);
    if (this.#request === undefined) {
      // Nobody asked: an answer here would be taken for the next request's (attacks.md row 12).
      this.#holder.options.statistics.cxProtocolError.inc();
      this.#closing = true;
      this.#holder.roomLost(this);
      this.#stream.close('reset');
      return;
    }
    this.#dispatching = true;
    const result = this.#codec.dispatch(bytes);
    this.#dispatching = false;
    if (result instanceof CodecError) {
      this.#holder.options.statistics.cxProtocolError.inc();
      this.#stream.info.transportFailureReason = result.message;
      this.fail('protocol error');
    } else if (this.#complete) {
      if (result.consumed < bytes.length) this.#mustClose = true;
      this.#finishMessage();
    }
  }

  #finishMessage(): void {
    const { maxRequestsPerConnection, statistics } = this.#holder.options;
    this.#release();
    if (this.#closing) return;
    if (maxRequestsPerConnection > 0 && this.#served >= maxRequestsPerConnection) {
      statistics.cxMaxRequests.inc();
      this.#mustClose = true;
    }
    if (this.#mustClose || this.#draining || this.#stream.ended) this.#close();
    else this.#holder.roomChanged(this);
  }

  #close(): void {
    this.#closing = true;
    this.#holder.roomLost(this);
    this.#stream.close('flush');
  }

  #release(): PoolRequest | undefined {
    const request = this.#request;
    if (request === undefined) return undefined;
    this.#request = undefined;
    this.#holder.options.statistics.rqActive.dec();
    this.#holder.options.breaker.release('requests');
    return request;
  }

  #peerEnded(): void {
    if (this.#closing) return;
    this.#remoteEnd = true;
    this.#holder.options.statistics.cxDestroyRemote.inc();
    if (this.#request === undefined) {
      this.#close();
      return;
    }
    this.#dispatching = true;
    const error = this.#codec.onEndOfInput();
    this.#dispatching = false;
    if (this.#complete && error === undefined) {
      this.#release();
      this.#close();
    } else this.fail('connection termination');
  }

  #ended(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closing = true;
    this.#idle?.cancel();
    this.#max?.cancel();
    const { options } = this.#holder;
    const { statistics } = options;
    statistics.connectionClosed(this.#remoteEnd, options.nowMs() - this.#stream.info.startMs, this.#served);
    const request = this.#release();
    if (request !== undefined) {
      statistics.destroyedWithRequests(this.#remoteEnd);
      request.onReset('connection termination');
    }
    this.#holder.closed(this);
  }
}
