/**
 * Connections of one thread to one host, whatever they speak.
 *
 *   connecting ──connected──► ready (has room) ◄──room again── full
 *       │ failed, timeout       │ last stream taken ──────────►│
 *       ▼                       ▼ peer closed, idle timeout    ▼ must close, reset
 *    pending requests fail    closed                         closed
 */
import type { ResetReason } from '../http/codec.ts';
import type { SocketStream } from '../net/socket_stream.ts';
import { ConnectionAttempt, type AttemptOwner } from './connection_attempt.ts';
import type { Pool, PoolOptions, PoolRequest } from './pool.ts';

/** A connected socket with its codec, as the pool sees it. */
export interface PooledConnection {
  /** Further requests it would take now. */
  readonly room: number;
  /** Requests on it. */
  readonly activeCount: number;
  /** Its place among the full ones of its pool, which keeps it; −1: it is not full. */
  fullPlace: number;
  serve(request: PoolRequest): void;
  /** No request is on it: the idle timeout begins. */
  parked(): void;
  /** After what is on it; now when nothing is. */
  drain(): void;
  /** Ends its requests with `reason`, and itself. */
  fail(reason: ResetReason): void;
}

/** Told by connections what became of them. */
export interface ConnectionHolder {
  readonly options: PoolOptions;
  /** A request has ended, or the peer allows more: perhaps there is room again. */
  roomChanged(connection: PooledConnection): void;
  /** It is about to close, or the peer allows less. */
  roomLost(connection: PooledConnection): void;
  closed(connection: PooledConnection): void;
  /** What the peer allowed on the connection that said so last: the next one starts from it. */
  peerMaxStreams: number;
}

export type ConnectionMaker = (holder: ConnectionHolder, stream: SocketStream) => PooledConnection;

/** Requests that wait for one HTTP/2 connection on its way rather than for a connection each. */
const STREAMS_EXPECTED_OF_HTTP2 = 100;

export class ConnectionPool implements Pool, AttemptOwner, ConnectionHolder {
  readonly options: PoolOptions;
  readonly #make: ConnectionMaker;
  /** With room; the one used last at the end, so that the others fall idle. */
  readonly #ready: PooledConnection[] = [];
  /** In no order. No Set: one that a connection enters and leaves with every request is built anew all the time. */
  readonly #full: PooledConnection[] = [];
  readonly #pending: PoolRequest[] = [];
  readonly #connecting = new Set<ConnectionAttempt>();
  peerMaxStreams = STREAMS_EXPECTED_OF_HTTP2;
  #draining = false;

  constructor(options: PoolOptions, make: ConnectionMaker) {
    this.options = options;
    this.#make = make;
    if (options.protocol === 'http1') this.peerMaxStreams = 1;
  }

  get connections(): number {
    return this.#ready.length + this.#full.length + this.#connecting.size;
  }

  get isEmpty(): boolean {
    return this.connections === 0 && this.#pending.length === 0;
  }

  request(request: PoolRequest): void {
    const { breaker, statistics } = this.options;
    let connection = this.#ready.at(-1);
    if (connection !== undefined && request.distrustsIdle === true && connection.activeCount === 0) {
      // It may be as dead as the others: it makes room for a new one.
      connection.drain();
      connection = undefined;
    }
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

  cancel(request: PoolRequest): boolean {
    const index = this.#pending.indexOf(request);
    if (index < 0) return false;
    this.#pending.splice(index, 1);
    this.#pendingLeft();
    return true;
  }

  drain(): void {
    this.#draining = true;
    for (const connection of [...this.#ready, ...this.#full]) connection.drain();
  }

  destroy(): void {
    this.drain();
    for (const attempt of [...this.#connecting]) attempt.abort();
    for (const connection of [...this.#ready, ...this.#full]) connection.fail('connection termination');
    this.#failPending('connection termination', 'cluster removed');
  }

  // ── from attempts ───────────────────────────────────────────────────────────────────────────────────────────────

  connected(attempt: ConnectionAttempt, stream: SocketStream): void {
    this.#connecting.delete(attempt);
    const connection = this.#make(this, stream);
    if (this.options.protocol === 'auto' && stream.info.alpn !== 'h2') this.peerMaxStreams = 1;
    this.#enterFull(connection);
    this.#roomFor(connection, true);
    // What was thought to fit on one connection may need more of them; but not of a peer that allows no stream at all.
    if (this.#pending.length > 0 && connection.activeCount > 0) this.#connectIfNeeded();
  }

  connectFailed(attempt: ConnectionAttempt, reason: ResetReason, detail: string): void {
    this.#connecting.delete(attempt);
    this.options.breaker.release('connections');
    this.options.host.counts.cxConnectFail++;
    this.options.host.counts.cxActive--;
    this.#failPending(reason, detail);
  }

  // ── from connections ────────────────────────────────────────────────────────────────────────────────────────────

  roomChanged(connection: PooledConnection): void {
    this.#roomFor(connection, false);
  }

  #roomFor(connection: PooledConnection, isNew: boolean): void {
    if (connection.room > 0 && this.#leaveFull(connection)) this.#ready.push(connection);
    while (connection.room > 0) {
      const request = this.#nextFor(isNew);
      if (request === undefined) break;
      this.#pendingLeft();
      this.#attach(connection, request);
    }
    if (connection.room === 0 || connection.activeCount > 0) return;
    if (this.#draining) connection.drain();
    else connection.parked();
  }

  /** Whoever has met dead connections waits for a new one, as long as one is on its way. */
  #nextFor(isNew: boolean): PoolRequest | undefined {
    const pending = this.#pending;
    if (!isNew && this.#connecting.size === 0) return pending.shift();
    const index = pending.findIndex((request) => (request.distrustsIdle === true) === isNew);
    if (index >= 0) return pending.splice(index, 1)[0];
    return isNew ? pending.shift() : undefined;
  }

  roomLost(connection: PooledConnection): void {
    if (connection.room === 0) this.#setFull(connection);
  }

  closed(connection: PooledConnection): void {
    const index = this.#ready.indexOf(connection);
    if (index >= 0) this.#ready.splice(index, 1);
    this.#leaveFull(connection);
    this.options.breaker.release('connections');
    this.options.host.counts.cxActive--;
    this.#connectIfNeeded();
  }

  /** `connection` has room, and so stands among the ready ones. */
  #attach(connection: PooledConnection, request: PoolRequest): void {
    const { breaker, statistics } = this.options;
    if (!breaker.tryAcquire('requests')) {
      statistics.rqPendingOverflow.inc();
      statistics.rqActiveOverflow.inc();
      request.poolFailed('overflow', '');
      return;
    }
    // Before it serves: what it sets off may come back here for another connection.
    if (connection.room === 1) this.#setFull(connection);
    connection.serve(request);
  }

  #setFull(connection: PooledConnection): void {
    const ready = this.#ready;
    if (ready.at(-1) === connection) ready.pop();
    else {
      const index = ready.lastIndexOf(connection);
      if (index < 0) return;
      ready.splice(index, 1);
    }
    this.#enterFull(connection);
  }

  #enterFull(connection: PooledConnection): void {
    connection.fullPlace = this.#full.push(connection) - 1;
  }

  /** @returns whether it was full. The last one takes its place. */
  #leaveFull(connection: PooledConnection): boolean {
    const place = connection.fullPlace;
    if (place < 0) return false;
    const last = this.#full.pop() as PooledConnection;
    if (last !== connection) {
      this.#full[place] = last;
      last.fullPlace = place;
    }
    connection.fullPlace = -1;
    return true;
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

  /** Enough connections on their way for what waits, as far as the breaker lets. */
  #connectIfNeeded(): void {
    const { breaker, statistics } = this.options;
    while (this.#connecting.size * Math.max(1, this.peerMaxStreams) < this.#pending.length) {
      if (this.options.sheds()) {
        if (this.connections === 0) this.#failPending('overflow', '');
        return;
      }
      if (!breaker.tryAcquire('connections')) {
        statistics.cxOverflow.inc();
        // A thread without any connection to this host opens one over the limit: its requests would starve.
        if (this.connections > 0) return;
        breaker.acquire('connections');
      }
      const { counts } = this.options.host;
      counts.cxTotal++;
      counts.cxActive++;
      this.#connecting.add(new ConnectionAttempt(this));
    }
  }
}
