/**
 * A connection's half of HTTP/2, server or client: frames in, frames out, flow control, settings (RFC 9113).
 *
 *   preface ──SETTINGS──► running ──GOAWAY of either side──► draining ──last stream──► the owner closes
 *      └── a fault of the connection anywhere ──► GOAWAY with its code, CodecError to the caller
 */
import { CodecError, type ResetReason } from '../http/codec.ts';
import {
  DEFAULT_FRAME_BYTES,
  ErrorCode,
  FRAME_HEADER_BYTES,
  Flag,
  FrameType,
  MAX_STREAM_ID,
  MAX_WINDOW_BYTES,
  Setting,
} from './constants.ts';
import { FrameReader } from './frame_reader.ts';
import { payload, unpad } from './frames/data.ts';
import { readUint31, readUint32 } from './frames/frame_header.ts';
import { GOAWAY_BYTES } from './frames/goaway.ts';
import { readHeaders } from './frames/headers.ts';
import { PING_BYTES, writePingAck } from './frames/ping.ts';
import { PRIORITY_BYTES, dependsOn } from './frames/priority.ts';
import { PUSH_PROMISE_REASON } from './frames/push_promise.ts';
import { RST_STREAM_BYTES } from './frames/rst_stream.ts';
import { readSettings, SETTING_BYTES, writeSettingsAck } from './frames/settings.ts';
import { WINDOW_UPDATE_BYTES } from './frames/window_update.ts';
import { DecodedBlock, HpackDecoder } from './hpack/decoder.ts';
import { HeaderBlocks } from './header_blocks.ts';
import type { HeadRules } from './message_rules.ts';
import type { Http2Options } from './options.ts';
import { type Http2Callbacks, Http2Sender } from './sender.ts';
import type { Http2Statistics } from './statistics.ts';
import type { Http2Stream } from './stream.ts';

const block = new DecodedBlock();

export abstract class Http2Codec extends Http2Sender {
  protected readonly rules: HeadRules;
  readonly #reader = new FrameReader(DEFAULT_FRAME_BYTES);
  readonly #blocks: HeaderBlocks;
  readonly #decoder: HpackDecoder;
  #error: CodecError | undefined = undefined;
  #settingsSeen = false;

  constructor(callbacks: Http2Callbacks, options: Http2Options, statistics: Http2Statistics, rules: HeadRules) {
    super(callbacks, options, statistics);
    this.rules = rules;
    this.#blocks = new HeaderBlocks(options.maxHeaderListBytes);
    this.#decoder = new HpackDecoder(options.hpackTableBytes);
  }

  get failed(): boolean {
    return this.#error !== undefined;
  }

  // ── bytes in ────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Takes all of `bytes`, which are borrowed. A fault ends the connection: GOAWAY is written, flush and close. */
  dispatch(bytes: Buffer): CodecError | undefined {
    if (this.#error !== undefined) return this.#error;
    let at = this.readPreface(bytes);
    const reader = this.#reader;
    if (at >= 0 && reader.carriedBytes > 0) at += this.#completeFrame(at === 0 ? bytes : bytes.subarray(at));
    while (at < bytes.length && this.#error === undefined) {
      const length = reader.frameAt(bytes, at);
      if (length === 0) {
        reader.keep(bytes, at);
        break;
      }
      if (length < 0) this.connectionError(ErrorCode.FRAME_SIZE_ERROR, 'a frame longer than we take');
      else this.#frame(bytes, at, at + length);
      at += length;
    }
    return this.#error;
  }

  /** @returns bytes of the preface taken. */
  protected readPreface(_bytes: Buffer): number {
    return 0;
  }

  #completeFrame(bytes: Buffer): number {
    const taken = this.#reader.add(bytes);
    if (taken < 0) {
      this.connectionError(ErrorCode.FRAME_SIZE_ERROR, 'a frame longer than we take');
      return bytes.length;
    }
    const whole = this.#reader.takeWhole();
    if (whole !== undefined) this.#frame(whole, 0, whole.length);
    return taken;
  }

  #frame(bytes: Buffer, at: number, end: number): void {
    const type = bytes[at + 3] as number;
    const flags = bytes[at + 4] as number;
    const streamId = readUint31(bytes, at + 5);
    const from = at + FRAME_HEADER_BYTES;
    if (!this.#settingsSeen && (type !== FrameType.SETTINGS || (flags & Flag.ACK) !== 0)) {
      return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'the first frame is not SETTINGS');
    }
    if (this.#blocks.streamId !== 0 && (type !== FrameType.CONTINUATION || streamId !== this.#blocks.streamId)) {
      return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'a header block was not carried on');
    }
    switch (type) {
      case FrameType.DATA:
        return this.#onData(bytes, from, end, flags, streamId);
      case FrameType.HEADERS:
        return this.#onHeaders(bytes, from, end, flags, streamId);
      case FrameType.PRIORITY:
        return this.#onPriority(bytes, from, end, streamId);
      case FrameType.RST_STREAM:
        return this.#onRstStream(bytes, from, end, streamId);
      case FrameType.SETTINGS:
        return this.#onSettings(bytes, from, end, flags, streamId);
      case FrameType.PUSH_PROMISE:
        return this.connectionError(ErrorCode.PROTOCOL_ERROR, PUSH_PROMISE_REASON);
      case FrameType.PING:
        return this.#onPing(bytes, from, end, flags, streamId);
      case FrameType.GOAWAY:
        return this.#onGoAway(bytes, from, end, streamId);
      case FrameType.WINDOW_UPDATE:
        return this.#onWindowUpdate(bytes, from, end, streamId);
      case FrameType.CONTINUATION:
        return this.#onContinuation(bytes, from, end, flags, streamId);
      default:
        // Unknown frames are ignored (§5.5), not without end.
        this.#countControl();
    }
  }

  #onData(bytes: Buffer, from: number, end: number, flags: number, streamId: number): void {
    if (streamId === 0) return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'DATA on stream 0');
    if (!unpad(bytes, from, end, flags)) {
      return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'more padding than payload');
    }
    const { from: dataFrom, end: dataEnd } = payload;
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if (!this.limits.payloadFrame(dataEnd === dataFrom, endStream)) return this.#flooded();
    if (!this.flow.received(end - from)) {
      return this.connectionError(ErrorCode.FLOW_CONTROL_ERROR, 'more DATA than the connection window');
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) return this.#onClosedStream(streamId, 'DATA');
    if (stream.remoteEnd) return this.streamError(stream, ErrorCode.STREAM_CLOSED, 'DATA behind the end');
    if (!stream.headReceived) return this.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'DATA before a head');
    stream.receiveWindow -= end - from;
    if (stream.receiveWindow < 0) {
      return this.streamError(stream, ErrorCode.FLOW_CONTROL_ERROR, 'more DATA than the window');
    }
    if (!stream.countBody(dataEnd - dataFrom) || (endStream && !stream.bodyComplete)) {
      return this.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'a body of another length than content-length');
    }
    if (endStream) stream.remoteEnd = true;
    stream.data(bytes.subarray(dataFrom, dataEnd), end - from, endStream);
    if (endStream) this.remoteEnded(stream);
  }

  #onHeaders(bytes: Buffer, from: number, end: number, flags: number, streamId: number): void {
    if (streamId === 0) return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'HEADERS on stream 0');
    const fault = readHeaders(bytes, from, end, flags, streamId);
    if (fault === 'padding') return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'more padding than payload');
    if (fault === 'size') return this.connectionError(ErrorCode.FRAME_SIZE_ERROR, 'HEADERS without its priority');
    const endStream = (flags & Flag.END_STREAM) !== 0;
    if (!this.limits.payloadFrame(payload.end === payload.from, endStream)) return this.#flooded();
    const itself = fault === 'itself';
    if ((flags & Flag.END_HEADERS) !== 0) {
      this.#block(streamId, endStream, itself, bytes, payload.from, payload.end);
    } else this.#blocks.start(streamId, endStream, itself, bytes, payload.from, payload.end);
  }

  #onContinuation(bytes: Buffer, from: number, end: number, flags: number, streamId: number): void {
    const blocks = this.#blocks;
    if (blocks.streamId === 0) {
      return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'CONTINUATION without HEADERS');
    }
    const endHeaders = (flags & Flag.END_HEADERS) !== 0;
    if (!this.limits.payloadFrame(end === from, endHeaders)) return this.#flooded();
    if (!blocks.add(bytes, from, end)) {
      this.statistics.inboundContinuationFlood.inc();
      return this.connectionError(
        ErrorCode.ENHANCE_YOUR_CALM,
        'a header block in too many or too long frames',
        'http2.inbound_continuation_flood',
      );
    }
    if (!endHeaders) return;
    const { endStream, itself } = blocks;
    const whole = blocks.take();
    this.#block(streamId, endStream, itself, whole, 0, whole.length);
  }

  /** A whole header block. It is always decoded: the table must stay in step with the peer's. */
  #block(streamId: number, endStream: boolean, itself: boolean, bytes: Buffer, from: number, end: number): void {
    const { maxHeaderListBytes, maxHeaderCount } = this.options;
    const limits = { maxListBytes: maxHeaderListBytes, maxCount: maxHeaderCount };
    if (!this.#decoder.decode(bytes, from, end, limits, block)) {
      return this.connectionError(ErrorCode.COMPRESSION_ERROR, 'a header block that cannot be decoded');
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.isIdle(streamId)) this.openedByPeer(streamId, endStream, itself, block);
      else this.#onClosedStream(streamId, 'HEADERS');
      return;
    }
    if (itself) return this.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'a stream that depends on itself');
    if (stream.remoteEnd) return this.streamError(stream, ErrorCode.STREAM_CLOSED, 'HEADERS behind the end');
    if (!this.withinLimits(stream, block)) return;
    if (!stream.headReceived) return this.headReceived(stream, endStream, block);
    if (!endStream) return this.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'trailers that end nothing');
    const trailers = this.rules.trailers(block);
    if (trailers === undefined) return this.malformed(stream);
    if (!stream.bodyComplete) {
      return this.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'a body of another length than content-length');
    }
    this.statistics.trailers.inc();
    stream.remoteEnd = true;
    stream.trailers(trailers);
    this.remoteEnded(stream);
  }

  /** Server side: the peer opens a stream. */
  protected abstract openedByPeer(streamId: number, endStream: boolean, itself: boolean, head: DecodedBlock): void;
  /** Client side: the head of an answer. */
  protected abstract headReceived(stream: Http2Stream, endStream: boolean, head: DecodedBlock): void;
  /** Never used so far by whoever may use it. */
  protected abstract isIdle(streamId: number): boolean;

  /** Resets the stream when its head or trailers are too large. */
  protected withinLimits(stream: Http2Stream, head: DecodedBlock): boolean {
    if (head.overflow === undefined) return true;
    const counter = head.overflow === 'bytes' ? this.statistics.headerOverflow : this.statistics.tooManyHeaders;
    counter.inc();
    this.streamError(stream, ErrorCode.ENHANCE_YOUR_CALM, 'a head beyond the limits');
    return false;
  }

  protected malformed(stream: Http2Stream): void {
    this.streamError(stream, ErrorCode.PROTOCOL_ERROR, this.rules.reason);
  }

  /** Frames of a stream that is not there: idle, ours to ignore, or closed (§5.1). */
  #onClosedStream(streamId: number, what: string): void {
    if (this.isIdle(streamId)) {
      return this.connectionError(ErrorCode.PROTOCOL_ERROR, `${what} on an idle stream`);
    }
    if (this.wasResetByUs(streamId)) {
      this.#countControl();
      return;
    }
    // Of our own streams we know which ended: a server that goes on with one is lost.
    if (what === 'HEADERS' || !this.isServer) {
      return this.connectionError(ErrorCode.STREAM_CLOSED, `${what} on a closed stream`);
    }
    this.#countControl();
    if (this.#error === undefined) this.writeReset(streamId, ErrorCode.STREAM_CLOSED);
  }

  #onPriority(bytes: Buffer, from: number, end: number, streamId: number): void {
    if (streamId === 0) return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'PRIORITY on stream 0');
    if (!this.limits.priorityFrame()) return this.#flooded();
    const stream = this.streams.get(streamId);
    const code =
      end - from !== PRIORITY_BYTES
        ? ErrorCode.FRAME_SIZE_ERROR
        : dependsOn(bytes, from) === streamId
          ? ErrorCode.PROTOCOL_ERROR
          : 0;
    if (code === 0) return;
    if (stream !== undefined) this.streamError(stream, code, 'a bad PRIORITY');
    else this.writeReset(streamId, code);
  }

  #onRstStream(bytes: Buffer, from: number, end: number, streamId: number): void {
    if (streamId === 0) return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'RST_STREAM on stream 0');
    if (end - from !== RST_STREAM_BYTES) {
      return this.connectionError(ErrorCode.FRAME_SIZE_ERROR, 'RST_STREAM of another length than 4');
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.isIdle(streamId)) this.connectionError(ErrorCode.PROTOCOL_ERROR, 'RST_STREAM on an idle stream');
      else this.#countControl();
      return;
    }
    this.statistics.rxReset.inc();
    const code = readUint32(bytes, from);
    this.removeStream(stream);
    stream.decoder.onReset(reasonOf(code));
    this.#countReset(stream);
  }

  #onSettings(bytes: Buffer, from: number, end: number, flags: number, streamId: number): void {
    if (streamId !== 0) return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'SETTINGS on a stream');
    const isAck = (flags & Flag.ACK) !== 0;
    if (isAck ? end !== from : (end - from) % SETTING_BYTES !== 0) {
      return this.connectionError(ErrorCode.FRAME_SIZE_ERROR, 'SETTINGS of a wrong length');
    }
    if (!this.#settingsSeen) {
      this.#settingsSeen = true;
      this.peerMaxStreams = MAX_STREAM_ID;
    }
    if (!this.#countControl() || isAck) return;
    let overflow = false;
    const code = readSettings(bytes, from, end, (id, value) => {
      if (!this.#apply(id, value)) overflow = true;
    });
    if (code !== 0 || overflow) {
      const error = code === 0 ? ErrorCode.FLOW_CONTROL_ERROR : code;
      return this.connectionError(error, 'a setting out of range');
    }
    writeSettingsAck(this.output);
    this.wroteControl();
    this.callbacks.onSettings(this.peerMaxStreams);
    this.flow.pump();
  }

  /** @returns false: a window beyond what there is. */
  #apply(id: number, value: number): boolean {
    switch (id) {
      case Setting.HEADER_TABLE_SIZE:
        this.heads.encoder.setTableLimit(value);
        return true;
      case Setting.MAX_CONCURRENT_STREAMS:
        this.peerMaxStreams = value;
        return true;
      case Setting.ENABLE_CONNECT_PROTOCOL:
        this.peerAllowsConnect = value === 1;
        return true;
      case Setting.INITIAL_WINDOW_SIZE: {
        const change = value - this.peerWindow;
        this.peerWindow = value;
        for (const stream of this.streams.values()) {
          stream.sendWindow += change;
          if (stream.sendWindow > MAX_WINDOW_BYTES) return false;
        }
        return true;
      }
      default:
        return true;
    }
  }

  #onPing(bytes: Buffer, from: number, end: number, flags: number, streamId: number): void {
    if (streamId !== 0) return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'PING on a stream');
    if (end - from !== PING_BYTES) {
      return this.connectionError(ErrorCode.FRAME_SIZE_ERROR, 'PING of another length than 8');
    }
    if (!this.#countControl()) return;
    if ((flags & Flag.ACK) !== 0) return this.callbacks.onPingAck(readUint32(bytes, from), readUint32(bytes, from + 4));
    writePingAck(this.output, bytes, from);
    this.wroteControl();
  }

  #onGoAway(bytes: Buffer, from: number, end: number, streamId: number): void {
    if (streamId !== 0) return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'GOAWAY on a stream');
    if (end - from < GOAWAY_BYTES) return this.connectionError(ErrorCode.FRAME_SIZE_ERROR, 'GOAWAY of less than 8');
    if (!this.#countControl()) return;
    this.callbacks.onGoAway(readUint31(bytes, from), readUint32(bytes, from + 4));
  }

  #onWindowUpdate(bytes: Buffer, from: number, end: number, streamId: number): void {
    if (end - from !== WINDOW_UPDATE_BYTES) {
      return this.connectionError(ErrorCode.FRAME_SIZE_ERROR, 'WINDOW_UPDATE of another length than 4');
    }
    if (!this.limits.windowUpdateFrame()) return this.#flooded();
    const increment = readUint31(bytes, from);
    if (streamId === 0) {
      if (increment === 0) return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'a window update of nothing');
      if (!this.flow.widen(increment)) {
        this.connectionError(ErrorCode.FLOW_CONTROL_ERROR, 'a connection window beyond 2^31 - 1');
      }
      return;
    }
    const stream = this.streams.get(streamId);
    if (stream === undefined) {
      if (this.isIdle(streamId)) this.connectionError(ErrorCode.PROTOCOL_ERROR, 'WINDOW_UPDATE on an idle stream');
      // A fault stays one, also when the answer was faster than it.
      else if (increment === 0 && this.#countControl()) this.writeReset(streamId, ErrorCode.PROTOCOL_ERROR);
      return;
    }
    if (increment === 0) return this.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'a window update of nothing');
    stream.sendWindow += increment;
    if (stream.sendWindow > MAX_WINDOW_BYTES) {
      return this.streamError(stream, ErrorCode.FLOW_CONTROL_ERROR, 'a window beyond 2^31 - 1');
    }
    this.flow.pumpStream(stream);
  }

  // ── faults ──────────────────────────────────────────────────────────────────────────────────────────────────────

  /** Ends the connection: GOAWAY is written, whoever dispatches gets the error. */
  connectionError(code: number, message: string, details = 'http2.protocol_error'): void {
    if (this.#error !== undefined) return;
    this.statistics.rxMessagingError.inc();
    this.#error = new CodecError(0, details, message);
    this.writeGoAway(this.lastPeerStream, code, message);
  }

  /** Resets one stream because of what the peer sent on it. */
  streamError(stream: Http2Stream, code: number, _message: string): void {
    this.statistics.rxMessagingError.inc();
    this.removeStream(stream);
    this.writeReset(stream.id, code);
    stream.decoder.onReset('protocol error');
    this.#countReset(stream);
  }

  #flooded(): void {
    const { flood, floodDetails } = this.limits;
    this.connectionError(ErrorCode.ENHANCE_YOUR_CALM, `too many ${flood}`, floodDetails);
  }

  #countReset(stream: Http2Stream): void {
    if (this.isServer && !this.limits.streamReset(this.callbacks.nowMs() - stream.openedMs)) this.#flooded();
  }

  #countControl(): boolean {
    if (this.limits.controlFrame(this.callbacks.nowMs())) return true;
    this.#flooded();
    return false;
  }

  protected abstract readonly isServer: boolean;
  /** The highest stream that the peer has opened and we have looked at. */
  abstract readonly lastPeerStream: number;

  /** Refuses a stream that was never made. */
  protected refuse(streamId: number, code: number): void {
    if (code === ErrorCode.REFUSED_STREAM) this.statistics.streamRefusedErrors.inc();
    this.writeReset(streamId, code);
    this.#countControl();
  }
}

function reasonOf(code: number): ResetReason {
  if (code === ErrorCode.REFUSED_STREAM) return 'remote refused stream reset';
  return code === ErrorCode.CONNECT_ERROR ? 'connect error' : 'remote reset';
}
