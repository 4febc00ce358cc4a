/**
 * One attempt to have a request answered: a host, a connection of its pool, the request on it, the answer back.
 *
 *   start ──► waiting ──poolReady──► sent ──decodeHeaders──► responding ──► ended
 *                │ poolFailed          │ onReset, before headers   │ onReset
 *                ▼                     ▼                           ▼
 *              failed: the owner decides about another attempt   the owner resets the client's stream
 */
import type { ResetReason, StreamEncoder } from '../http/codec.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import type { Cluster } from '../upstream/cluster.ts';
import type { Host } from '../upstream/host.ts';
import type { HttpProtocol, Pool, PoolRequest } from '../upstream/pool.ts';
import type { KeptBody } from './kept_body.ts';

/** The routed request. Nothing is called after the attempt was abandoned. */
export interface UpstreamRequestOwner {
  readonly requestHeaders: RequestHeaders;
  /** Sent when there is a connection, as far as it has come. */
  readonly body: KeptBody;
  /** Holders that want no response body yet. */
  readonly responsePauses: number;
  /** There is a connection: the request is about to be sent on it. */
  attemptReady(attempt: UpstreamRequest, connection: ConnectionInfo): void;
  /** What was kept has been sent; `room`: the connection takes more. */
  attemptSent(attempt: UpstreamRequest, room: boolean): void;
  /** The head cannot be written (a filter or a rewrite put CR, LF or NUL into it). Nothing was sent. */
  attemptUnwritable(attempt: UpstreamRequest): void;
  attempt1xx(headers: ResponseHeaders): void;
  attemptHeaders(attempt: UpstreamRequest, headers: ResponseHeaders, endStream: boolean): void;
  attemptData(attempt: UpstreamRequest, chunk: Buffer, endStream: boolean): void;
  attemptTrailers(attempt: UpstreamRequest, trailers: Headers): void;
  /** No connection could be had, or none would be. */
  attemptRefused(attempt: UpstreamRequest, reason: ResetReason, detail: string): void;
  /** The stream ended before its time. */
  attemptReset(attempt: UpstreamRequest, reason: ResetReason): void;
  attemptDrained(): void;
}

export class UpstreamRequest implements PoolRequest {
  readonly cluster: Cluster;
  readonly host: Host;
  /** The connection had served before: the peer may have closed it unseen. */
  reused = false;
  /** Of the connection, once there is one. */
  protocol: HttpProtocol = 'HTTP/1.1';
  responseStarted = false;
  readonly #owner: UpstreamRequestOwner;
  readonly #pool: Pool;
  #encoder: StreamEncoder | undefined = undefined;
  #waiting = false;
  #done = false;

  constructor(owner: UpstreamRequestOwner, cluster: Cluster, host: Host, pool: Pool) {
    this.#owner = owner;
    this.cluster = cluster;
    this.host = host;
    this.#pool = pool;
    host.activeRequests++;
  }

  /** Whether there is a connection for it. */
  get connected(): boolean {
    return this.#encoder !== undefined;
  }

  start(): void {
    this.#waiting = true;
    this.#pool.request(this);
  }

  /** @returns false above the high watermark, or while there is no connection. */
  data(bytes: Buffer, endStream: boolean): boolean {
    return this.#encoder?.encodeData(bytes, endStream) ?? false;
  }

  trailers(trailers: Headers): void {
    this.#encoder?.encodeTrailers(trailers);
  }

  readDisable(disabled: boolean): void {
    this.#encoder?.readDisable(disabled);
  }

  /** It is over for the owner: nothing is called any more. Does nothing the second time. */
  abandon(): void {
    if (this.#done) return;
    this.#finish();
    if (this.#encoder !== undefined) {
      this.cluster.statistics.rqTxReset.inc();
      this.#encoder.reset('local reset');
    } else if (this.#waiting && this.#pool.cancel(this)) this.cluster.statistics.rqCancelled.inc();
  }

  /** The answer is complete: what is left of the request has no reader. */
  complete(): void {
    this.#finish();
    if (!this.#owner.body.complete) this.#encoder?.reset('local reset');
  }

  // ── from the pool ───────────────────────────────────────────────────────────────────────────────────────────────

  poolReady(encoder: StreamEncoder, connection: ConnectionInfo, reused: boolean, protocol: HttpProtocol): void {
    const owner = this.#owner;
    const { body } = owner;
    this.#waiting = false;
    this.#encoder = encoder;
    this.host.counts.rqTotal++;
    this.reused = reused;
    this.protocol = protocol;
    owner.attemptReady(this, connection);
    for (let i = 0; i < owner.responsePauses; i++) encoder.readDisable(true);
    try {
      encoder.encodeHeaders(owner.requestHeaders, body.none);
    } catch {
      encoder.reset('local reset');
      this.#encoder = undefined;
      this.#finish();
      owner.attemptUnwritable(this);
      return;
    }
    const { chunks } = body;
    let room = true;
    for (let i = 0; i < chunks.length; i++) {
      const last = body.complete && body.trailers === undefined && i === chunks.length - 1;
      room = encoder.encodeData(chunks[i] as Buffer, last);
    }
    if (body.trailers !== undefined) encoder.encodeTrailers(body.trailers);
    owner.attemptSent(this, room);
  }

  poolFailed(reason: ResetReason, detail: string): void {
    if (this.#done) return;
    this.#finish();
    this.#owner.attemptRefused(this, reason, detail);
  }

  // ── from the upstream codec ─────────────────────────────────────────────────────────────────────────────────────

  decode1xx(headers: ResponseHeaders): void {
    if (!this.#done) this.#owner.attempt1xx(headers);
  }

  decodeHeaders(head: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    if (this.#done) return;
    this.responseStarted = true;
    this.#owner.attemptHeaders(this, head as ResponseHeaders, endStream);
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    if (!this.#done) this.#owner.attemptData(this, chunk, endStream);
  }

  decodeTrailers(trailers: Headers): void {
    if (!this.#done) this.#owner.attemptTrailers(this, trailers);
  }

  onReset(reason: ResetReason): void {
    if (this.#done) return;
    this.cluster.statistics.rqRxReset.inc();
    this.#encoder = undefined;
    this.#finish();
    this.#owner.attemptReset(this, reason);
  }

  onDrain(): void {
    if (!this.#done) this.#owner.attemptDrained();
  }

  #finish(): void {
    this.#done = true;
    this.#waiting = false;
    this.host.activeRequests--;
  }
}
