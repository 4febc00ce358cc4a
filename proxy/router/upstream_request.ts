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
import { Deadline, type DeadlineList, type Deadlines } from '../net/deadlines.ts';
import type { Cluster } from '../upstream/cluster.ts';
import type { Host } from '../upstream/host.ts';
import type { HttpProtocol, Pool, PoolRequest } from '../upstream/pool.ts';
import type { KeptBody } from './kept_body.ts';

/** perTry: the whole answer's head; idle: between two pieces; duration: the upstream stream's whole life. */
export type AttemptLimit = 'perTry' | 'idle' | 'duration';

/** An answer that nobody reads is waited for up to this size and time: its connection is worth more. */
const DISCARD_BYTES = 16_384;
const DISCARD_MS = 1000;

/** undefined: as long as the request may take. */
export interface AttemptLimits {
  readonly perTry: DeadlineList | undefined;
  readonly perTryIdle: DeadlineList | undefined;
  readonly maxDuration: DeadlineList | undefined;
}

/** The routed request. Nothing is called after the attempt was abandoned. */
export interface UpstreamRequestOwner {
  readonly requestHeaders: RequestHeaders;
  /** Sent when there is a connection, as far as it has come. */
  readonly body: KeptBody;
  /** Holders that want no response body yet. */
  readonly responsePauses: number;
  readonly limits: AttemptLimits;
  /** There is a connection: the request is about to be sent on it. */
  attemptReady(attempt: UpstreamRequest, connection: ConnectionInfo): void;
  /** What was kept has been sent; `room`: the connection takes more. */
  attemptSent(attempt: UpstreamRequest, room: boolean): void;
  /** The head cannot be written (a filter or a rewrite put CR, LF or NUL into it). Nothing was sent. */
  attemptUnwritable(attempt: UpstreamRequest): void;
  attempt1xx(attempt: UpstreamRequest, headers: ResponseHeaders): void;
  attemptHeaders(attempt: UpstreamRequest, headers: ResponseHeaders, endStream: boolean): void;
  attemptData(attempt: UpstreamRequest, chunk: Buffer, endStream: boolean): void;
  attemptTrailers(attempt: UpstreamRequest, trailers: Headers): void;
  /** No connection could be had, or none would be. */
  attemptRefused(attempt: UpstreamRequest, reason: ResetReason, detail: string): void;
  /** The stream ended before its time. */
  attemptReset(attempt: UpstreamRequest, reason: ResetReason): void;
  /** It took too long. The attempt is still there: the owner abandons it. */
  attemptTimedOut(attempt: UpstreamRequest, limit: AttemptLimit): void;
  attemptDrained(): void;
}

export class UpstreamRequest implements PoolRequest {
  readonly cluster: Cluster;
  readonly host: Host;
  /** The connection had served before: the peer may have closed it unseen. */
  reused = false;
  /** Once there is one. */
  connection: ConnectionInfo | undefined = undefined;
  /** Of the connection. */
  protocol: HttpProtocol = 'HTTP/1.1';
  responseStarted = false;
  /** It took longer than a try may: outlier detection has heard of it. */
  overdue = false;
  /** It comes from a dead connection: the idle ones are no better. */
  distrustsIdle = false;
  readonly #owner: UpstreamRequestOwner;
  readonly #pool: Pool;
  #encoder: StreamEncoder | undefined = undefined;
  #waiting = false;
  #done = false;
  /** The rest of an answer is read and thrown away. */
  #discarding = false;
  #perTry: Deadline | undefined = undefined;
  #idle: Deadline | undefined = undefined;
  #duration: Deadline | undefined = undefined;
  /** When the request went to the upstream. */
  sentMs = 0;

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

  get queuedBytes(): number {
    return this.#encoder?.queuedBytes ?? 0;
  }

  start(): void {
    this.#waiting = true;
    this.#pool.request(this);
  }

  /** @returns false above the high watermark, or while there is no connection. */
  data(bytes: Buffer, endStream: boolean): boolean {
    if (this.#encoder === undefined) return false;
    this.#moved();
    if (endStream) this.#armPerTry();
    return this.#encoder.encodeData(bytes, endStream);
  }

  trailers(trailers: Headers): void {
    if (this.#encoder === undefined) return;
    this.#armPerTry();
    this.#encoder.encodeTrailers(trailers);
  }

  readDisable(disabled: boolean): void {
    this.#encoder?.readDisable(disabled);
  }

  /** It is over for the owner: nothing is called any more. Does nothing the second time. */
  abandon(): void {
    if (this.#done) return;
    const isWaiting = this.#waiting;
    this.#finish();
    if (this.#encoder !== undefined) {
      this.cluster.statistics.rqTxReset.inc();
      this.#encoder.reset('local reset');
    } else if (isWaiting && this.#pool.cancel(this)) this.cluster.statistics.rqCancelled.inc();
  }

  /** As abandon; but a short answer that has begun is let come, so that its connection can serve on. */
  discard(headers: ResponseHeaders, endStream: boolean, deadlines: Deadlines): void {
    const length = Number(headers.get('content-length') ?? Number.NaN);
    if (endStream && this.#owner.body.complete) return this.#finish();
    if (this.protocol !== 'HTTP/1.1' || !this.#owner.body.complete || !(length <= DISCARD_BYTES)) return this.abandon();
    this.#finish();
    this.#discarding = true;
    this.#duration = new Deadline(() => {
      if (this.#discarding) this.#encoder?.reset('local reset');
      this.#discarding = false;
    });
    deadlines.list(DISCARD_MS).arm(this.#duration);
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
    this.connection = connection;
    owner.attemptReady(this, connection);
    this.#armLimits(owner.limits);
    if (body.complete) this.#armPerTry();
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
    if (!this.#done) this.#owner.attempt1xx(this, headers);
  }

  decodeHeaders(head: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    if (this.#done) return;
    this.responseStarted = true;
    this.#perTry?.cancel();
    this.#moved();
    this.#owner.attemptHeaders(this, head as ResponseHeaders, endStream);
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#done) {
      if (endStream) this.#discarded();
      return;
    }
    this.#moved();
    this.#owner.attemptData(this, chunk, endStream);
  }

  decodeTrailers(trailers: Headers): void {
    if (this.#done) this.#discarded();
    else this.#owner.attemptTrailers(this, trailers);
  }

  onReset(reason: ResetReason): void {
    if (this.#done) return this.#discarded();
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
    this.#perTry?.cancel();
    this.#idle?.cancel();
    this.#duration?.cancel();
    this.host.activeRequests--;
  }

  #discarded(): void {
    if (!this.#discarding) return;
    this.#discarding = false;
    this.#duration?.cancel();
  }

  /** From the moment at which the upstream has the whole request. */
  #armPerTry(): void {
    const list = this.#owner.limits.perTry;
    if (list === undefined || this.responseStarted || this.#done) return;
    this.#perTry = new Deadline(() => this.#owner.attemptTimedOut(this, 'perTry'));
    list.arm(this.#perTry);
  }

  #armLimits({ perTryIdle, maxDuration }: AttemptLimits): void {
    if (perTryIdle !== undefined) {
      this.#idle = new Deadline(() => this.#owner.attemptTimedOut(this, 'idle'));
      perTryIdle.arm(this.#idle);
    }
    if (maxDuration !== undefined) {
      this.#duration = new Deadline(() => this.#owner.attemptTimedOut(this, 'duration'));
      maxDuration.arm(this.#duration);
    }
  }

  /** Something came or went: the idle timeout begins again. */
  #moved(): void {
    if (this.#idle !== undefined) this.#owner.limits.perTryIdle?.arm(this.#idle);
  }
}
