/**
 * Answers CONNECT itself: each request gets a connection of its own to the host, whose bytes are the tunnel's.
 * Envoy: envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig.
 */
import type { ResetReason, StreamEncoder } from '../http/codec.ts';
import { ResponseHeaders } from '../http/headers.ts';
import type { SocketStream } from '../net/socket_stream.ts';
import { type AttemptOwner, ConnectionAttempt } from './connection_attempt.ts';
import type { Pool, PoolOptions, PoolRequest } from './pool.ts';

const EMPTY = Buffer.alloc(0);

/** For one request: made with it, gone with its tunnel. */
export class ConnectPool implements Pool, AttemptOwner {
  readonly options: PoolOptions;
  #request: PoolRequest | undefined = undefined;
  #attempt: ConnectionAttempt | undefined = undefined;

  constructor(options: PoolOptions) {
    this.options = options;
  }

  get connections(): number {
    return this.#attempt === undefined ? 0 : 1;
  }

  get isEmpty(): boolean {
    return this.#attempt === undefined;
  }

  request(request: PoolRequest): void {
    const { breaker, statistics, host } = this.options;
    if (!breaker.tryAcquire('connections')) {
      statistics.cxOverflow.inc();
      request.poolFailed('overflow', '');
      return;
    }
    host.counts.cxTotal++;
    host.counts.cxActive++;
    this.#request = request;
    this.#attempt = new ConnectionAttempt(this);
  }

  cancel(request: PoolRequest): boolean {
    if (this.#request !== request) return false;
    this.#request = undefined;
    this.#attempt?.abort();
    return true;
  }

  drain(): void {}

  destroy(): void {
    this.#attempt?.abort();
  }

  connected(_attempt: ConnectionAttempt, stream: SocketStream): void {
    const request = this.#request;
    this.#attempt = undefined;
    this.#request = undefined;
    // cancel() has aborted the attempt: somebody waits.
    if (request === undefined) return stream.close('reset');
    const tunnel = new Tunnel(stream, request, this.options);
    request.poolReady(tunnel, stream.info, false, 'HTTP/1.1');
  }

  connectFailed(_attempt: ConnectionAttempt, reason: ResetReason, detail: string): void {
    const { breaker, host } = this.options;
    const request = this.#request;
    this.#attempt = undefined;
    this.#request = undefined;
    breaker.release('connections');
    host.counts.cxConnectFail++;
    host.counts.cxActive--;
    request?.poolFailed(reason, detail);
  }
}

/** The host's connection as the far end of a CONNECT request. */
class Tunnel implements StreamEncoder {
  readonly #stream: SocketStream;
  readonly #request: PoolRequest;
  readonly #options: PoolOptions;
  #ended = false;
  #over = false;

  constructor(stream: SocketStream, request: PoolRequest, options: PoolOptions) {
    this.#stream = stream;
    this.#request = request;
    this.#options = options;
    const { statistics } = options;
    statistics.rqTotal.inc();
    statistics.rqActive.inc();
    stream.onData = (bytes) => {
      if (!this.#over) request.decodeData(bytes, false);
    };
    stream.onEnd = () => this.#end();
    stream.onDrain = () => {
      if (!this.#over) request.onDrain();
    };
    stream.onClose = () => this.#closed();
  }

  encode1xx(): void {}

  /** The connection is there: that is the answer. */
  encodeHeaders(): void {
    const headers = new ResponseHeaders();
    headers.status = 200;
    this.#request.decodeHeaders(headers, false);
  }

  encodeData(chunk: Buffer, endStream: boolean): boolean {
    const room = chunk.length === 0 || this.#stream.write(chunk);
    if (endStream) this.#stream.endWrite();
    return room;
  }

  encodeTrailers(): void {
    this.#stream.endWrite();
  }

  reset(): void {
    if (this.#over && this.#stream.closed) return;
    const orderly = this.#ended;
    this.#over = true;
    this.#stream.close(orderly ? 'flush' : 'reset');
  }

  readDisable(disabled: boolean): void {
    this.#stream.readDisable(disabled);
  }

  #end(): void {
    if (this.#over || this.#ended) return;
    this.#ended = true;
    this.#request.decodeData(EMPTY, true);
  }

  #closed(): void {
    const { statistics, breaker, host } = this.#options;
    statistics.cxActive.dec();
    statistics.cxDestroy.inc();
    statistics.rqActive.dec();
    host.counts.cxActive--;
    breaker.release('connections');
    if (this.#over || this.#ended) return;
    this.#over = true;
    this.#request.onReset('connection termination');
  }
}
