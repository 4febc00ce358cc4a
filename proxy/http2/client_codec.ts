/** The client side of HTTP/2: streams that we open, answers that come. */
import { createHash } from 'node:crypto';
import type { ResetReason, StreamDecoder } from '../http/codec.ts';
import type { RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import { Http2Codec } from './codec.ts';
import { DEFAULT_TABLE_BYTES, DEFAULT_WINDOW_BYTES, ErrorCode, MAX_STREAM_ID, PREFACE, Setting } from './constants.ts';
import type { DecodedBlock } from './hpack/decoder.ts';
import { HeadRules } from './message_rules.ts';
import type { Http2Options } from './options.ts';
import type { Http2Callbacks } from './sender.ts';
import type { Http2Statistics } from './statistics.ts';
import type { Http2Stream } from './stream.ts';

/** Interim answers to one request; more is a flood (attacks.md row 14). */
const MAX_INTERIM = 32;

/** What a peer is expected to allow at least, until it says (RFC 9113 §6.5.2). */
const STREAMS_BEFORE_SETTINGS = 100;

export class Http2ClientCodec extends Http2Codec {
  protected readonly isServer = false;
  readonly lastPeerStream = 0;
  /** The peer takes no new streams. */
  goingAway = false;
  #nextId = 1;

  /** The client's preface stands in the output at once. */
  constructor(callbacks: Http2Callbacks, options: Http2Options, statistics: Http2Statistics) {
    super(callbacks, options, statistics, new HeadRules(false));
    this.peerMaxStreams = STREAMS_BEFORE_SETTINGS;
    PREFACE.copy(this.output.reserve(PREFACE.length), this.output.length);
    this.output.length += PREFACE.length;
    const settings: number[] = [Setting.ENABLE_PUSH, 0, Setting.MAX_HEADER_LIST_SIZE, options.maxHeaderListBytes];
    const window = options.initialStreamWindowBytes ?? DEFAULT_WINDOW_BYTES;
    if (window !== DEFAULT_WINDOW_BYTES) settings.push(Setting.INITIAL_WINDOW_SIZE, window);
    if (options.hpackTableBytes !== DEFAULT_TABLE_BYTES) {
      settings.push(Setting.HEADER_TABLE_SIZE, options.hpackTableBytes);
    }
    this.writeSettings(settings);
  }

  /** Further streams that may be opened now. */
  get room(): number {
    if (this.goingAway || this.failed || this.#nextId > MAX_STREAM_ID) return 0;
    return Math.max(0, Math.min(this.peerMaxStreams, this.options.maxConcurrentStreams) - this.streams.size);
  }

  /** The peer knows of the stream when its head is written. undefined: none may open now. */
  newStream(decoder: StreamDecoder): Http2Stream | undefined {
    if (this.room === 0) return undefined;
    const stream = this.makeStream();
    stream.decoder = decoder;
    return stream;
  }

  /** GOAWAY has come: what the peer has not looked at may be sent to another. */
  peerGoAway(lastStreamId: number): void {
    this.goingAway = true;
    for (const stream of this.streams.values()) {
      if (stream.id <= lastStreamId) continue;
      this.removeStream(stream);
      stream.decoder.onReset('remote refused stream reset');
    }
  }

  /** The connection is lost: every stream ends with `reason`. */
  failStreams(reason: ResetReason): void {
    for (const stream of this.streams.values()) {
      this.removeStream(stream);
      stream.decoder.onReset(reason);
    }
  }

  goAway(): void {
    this.writeGoAway(0, ErrorCode.NO_ERROR, '');
  }

  /** @throws {TypeError} when method, path or host hold a character that no head may hold; nothing is sent then. */
  writeHead(stream: Http2Stream, head: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    const headers = head as RequestHeaders;
    const upgrade = headers.get('upgrade');
    if (upgrade !== undefined) {
      stream.upgrade = upgrade;
      stream.webSocketKey = headers.get('sec-websocket-key');
    }
    stream.bodiless = headers.method === 'HEAD';
    this.heads.request(this.#nextId, headers, upgrade, endStream);
    this.openStream(stream, this.#nextId);
    this.#nextId += 2;
    stream.localEnd = endStream;
    this.wroteFrame();
  }

  protected isIdle(streamId: number): boolean {
    return streamId % 2 === 0 || streamId >= this.#nextId;
  }

  protected openedByPeer(): void {
    this.connectionError(ErrorCode.PROTOCOL_ERROR, 'HEADERS on an idle stream');
  }

  protected headReceived(stream: Http2Stream, endStream: boolean, head: DecodedBlock): void {
    const headers = this.rules.response(head);
    if (headers === undefined) return this.malformed(stream);
    const { status } = headers;
    if (status < 200) {
      if (endStream || status === 101 || ++stream.interimHeads > MAX_INTERIM) {
        return this.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'an interim answer that is none');
      }
      stream.decoder.decode1xx(headers);
      return;
    }
    const { contentLength } = this.rules;
    stream.headReceived = true;
    if (status === 204 || status === 304) stream.bodiless = true;
    stream.expectedBytes = contentLength;
    if (endStream && !stream.bodyComplete) {
      return this.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'a body of another length than content-length');
    }
    if (stream.upgrade !== undefined && status < 300) answerUpgrade(stream, headers);
    stream.remoteEnd = endStream;
    stream.decoder.decodeHeaders(headers, endStream);
    if (endStream) this.remoteEnded(stream);
  }

  protected endedEarly(): void {
    // The request is complete; its answer is still to come.
  }

  protected codeOfReset(stream: Http2Stream, reason: ResetReason): number {
    if (reason === 'protocol error') return ErrorCode.PROTOCOL_ERROR;
    return stream.remoteEnd ? ErrorCode.NO_ERROR : ErrorCode.CANCEL;
  }
}

/** RFC 6455 §1.3. */
const WEBSOCKET_GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';

/** What was asked for as an upgrade is answered as one, whatever the upstream speaks. */
function answerUpgrade(stream: Http2Stream, headers: ResponseHeaders): void {
  headers.status = 101;
  headers.remove('content-length');
  headers.set('connection', 'upgrade');
  headers.set('upgrade', stream.upgrade ?? '');
  // HTTP/2 has no accept field; clients of HTTP/1.1 check it (RFC 6455 §4.1).
  if (stream.webSocketKey !== undefined && !headers.has('sec-websocket-accept')) {
    const digest = createHash('sha1')
      .update(stream.webSocketKey + WEBSOCKET_GUID)
      .digest('base64');
    headers.set('sec-websocket-accept', digest);
  }
}
