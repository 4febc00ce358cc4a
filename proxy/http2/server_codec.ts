/** The server side of HTTP/2: streams that the peer opens, answers that we send. */
import { randomBytes } from 'node:crypto';
import type { ResetReason } from '../http/codec.ts';
import type { RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import { Http2Codec } from './codec.ts';
import { DEFAULT_TABLE_BYTES, DEFAULT_WINDOW_BYTES, ErrorCode, MAX_STREAM_ID, PREFACE, Setting } from './constants.ts';
import type { DecodedBlock } from './hpack/decoder.ts';
import { HeadRules } from './message_rules.ts';
import type { Http2Options } from './options.ts';
import type { Http2Callbacks } from './sender.ts';
import type { Http2Statistics } from './statistics.ts';
import type { Http2Stream } from './stream.ts';

export class Http2ServerCodec extends Http2Codec {
  protected readonly isServer = true;
  lastPeerStream = 0;
  /** Streams above it were not looked at: GOAWAY said so. */
  #lastServed = MAX_STREAM_ID;
  #prefaceBytes = 0;

  /** The server's preface stands in the output at once. */
  constructor(callbacks: Http2Callbacks, options: Http2Options, statistics: Http2Statistics) {
    super(callbacks, options, statistics, new HeadRules(options.allowConnect));
    const settings: number[] = [
      Setting.MAX_CONCURRENT_STREAMS,
      options.maxConcurrentStreams,
      Setting.MAX_HEADER_LIST_SIZE,
      options.maxHeaderListBytes,
    ];
    const window = options.initialStreamWindowBytes ?? DEFAULT_WINDOW_BYTES;
    if (window !== DEFAULT_WINDOW_BYTES) settings.push(Setting.INITIAL_WINDOW_SIZE, window);
    if (options.hpackTableBytes !== DEFAULT_TABLE_BYTES) {
      settings.push(Setting.HEADER_TABLE_SIZE, options.hpackTableBytes);
    }
    if (options.allowConnect) settings.push(Setting.ENABLE_CONNECT_PROTOCOL, 1);
    this.writeSettings(settings);
  }

  /** Graceful: first without a last stream, so that what is on its way is still served; `final` names the last one. */
  goAway(final: boolean): void {
    if (final) this.#lastServed = this.lastPeerStream;
    this.writeGoAway(final ? this.lastPeerStream : MAX_STREAM_ID, ErrorCode.NO_ERROR, '');
  }

  writeHead(stream: Http2Stream, head: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    const headers = head as ResponseHeaders;
    let { status } = headers;
    if (stream.held && status >= 101 && (status === 101 || status >= 200)) {
      const accepted = status === 101 || (stream.upgrade === undefined && status < 300);
      if (status === 101) status = 200;
      this.heads.response(stream.id, status, headers, endStream);
      this.wroteFrame();
      stream.localEnd = endStream;
      // Only now has what was sent ahead a reader; of a refused upgrade it never has one.
      if (accepted) {
        stream.held = false;
        stream.readDisable(false);
      }
      return;
    }
    this.heads.response(stream.id, status, headers, endStream);
    if (endStream) stream.localEnd = true;
    this.wroteFrame();
  }

  protected override readPreface(bytes: Buffer): number {
    const seen = this.#prefaceBytes;
    if (seen === PREFACE.length) return 0;
    const length = Math.min(bytes.length, PREFACE.length - seen);
    if (bytes.compare(PREFACE, seen, seen + length, 0, length) !== 0) {
      this.connectionError(ErrorCode.PROTOCOL_ERROR, 'a bad connection preface');
      return bytes.length;
    }
    this.#prefaceBytes = seen + length;
    return length;
  }

  protected isIdle(streamId: number): boolean {
    return streamId > this.lastPeerStream || streamId % 2 === 0;
  }

  protected openedByPeer(streamId: number, endStream: boolean, itself: boolean, head: DecodedBlock): void {
    if (streamId % 2 === 0) return this.connectionError(ErrorCode.PROTOCOL_ERROR, 'a stream of the server’s');
    this.lastPeerStream = streamId;
    // The peer was told that nobody looks at these.
    if (streamId > this.#lastServed) return;
    if (itself) return this.refuse(streamId, ErrorCode.PROTOCOL_ERROR);
    if (this.streams.size >= this.options.maxConcurrentStreams) {
      return this.refuse(streamId, ErrorCode.REFUSED_STREAM);
    }
    if (head.overflow !== undefined) {
      (head.overflow === 'bytes' ? this.statistics.headerOverflow : this.statistics.tooManyHeaders).inc();
      return this.refuse(streamId, ErrorCode.ENHANCE_YOUR_CALM);
    }
    const headers = this.rules.request(head);
    const { contentLength } = this.rules;
    if (headers === undefined || (endStream && contentLength > 0)) {
      this.statistics.rxMessagingError.inc();
      return this.refuse(streamId, ErrorCode.PROTOCOL_ERROR);
    }
    const stream = this.makeStream();
    this.openStream(stream, streamId);
    stream.headReceived = true;
    stream.expectedBytes = contentLength;
    stream.remoteEnd = endStream;
    // Our owner gives newStream: it serves.
    stream.decoder = (this.callbacks.newStream as NonNullable<Http2Callbacks['newStream']>)(stream);
    if (headers.method === 'CONNECT') holdTunnel(stream, headers);
    stream.decoder.decodeHeaders(headers, endStream);
    if (endStream) this.remoteEnded(stream);
  }

  protected headReceived(stream: Http2Stream): void {
    // Cannot be: a stream of the server's begins with its head.
    this.streamError(stream, ErrorCode.PROTOCOL_ERROR, 'a second head');
  }

  protected endedEarly(stream: Http2Stream): void {
    this.closeWithoutError(stream);
  }

  protected codeOfReset(_stream: Http2Stream, reason: ResetReason): number {
    switch (reason) {
      case 'local refused stream reset':
        return ErrorCode.REFUSED_STREAM;
      case 'protocol error':
        return ErrorCode.PROTOCOL_ERROR;
      case 'connect error':
        return ErrorCode.CONNECT_ERROR;
      default:
        return ErrorCode.INTERNAL_ERROR;
    }
  }
}

/** Extended CONNECT becomes the upgrade that it stands for; what comes before the answer waits for it. */
function holdTunnel(stream: Http2Stream, headers: RequestHeaders): void {
  stream.held = true;
  stream.readDisable(true);
  const { protocol } = headers;
  if (protocol === undefined) return;
  stream.upgrade = protocol;
  headers.method = 'GET';
  headers.protocol = undefined;
  headers.append('connection', 'upgrade');
  headers.append('upgrade', protocol);
  // HTTP/1.1 servers want a key; HTTP/2 has none (RFC 8441 §5).
  if (protocol.toLowerCase() === 'websocket' && !headers.has('sec-websocket-key')) {
    headers.append('sec-websocket-key', randomBytes(16).toString('base64'));
  }
}
