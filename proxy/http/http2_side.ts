/** What serves HTTP/2 on a downstream connection: many requests at a time, a graceful end by GOAWAY. */
import { Http2ServerCodec } from '../http2/server_codec.ts';
import type { Http2Callbacks } from '../http2/sender.ts';
import type { Http2Stream } from '../http2/stream.ts';
import { asFlushing, type FlushingByteStream } from '../net/byte_stream.ts';
import { Deadline } from '../net/deadlines.ts';
import type { StreamDecoder } from './codec.ts';
import type { HttpConnection, HttpSide } from './connection_manager.ts';
import { KeepalivePings } from './keepalive_pings.ts';

/** The PING behind the first GOAWAY: its answer says that what was on its way has come. Any bytes will do. */
const DRAIN_PING = [0x70696c6c, 0x696f6e21] as const;

export class Http2Side implements HttpSide, Http2Callbacks {
  readonly #connection: HttpConnection;
  readonly #stream: FlushingByteStream;
  readonly #codec: Http2ServerCodec;
  readonly #pings: KeepalivePings | undefined;
  #draining: 'no' | 'announced' | 'final' = 'no';
  #drain: Deadline | undefined = undefined;

  constructor(connection: HttpConnection) {
    this.#connection = connection;
    const { config, statistics, deadlines, http2Statistics } = connection.runtime();
    this.#stream = asFlushing(connection.stream);
    this.#stream.onFlush = () => this.#codec.flush();
    this.#codec = new Http2ServerCodec(this, config.http2.options, http2Statistics);
    statistics.cxHttp2Total.inc();
    statistics.cxHttp2Active.inc();
    this.#pings = KeepalivePings.start(config.http2.keepalive, this.#codec, deadlines, () => {
      http2Statistics.keepaliveTimeout.inc();
      connection.info.localCloseReason = 'http2_ping_timeout';
      connection.destroy();
    });
  }

  // ── from the connection ─────────────────────────────────────────────────────────────────────────────────────────

  received(bytes: Buffer): void {
    this.#pings?.active();
    const error = this.#codec.dispatch(bytes);
    if (error === undefined) return;
    const { info, statistics } = this.#connection;
    statistics.cxProtocolError.inc();
    if (error.details === 'http2.premature_reset_flood') statistics.rqTooManyPrematureResets.inc();
    info.terminationDetails = error.message;
    info.localCloseReason = 'http2_connection_protocol_violation';
    for (const stream of this.#connection.openStreams()) stream.rejectRequest(0, error.details);
    this.#connection.close();
  }

  inputEnded(): boolean {
    return false;
  }

  drained(): void {
    this.#codec.onDrain();
  }

  drain(): void {
    if (this.#draining !== 'no') return;
    this.#draining = 'announced';
    this.#codec.goAway(false);
    this.#codec.ping(...DRAIN_PING);
    const { config, deadlines } = this.#connection.runtime();
    this.#drain = new Deadline(() => this.#finishDrain());
    deadlines.list(Math.max(1, config.drainTimeoutMs)).arm(this.#drain);
  }

  /** One stream's wish to be the last is not the others': only the connection's own limits end it. */
  closeAfterResponse(): void {
    if (this.#connection.reachedLimit) this.drain();
  }

  idle(): void {
    if (this.#draining === 'final') this.#connection.close();
  }

  closing(): void {
    this.#pings?.stop();
    this.#drain?.cancel();
    if (!this.#codec.failed) this.#codec.goAway(true);
  }

  ended(): void {
    this.#pings?.stop();
    this.#drain?.cancel();
    this.#codec.dispose();
    this.#connection.statistics.cxHttp2Active.dec();
  }

  // ── from the codec ──────────────────────────────────────────────────────────────────────────────────────────────

  newStream(stream: Http2Stream): StreamDecoder {
    const connection = this.#connection;
    const request = connection.newStream(stream, 'HTTP/2');
    if (connection.reachedLimit) this.drain();
    return request;
  }

  streamClosed(): void {}

  /** A client that goes away still gets its answers, and then closes. */
  onGoAway(): void {}

  onSettings(): void {}

  onPingAck(high: number, low: number): void {
    if (high === DRAIN_PING[0] && low === DRAIN_PING[1]) this.#finishDrain();
    else this.#pings?.answered();
  }

  outputReady(): void {
    this.#stream.flushSoon();
  }

  send(bytes: Buffer): 0 | 1 | 2 {
    return this.#stream.writeOwned(bytes);
  }

  flushDeadline(expired: () => void): Deadline | undefined {
    const { streamIdle } = this.#connection.runtime();
    if (streamIdle === undefined) return undefined;
    const deadline = new Deadline(expired);
    streamIdle.arm(deadline);
    return deadline;
  }

  nowMs(): number {
    return this.#connection.runtime().nowMs();
  }

  /** Names the last stream; nothing above it is served, and the connection ends with the last one below it. */
  #finishDrain(): void {
    if (this.#draining !== 'announced') return;
    this.#draining = 'final';
    this.#drain?.cancel();
    this.#codec.goAway(true);
    if (this.#codec.streams.size === 0) this.#connection.close();
  }
}
