/**
 * An upstream HTTP/2 connection: a connected socket with its codec, serving as many requests as the peer allows.
 *
 *   ready ◄──room──► full ──GOAWAY, max requests, drain──► draining ──last stream──► closed
 */
import type { ResetReason } from '../http/codec.ts';
import { KeepalivePings } from '../http/keepalive_pings.ts';
import { Http2ClientCodec } from '../http2/client_codec.ts';
import type { Http2Callbacks } from '../http2/sender.ts';
import { Deadline } from '../net/deadlines.ts';
import type { SocketStream } from '../net/socket_stream.ts';
import type { ConnectionHolder, PooledConnection } from './connection_pool.ts';
import type { PoolRequest } from './pool.ts';

export class Http2Connection implements PooledConnection, Http2Callbacks {
  fullPlace = -1;
  readonly #holder: ConnectionHolder;
  readonly #stream: SocketStream;
  readonly #codec: Http2ClientCodec;
  readonly #pings: KeepalivePings | undefined;
  /** Streams and what is about to be one. */
  #active = 0;
  #served = 0;
  #remoteEnd = false;
  #draining = false;
  #closing = false;
  #closed = false;
  #dispatching = false;
  #roomChanged = false;
  #lastActiveMs: number;
  #idle: Deadline | undefined = undefined;
  #max: Deadline | undefined = undefined;

  constructor(holder: ConnectionHolder, stream: SocketStream) {
    this.#holder = holder;
    this.#stream = stream;
    const { statistics, http2, deadlines, maxConnectionDuration, protocol } = holder.options;
    if (protocol === 'auto') statistics.cxHttp2Total.inc();
    stream.onData = (bytes) => this.#received(bytes);
    stream.onEnd = () => this.#peerEnded();
    stream.onClose = () => this.#ended();
    stream.onDrain = () => this.#codec.onDrain();
    stream.onFlush = () => this.#codec.flush();
    this.#codec = new Http2ClientCodec(this, http2.options, statistics.http2);
    this.#codec.peerMaxStreams = Math.min(this.#codec.peerMaxStreams, holder.peerMaxStreams);
    this.#lastActiveMs = holder.options.nowMs();
    this.#pings = KeepalivePings.start(http2.keepalive, this.#codec, deadlines, () => {
      statistics.http2.keepaliveTimeout.inc();
      stream.info.localCloseReason = 'http2_ping_timeout';
      this.fail('connection termination');
    });
    if (maxConnectionDuration !== undefined) {
      this.#max = new Deadline(() => {
        statistics.cxMaxDurationReached.inc();
        this.drain();
      });
      maxConnectionDuration.arm(this.#max);
    }
  }

  get room(): number {
    if (this.#draining || this.#closing) return 0;
    const { maxRequestsPerConnection } = this.#holder.options;
    const left = maxRequestsPerConnection > 0 ? maxRequestsPerConnection - this.#served : this.#codec.room;
    return Math.min(left, this.#codec.room);
  }

  get activeCount(): number {
    return this.#active;
  }

  serve(request: PoolRequest): void {
    const { statistics, maxRequestsPerConnection, http2, nowMs } = this.#holder.options;
    statistics.rqTotal.inc();
    statistics.rqActive.inc();
    const encoder = this.#codec.newStream(request);
    this.#active++;
    if (encoder === undefined) {
      // Cannot be: the pool asks for room first.
      this.#release();
      request.poolFailed('overflow', '');
      return;
    }
    const reused = this.#served++ > 0;
    const idleIntervalMs = http2.keepalive?.idleIntervalMs ?? 0;
    if (idleIntervalMs > 0 && nowMs() - this.#lastActiveMs >= idleIntervalMs) this.#pings?.ask();
    request.poolReady(encoder, this.#stream.info, reused, 'HTTP/2');
    if (maxRequestsPerConnection > 0 && this.#served >= maxRequestsPerConnection && !this.#draining) {
      statistics.cxMaxRequests.inc();
      this.#draining = true;
    }
  }

  parked(): void {
    const { idleTimeout, statistics } = this.#holder.options;
    if (idleTimeout === undefined) return;
    this.#idle ??= new Deadline(() => {
      if (this.#active > 0) return;
      statistics.cxIdleTimeout.inc();
      this.#close();
    });
    idleTimeout.arm(this.#idle);
  }

  drain(): void {
    this.#draining = true;
    this.#holder.roomLost(this);
    if (this.#active === 0) this.#close();
  }

  fail(reason: ResetReason): void {
    this.#closing = true;
    this.#holder.roomLost(this);
    this.#codec.failStreams(reason);
    this.#stream.close('reset');
  }

  // ── from the codec ──────────────────────────────────────────────────────────────────────────────────────────────

  streamClosed(): void {
    this.#release();
    if (this.#closing) return;
    if (this.#dispatching) this.#roomChanged = true;
    else this.#settle();
  }

  onGoAway(lastStreamId: number): void {
    this.#holder.options.statistics.cxCloseNotify.inc();
    this.#codec.goingAway = true;
    this.#holder.roomLost(this);
    this.#codec.peerGoAway(lastStreamId);
    this.#roomChanged = true;
  }

  onSettings(maxConcurrentStreams: number): void {
    const { http2 } = this.#holder.options;
    this.#holder.peerMaxStreams = Math.min(maxConcurrentStreams, http2.options.maxConcurrentStreams);
    this.#holder.roomLost(this);
    this.#roomChanged = true;
  }

  onPingAck(): void {
    this.#pings?.answered();
  }

  outputReady(): void {
    this.#stream.flushSoon();
  }

  send(bytes: Buffer): 0 | 1 | 2 {
    this.#holder.options.statistics.cxTxBytes.add(bytes.length);
    return this.#stream.writeOwned(bytes);
  }

  nowMs(): number {
    return this.#holder.options.nowMs();
  }

  // ── from the byte stream ────────────────────────────────────────────────────────────────────────────────────────

  #received(bytes: Buffer): void {
    if (this.#closing) return;
    this.#lastActiveMs = this.#holder.options.nowMs();
    this.#holder.options.statistics.cxRxBytes.add(bytes.length);
    this.#pings?.active();
    this.#dispatching = true;
    const error = this.#codec.dispatch(bytes);
    this.#dispatching = false;
    if (error !== undefined) {
      this.#holder.options.statistics.cxProtocolError.inc();
      this.#stream.info.transportFailureReason = error.message;
      this.#closing = true;
      this.#holder.roomLost(this);
      this.#codec.failStreams('protocol error');
      // GOAWAY says why.
      this.#stream.close('flush');
      return;
    }
    if (!this.#roomChanged || this.#closing) return;
    this.#roomChanged = false;
    this.#settle();
  }

  #settle(): void {
    if ((this.#draining || this.#codec.goingAway) && this.#active === 0) this.#close();
    else this.#holder.roomChanged(this);
  }

  #release(): void {
    this.#active--;
    const { statistics, breaker } = this.#holder.options;
    statistics.rqActive.dec();
    breaker.release('requests');
  }

  #peerEnded(): void {
    if (this.#closing) return;
    this.#remoteEnd = true;
    this.#holder.options.statistics.cxDestroyRemote.inc();
    if (this.#active > 0) this.fail('connection termination');
    else this.#close();
  }

  #close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#holder.roomLost(this);
    this.#codec.goAway();
    this.#stream.close('flush');
  }

  #ended(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closing = true;
    this.#idle?.cancel();
    this.#max?.cancel();
    this.#pings?.stop();
    const { options } = this.#holder;
    const { statistics } = options;
    statistics.connectionClosed(this.#remoteEnd, options.nowMs() - this.#stream.info.startMs, this.#served);
    if (this.#active > 0) statistics.destroyedWithRequests(this.#remoteEnd);
    // Those that are sent again at once must not come back to it.
    this.#holder.roomLost(this);
    this.#codec.failStreams('connection termination');
    this.#codec.dispose();
    this.#holder.closed(this);
  }
}
