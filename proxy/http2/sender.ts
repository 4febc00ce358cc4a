/**
 * What a connection's half of HTTP/2 sends: frames of all its streams, within windows and limits, and the streams
 * themselves from their opening to their end.
 */
import type { ResetReason, StreamDecoder } from '../http/codec.ts';
import type { HeaderMap, Headers, RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import { DEFAULT_WINDOW_BYTES, ErrorCode, FRAME_HEADER_BYTES, MAX_STREAM_ID } from './constants.ts';
import { FlowControl } from './flow_control.ts';
import { writeData } from './frames/data.ts';
import { writeGoAway } from './frames/goaway.ts';
import { writePing } from './frames/ping.ts';
import { writeRstStream } from './frames/rst_stream.ts';
import { writeSettings } from './frames/settings.ts';
import { writeWindowUpdate } from './frames/window_update.ts';
import { HeadWriter } from './head_writer.ts';
import { InboundLimits } from './inbound_limits.ts';
import { FIRST_WINDOW_BYTES, type Http2Options, MAX_RESET_REMEMBERED } from './options.ts';
import { Output, type OutputOwner } from './output.ts';
import type { Http2Statistics } from './statistics.ts';
import { Http2Stream } from './stream.ts';
import { StreamTable } from './stream_table.ts';

/** What a codec needs of the connection that it serves. */
export interface Http2Callbacks {
  /** Server side: a request begins. Its decoder is called from then on. */
  newStream?(stream: Http2Stream): StreamDecoder;
  /** A stream is gone, however it ended. */
  streamClosed(stream: Http2Stream): void;
  /** The peer starts nothing new, and on our side nothing above `lastStreamId` was touched. */
  onGoAway(lastStreamId: number, errorCode: number): void;
  onSettings(maxConcurrentStreams: number): void;
  /** The answer to `ping`. */
  onPingAck(high: number, low: number): void;
  /** There is output: call `flush` when the running event ends. */
  outputReady(): void;
  /** Sends now. 0: all of it left, the memory is free; 1: kept until it leaves; 2: kept, and no more should come. */
  send(bytes: Buffer): 0 | 1 | 2;
  /** The deadline for a stream that waits for the peer to take what is queued. */
  flushDeadline?(expired: () => void): { cancel(): void } | undefined;
  nowMs(): number;
}

const EMPTY = Buffer.alloc(0);

export abstract class Http2Sender implements OutputOwner {
  readonly callbacks: Http2Callbacks;
  readonly options: Http2Options;
  readonly statistics: Http2Statistics;
  readonly streams = new StreamTable();
  readonly output = new Output(this);
  readonly flow: FlowControl;
  readonly limits: InboundLimits;
  /** The peer's MAX_CONCURRENT_STREAMS; no limit before it says one. */
  peerMaxStreams = MAX_STREAM_ID;
  /** Extended CONNECT may be used towards the peer. */
  peerAllowsConnect = false;
  protected readonly heads: HeadWriter;
  /** The peer's INITIAL_WINDOW_SIZE. */
  protected peerWindow = DEFAULT_WINDOW_BYTES;
  readonly #resetByUs = new Set<number>();
  #outboundFrames = 0;
  #outboundControlFrames = 0;
  #unsent = false;

  constructor(callbacks: Http2Callbacks, options: Http2Options, statistics: Http2Statistics) {
    this.callbacks = callbacks;
    this.options = options;
    this.statistics = statistics;
    this.limits = new InboundLimits(options, statistics);
    this.flow = new FlowControl(this);
    this.heads = new HeadWriter(this.output);
  }

  /** Writes the head of a message and marks END_STREAM on the stream. */
  abstract writeHead(stream: Http2Stream, headers: RequestHeaders | ResponseHeaders, endStream: boolean): void;
  /** Ends the connection: GOAWAY is written, whoever dispatches gets the error. */
  abstract connectionError(code: number, message: string, details?: string): void;
  /** What RST_STREAM says of a reset that is our doing. */
  protected abstract codeOfReset(stream: Http2Stream, reason: ResetReason): number;
  /** Our side is complete, the peer's is not. */
  protected abstract endedEarly(stream: Http2Stream): void;

  // ── frames out ──────────────────────────────────────────────────────────────────────────────────────────────────

  /** Sends everything that is written; called when the running event ends. */
  flush(): void {
    if (this.flow.congested && this.output.length < this.output.bytes.length / 2) return;
    this.output.flush();
  }

  /** From the output. */
  outputReady(): void {
    this.callbacks.outputReady();
  }

  /** From the output. */
  send(bytes: Buffer): boolean {
    const result = this.callbacks.send(bytes);
    this.#unsent = result !== 0;
    if (result === 0) {
      this.#outboundFrames = 0;
      this.#outboundControlFrames = 0;
    }
    this.flow.congested = result === 2;
    return result === 0;
  }

  /** What was sent has left: queued streams go on. */
  onDrain(): void {
    this.#unsent = false;
    this.#outboundFrames = 0;
    this.#outboundControlFrames = 0;
    this.flow.congested = false;
    if (this.output.length > 0) this.output.flush();
    this.flow.pump();
  }

  writeSettings(settings: readonly number[]): void {
    writeSettings(this.output, settings);
    const more = this.options.initialConnectionWindowBytes - DEFAULT_WINDOW_BYTES;
    if (more > 0) writeWindowUpdate(this.output, 0, more);
  }

  /** The answer comes to `onPingAck`. */
  ping(high: number, low: number): void {
    writePing(this.output, high, low);
    this.wroteControl();
  }

  writeGoAway(lastStreamId: number, code: number, reason: string): void {
    this.statistics.goawaySent.inc();
    writeGoAway(this.output, lastStreamId, code, reason);
  }

  writeTrailers(stream: Http2Stream, trailers: HeaderMap): void {
    if (trailers.fields.length === 0) {
      this.sendFrame(stream, EMPTY, 0, true);
      return;
    }
    stream.localEnd = true;
    this.heads.trailers(stream.id, trailers as Headers);
    this.wroteFrame();
  }

  /** From streams: as much of `chunk` as windows and the carrier take. @returns bytes sent. */
  sendData(stream: Http2Stream, chunk: Buffer, from: number, endStream: boolean): number {
    let at = from;
    while (at < chunk.length) {
      const sent = this.sendFrame(stream, chunk, at, endStream);
      if (sent === 0) return at - from;
      at += sent;
    }
    if (chunk.length === from && endStream) this.sendFrame(stream, chunk, from, true);
    return at - from;
  }

  /** One frame of `chunk` from `from`; END_STREAM stands on the one that reaches its end. @returns bytes sent. */
  sendFrame(stream: Http2Stream, chunk: Buffer, from: number, endStream: boolean): number {
    const length = this.flow.allowance(stream, chunk.length - from);
    if (length === 0 && chunk.length > from) return 0;
    if (length === 0 && !endStream) return 0;
    const last = endStream && from + length === chunk.length;
    const out = this.output.reserve(FRAME_HEADER_BYTES + length);
    this.output.length = writeData(out, this.output.length, stream.id, chunk, from, from + length, last);
    this.flow.sent(stream, length);
    this.limits.dataFramesSent++;
    if (last) stream.localEnd = true;
    this.wroteFrame();
    return length;
  }

  protected wroteFrame(): void {
    if (!this.#unsent || ++this.#outboundFrames <= this.options.maxOutboundFrames) return;
    this.statistics.outboundFlood.inc();
    const message = 'too many frames wait for the peer to read';
    this.connectionError(ErrorCode.ENHANCE_YOUR_CALM, message, 'http2.outbound_frames_flood');
  }

  protected wroteControl(): void {
    if (!this.#unsent) return;
    this.wroteFrame();
    if (++this.#outboundControlFrames <= this.options.maxOutboundControlFrames) return;
    this.statistics.outboundControlFlood.inc();
    const message = 'too many control frames wait for the peer to read';
    this.connectionError(ErrorCode.ENHANCE_YOUR_CALM, message, 'http2.outbound_control_frames_flood');
  }

  protected writeReset(streamId: number, code: number): void {
    this.statistics.txReset.inc();
    this.#resetByUs.add(streamId);
    if (this.#resetByUs.size > MAX_RESET_REMEMBERED) {
      const [oldest] = this.#resetByUs;
      if (oldest !== undefined) this.#resetByUs.delete(oldest);
    }
    writeRstStream(this.output, streamId, code);
    this.wroteControl();
  }

  // ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────

  protected makeStream(): Http2Stream {
    const window = this.options.initialStreamWindowBytes ?? FIRST_WINDOW_BYTES;
    return new Http2Stream(0, this, this.peerWindow, window, this.callbacks.nowMs());
  }

  protected openStream(stream: Http2Stream, id: number): void {
    stream.id = id;
    this.limits.streamsOpened++;
    this.streams.add(stream);
    this.statistics.streamsActive.inc();
  }

  /** From streams: our side resets. */
  resetStream(stream: Http2Stream, reason: ResetReason): void {
    this.removeStream(stream);
    // A stream without a head is nothing that the peer knows of.
    if (stream.id !== 0) this.writeReset(stream.id, this.codeOfReset(stream, reason));
  }

  /** From streams: END_STREAM was written. */
  localEnded(stream: Http2Stream): void {
    stream.localEnd = true;
    if (stream.closed) return;
    if (stream.remoteEnd) this.removeStream(stream);
    else this.endedEarly(stream);
  }

  /** A server that has answered wants no more of the request (§8.1). */
  protected closeWithoutError(stream: Http2Stream): void {
    this.removeStream(stream);
    this.writeReset(stream.id, ErrorCode.NO_ERROR);
  }

  protected remoteEnded(stream: Http2Stream): void {
    if (stream.localEnd && !stream.closed) this.removeStream(stream);
  }

  protected removeStream(stream: Http2Stream): void {
    if (stream.closed) return;
    stream.closed = true;
    // What came before an orderly end may still be waiting for its reader.
    if (!stream.remoteEnd || !stream.localEnd) stream.dropHeld();
    stream.flushTimer?.cancel();
    this.flow.gone(stream);
    if (this.streams.delete(stream)) this.statistics.streamsActive.dec();
    this.callbacks.streamClosed(stream);
  }

  /** The connection is gone: every stream with it. Decoders are not called. */
  dispose(): void {
    for (const stream of this.streams.values()) this.removeStream(stream);
    this.output.drop();
  }

  // ── for streams ─────────────────────────────────────────────────────────────────────────────────────────────────

  blocked(stream: Http2Stream): void {
    this.flow.blocked.add(stream);
  }

  unblocked(stream: Http2Stream): void {
    this.flow.blocked.delete(stream);
  }

  growWindow(stream: Http2Stream): number {
    return this.options.initialStreamWindowBytes === undefined ? this.flow.grow(stream) : 0;
  }

  giveWindow(stream: Http2Stream, increment: number): void {
    stream.receiveWindow += increment;
    writeWindowUpdate(this.output, stream.id, increment);
  }

  /** Whether we reset the stream not long ago: the peer may not know yet. */
  protected wasResetByUs(streamId: number): boolean {
    return this.#resetByUs.has(streamId);
  }
}
