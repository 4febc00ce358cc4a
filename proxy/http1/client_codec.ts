/**
 * The client side of HTTP/1.1: one request out, its response in, then the next (RFC 9112).
 *
 *   idle ──newStream──► head ──1xx──► head ──final──► body ──complete──► idle, or the connection must close
 */
import {
  type Codec,
  type CodecCallbacks,
  CodecError,
  type DispatchResult,
  type StreamDecoder,
  type StreamEncoder,
} from '../http/codec.ts';
import { type HeaderMap, type Headers, type RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import { BodyReader, type BodySink } from './body_reader.ts';
import { type BodyFraming, writeBody, writeTrailers } from './body_writer.ts';
import { HeadFacts, parseFields } from './head_parser.ts';
import { HeadReader } from './head_reader.ts';
import { fieldLines, fitsRequestLine } from './head_writer.ts';
import { DEFAULT_MAX_HEAD_BYTES, DEFAULT_MAX_HEADER_COUNT, type Http1Options } from './options.ts';

/** Interim answers to one request; more is a flood (attacks.md row 14). */
const MAX_INTERIM = 32;

export class Http1ClientCodec implements Codec, BodySink {
  /** What the peer announced in `Keep-Alive: timeout=`, of the last response. */
  keepAliveTimeoutMs: number | undefined = undefined;
  readonly #callbacks: CodecCallbacks;
  readonly #maxHeaderCount: number;
  readonly #head: HeadReader;
  readonly #facts = new HeadFacts();
  readonly #body = new BodyReader(this);
  readonly #result: DispatchResult = { consumed: 0 };
  #decoder: StreamDecoder | undefined = undefined;
  #encoder: RequestEncoder | undefined = undefined;
  #inBody = false;
  #mustClose = false;
  #interim = 0;

  constructor(callbacks: CodecCallbacks, options: Http1Options) {
    this.#callbacks = callbacks;
    this.#maxHeaderCount = options.maxHeaderCount ?? DEFAULT_MAX_HEADER_COUNT;
    this.#head = new HeadReader(options.maxHeadBytes ?? DEFAULT_MAX_HEAD_BYTES);
  }

  get callbacks(): CodecCallbacks {
    return this.#callbacks;
  }

  newStream(decoder: StreamDecoder): StreamEncoder | undefined {
    if (this.#decoder !== undefined) return undefined;
    this.#decoder = decoder;
    this.#encoder = new RequestEncoder(this);
    this.#inBody = false;
    this.#mustClose = false;
    this.#interim = 0;
    return this.#encoder;
  }

  dispatch(bytes: Buffer): DispatchResult | CodecError {
    let at = 0;
    while (at < bytes.length && this.#decoder !== undefined) {
      if (this.#inBody) {
        at = this.#body.read(bytes, at);
        if (at < 0) return this.#body.error as CodecError;
        continue;
      }
      const read = this.#head.read(bytes, at);
      if (read === false) {
        at = bytes.length;
        break;
      }
      if (read !== true) return read;
      at = this.#head.consumed;
      const error = this.#startResponse(this.#head.text);
      if (error !== undefined) return error;
    }
    this.#result.consumed = at;
    return this.#result;
  }

  onEndOfInput(): CodecError | undefined {
    if (this.#decoder === undefined) return undefined;
    if (this.#inBody && this.#body.untilClose) {
      this.#mustClose = true;
      this.#body.stop();
      this.bodyData(EMPTY, true);
      return undefined;
    }
    return new CodecError(0, 'http1.connection_closed', 'the upstream closed within a response');
  }

  goAway(): void {}

  // ── from the body reader ────────────────────────────────────────────────────────────────────────────────────────

  bodyData(chunk: Buffer, end: boolean): void {
    const decoder = this.#decoder;
    if (end) this.#finish();
    decoder?.decodeData(chunk, end);
    if (end) this.#callbacks.onMessageComplete(this.#mustClose);
  }

  bodyTrailers(trailers: Headers): void {
    const decoder = this.#decoder;
    this.#finish();
    decoder?.decodeTrailers(trailers);
    this.#callbacks.onMessageComplete(this.#mustClose);
  }

  // ── from the encoder ────────────────────────────────────────────────────────────────────────────────────────────

  encoderReset(): void {
    this.#decoder = undefined;
    this.#callbacks.onLocalReset();
  }

  /** The response is complete. A request that is not will never be: the connection is of no more use. */
  #finish(): void {
    const encoder = this.#encoder;
    this.#decoder = undefined;
    this.#encoder = undefined;
    if (encoder !== undefined && !encoder.complete) this.#mustClose = true;
    encoder?.retire();
  }

  #startResponse(head: string): CodecError | undefined {
    const facts = this.#facts;
    facts.reset();
    const headers = new ResponseHeaders();
    const lineEnd = head.indexOf('\r\n');
    const minor = parseStatusLine(head, lineEnd, headers);
    if (minor < 0) return new CodecError(502, 'http1.codec_error', 'the status line is malformed');
    const fault = parseFields(head, lineEnd + 2, headers, facts, this.#maxHeaderCount);
    if (fault !== undefined) return fault;
    if (facts.host !== undefined) headers.append('host', facts.host);
    if (facts.chunked && facts.contentLength >= 0) {
      return new CodecError(
        502,
        'http1.content_length_and_chunked_not_allowed',
        'Content-Length and Transfer-Encoding together',
      );
    }
    const encoder = this.#encoder as RequestEncoder;
    const { status } = headers;
    if (status < 200 && status !== 101) {
      if (++this.#interim > MAX_INTERIM) return new CodecError(502, 'http1.too_many_1xx', 'too many interim responses');
      // Interim responses, 204 and what becomes raw have no length (RFC 9110 §8.6); the next hop might believe one.
      headers.remove('content-length');
      (this.#decoder as StreamDecoder).decode1xx(headers);
      return undefined;
    }
    if (status === 101 && !encoder.asksUpgrade) {
      return new CodecError(502, 'http1.unexpected_101', '101 to a request that asked for no upgrade');
    }
    // Chunks in HTTP/1.0 may have passed somebody who does not know them (RFC 9112 §6.1).
    this.#mustClose = facts.close || (minor === 0 && (!facts.keepAlive || facts.chunked));
    if (facts.keepAliveTimeoutMs !== undefined) this.keepAliveTimeoutMs = facts.keepAliveTimeoutMs;
    this.#startBody(headers, encoder);
    return undefined;
  }

  /** RFC 9112 §6.3. */
  #startBody(headers: ResponseHeaders, encoder: RequestEncoder): void {
    const facts = this.#facts;
    const { status } = headers;
    const decoder = this.#decoder as StreamDecoder;
    this.#inBody = true;
    if (status === 101 || (encoder.method === 'CONNECT' && status >= 200 && status < 300)) {
      this.#mustClose = true;
      headers.remove('content-length');
      this.#body.startRaw();
      encoder.startRaw();
      decoder.decodeHeaders(headers, false);
      return;
    }
    const bodiless =
      encoder.method === 'HEAD' || status === 204 || status === 304 || (!facts.chunked && facts.contentLength === 0);
    if (bodiless) {
      if (status === 204) headers.remove('content-length');
      this.#finish();
      decoder.decodeHeaders(headers, true);
      this.#callbacks.onMessageComplete(this.#mustClose);
      return;
    }
    if (facts.chunked) this.#body.startChunked();
    else if (facts.contentLength > 0) this.#body.startFixed(facts.contentLength);
    else {
      this.#mustClose = true;
      this.#body.startUntilClose();
    }
    decoder.decodeHeaders(headers, false);
  }
}

const EMPTY = Buffer.alloc(0);

/** Fills status and reason. @returns the minor version; −1: malformed. */
function parseStatusLine(head: string, lineEnd: number, headers: ResponseHeaders): number {
  if (!head.startsWith('HTTP/1.') || lineEnd < 12) return -1;
  const minor = head.charCodeAt(7) - 48;
  if ((minor !== 0 && minor !== 1) || head.charCodeAt(8) !== 32) return -1;
  let status = 0;
  for (let i = 9; i < 12; i++) {
    const digit = head.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return -1;
    status = status * 10 + digit;
  }
  if (status < 100 || (lineEnd > 12 && head.charCodeAt(12) !== 32)) return -1;
  headers.status = status;
  if (lineEnd > 13) headers.reason = head.slice(13, lineEnd);
  else if (lineEnd === 12 || lineEnd === 13) headers.reason = '';
  return minor;
}

/** Encodes one request. What is called after its end or the response's does nothing. */
class RequestEncoder implements StreamEncoder {
  method = '';
  asksUpgrade = false;
  complete = false;
  readonly #codec: Http1ClientCodec;
  #framing: BodyFraming = 'none';
  #done = false;
  #readHolds = 0;

  constructor(codec: Http1ClientCodec) {
    this.#codec = codec;
  }

  encode1xx(): void {}

  /** @throws {TypeError} when method, path or host hold a character that would break the request line. */
  encodeHeaders(head: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    if (this.#done) return;
    const headers = head as RequestHeaders;
    const { method, authority } = headers;
    this.method = method;
    const target = method === 'CONNECT' ? authority : headers.path;
    const fits = target === headers.visiblePath || fitsRequestLine(target);
    if (!fits || !fitsRequestLine(authority) || !fitsRequestLine(method)) {
      throw new TypeError('a space or control character in the request line');
    }
    this.asksUpgrade = headers.has('upgrade');
    let extra = '';
    if (this.asksUpgrade || method === 'CONNECT') this.#framing = 'none';
    else if (headers.has('content-length')) this.#framing = 'length';
    else if (endStream) {
      // Says that there is none, for methods that may have a body (RFC 9110 §8.6).
      if (method !== 'GET' && method !== 'HEAD' && method !== 'DELETE' && method !== 'TRACE')
        extra = 'content-length: 0\r\n';
    } else {
      this.#framing = 'chunked';
      extra = 'transfer-encoding: chunked\r\n';
    }
    this.#codec.callbacks.write(
      `${method} ${target} HTTP/1.1\r\nhost: ${authority}\r\n${fieldLines(headers)}${extra}\r\n`,
    );
    if (endStream) this.complete = true;
  }

  encodeData(chunk: Buffer, endStream: boolean): boolean {
    if (this.#done || this.complete) return true;
    const room = writeBody(this.#codec.callbacks, this.#framing, chunk, endStream);
    if (endStream) this.#end();
    return room;
  }

  encodeTrailers(trailers: HeaderMap): void {
    if (this.#done || this.complete) return;
    writeTrailers(this.#codec.callbacks, this.#framing, trailers);
    this.#end();
  }

  reset(): void {
    if (this.#done) return;
    this.retire();
    this.#codec.encoderReset();
  }

  readDisable(disabled: boolean): void {
    if (this.#done) return;
    this.#readHolds += disabled ? 1 : -1;
    this.#codec.callbacks.readDisable(disabled);
  }

  startRaw(): void {
    this.#framing = 'raw';
    // It was over before it was answered.
    if (this.complete) this.#codec.callbacks.endWrite?.();
  }

  /** What has no frame has no other end than the connection's. */
  #end(): void {
    this.complete = true;
    if (this.#framing === 'raw') this.#codec.callbacks.endWrite?.();
  }

  /** The response is complete: whoever still holds this has nothing to hold. */
  retire(): void {
    this.#done = true;
    for (; this.#readHolds > 0; this.#readHolds--) this.#codec.callbacks.readDisable(false);
  }
}
