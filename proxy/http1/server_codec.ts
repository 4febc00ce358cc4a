/**
 * The server side of HTTP/1.1: requests in, responses out, one at a time, in order (RFC 9112).
 *
 *   head ──complete──► body ──complete──► waiting for the response ──complete──► head
 *     │ fault            │ fault                 │ reset                   │ must close
 *     ▼                  ▼                       ▼                         ▼
 *   CodecError         CodecError              onLocalReset              onMessageComplete(true)
 *
 * After a request to upgrade (or CONNECT) nothing more is read until it is answered: 101 (2xx) makes both
 * directions raw, any other answer closes the connection.
 */
import {
  type Codec,
  type CodecCallbacks,
  CodecError,
  type DispatchResult,
  type StreamDecoder,
  type StreamEncoder,
} from '../http/codec.ts';
import { isHost, isVisibleAscii } from '../http/authority.ts';
import { type HeaderMap, type Headers, RequestHeaders, type ResponseHeaders } from '../http/headers.ts';
import { BodyReader, type BodySink } from './body_reader.ts';
import { type BodyFraming, writeBody, writeTrailers } from './body_writer.ts';
import { HeadFacts, isToken, parseFields } from './head_parser.ts';
import { HeadReader } from './head_reader.ts';
import { fieldLines, statusLine } from './head_writer.ts';
import { DEFAULT_MAX_HEAD_BYTES, DEFAULT_MAX_HEADER_COUNT, type Http1Options } from './options.ts';

export class Http1ServerCodec implements Codec, BodySink {
  /** Announce `Connection: close` with the next response head, and close behind it. */
  closeAfterResponse = false;
  readonly #callbacks: CodecCallbacks;
  readonly #maxHeaderCount: number;
  readonly #acceptHttp10: boolean;
  readonly #defaultHost: string;
  readonly #head: HeadReader;
  readonly #facts = new HeadFacts();
  readonly #body = new BodyReader(this);
  readonly #result: DispatchResult = { consumed: 0 };
  #decoder: StreamDecoder | undefined = undefined;
  #encoder: ResponseEncoder | undefined = undefined;
  #requestDone = true;
  #responseDone = true;
  /** An upgrade was asked for and not yet answered: what follows is not for us to read. */
  #held = false;
  #failed = false;

  constructor(callbacks: CodecCallbacks, options: Http1Options) {
    this.#callbacks = callbacks;
    this.#maxHeaderCount = options.maxHeaderCount ?? DEFAULT_MAX_HEADER_COUNT;
    this.#acceptHttp10 = options.acceptHttp10 ?? false;
    this.#defaultHost = options.defaultHostForHttp10 ?? '';
    this.#head = new HeadReader(options.maxHeadBytes ?? DEFAULT_MAX_HEAD_BYTES);
  }

  /** Whether leftover bytes would be taken now. */
  get canDispatch(): boolean {
    return !this.#failed && !this.#held && (!this.#requestDone || this.#responseDone);
  }

  get hasPartialHead(): boolean {
    return this.#head.hasPartial;
  }

  dispatch(bytes: Buffer): DispatchResult | CodecError {
    let at = 0;
    while (at < bytes.length && this.canDispatch) {
      if (this.#requestDone) {
        const read = this.#head.read(bytes, at);
        if (read === false) {
          at = bytes.length;
          break;
        }
        if (read !== true) return this.#fail(read);
        at = this.#head.consumed;
        const error = this.#startRequest(this.#head.text);
        if (error !== undefined) return this.#fail(error);
      } else {
        at = this.#body.read(bytes, at);
        if (at < 0) return this.#fail(this.#body.error as CodecError);
      }
    }
    this.#result.consumed = at;
    return this.#result;
  }

  onEndOfInput(): CodecError | undefined {
    if (this.#requestDone && !this.#head.hasPartial) return undefined;
    return this.#fail(new CodecError(0, 'http1.connection_closed', 'the client closed within a request'));
  }

  /** The client has ended its half. @returns whether the other goes on: of a CONNECT that was accepted. */
  endTunnel(): boolean {
    if (!this.#body.raw || this.#requestDone || this.#encoder?.method !== 'CONNECT') return false;
    this.#body.stop();
    this.bodyData(EMPTY, true);
    return true;
  }

  newStream(): undefined {
    return undefined;
  }

  goAway(): void {
    this.closeAfterResponse = true;
  }

  // ── from the body reader ────────────────────────────────────────────────────────────────────────────────────────

  bodyData(chunk: Buffer, end: boolean): void {
    if (end) this.#requestDone = true;
    this.#decoder?.decodeData(chunk, end);
    if (end) this.#settle();
  }

  bodyTrailers(trailers: Headers): void {
    this.#requestDone = true;
    this.#decoder?.decodeTrailers(trailers);
    this.#settle();
  }

  // ── from the encoder ────────────────────────────────────────────────────────────────────────────────────────────

  get callbacks(): CodecCallbacks {
    return this.#callbacks;
  }

  /** A final answer to an upgrade was sent. */
  answeredUpgrade(accepted: boolean): void {
    if (!this.#held) return;
    this.#held = false;
    if (accepted) {
      this.#body.startRaw();
      this.#callbacks.onInputWanted();
    } else {
      this.#body.stop();
      this.#requestDone = true;
      this.closeAfterResponse = true;
    }
  }

  responseComplete(): void {
    this.#responseDone = true;
    this.#settle();
  }

  encoderReset(): void {
    this.#failed = true;
    this.#decoder = undefined;
    this.#callbacks.onLocalReset();
  }

  /** Both halves are done, or the response is and the request never will be. */
  #settle(): void {
    if (!this.#responseDone || this.#encoder === undefined) return;
    const unread = !this.#requestDone;
    this.#encoder = undefined;
    this.#decoder = undefined;
    // Nothing behind an announced close is answered (RFC 9112 §9.6), and the rest of a request that nobody wants
    // would be taken for the next one.
    const mustClose = unread || this.closeAfterResponse;
    if (mustClose) this.#failed = true;
    this.#callbacks.onMessageComplete(mustClose);
  }

  #fail(error: CodecError): CodecError {
    this.#failed = true;
    return error;
  }

  #startRequest(head: string): CodecError | undefined {
    const facts = this.#facts;
    facts.reset();
    const headers = new RequestHeaders();
    headers.wireBytes = head.length;
    const lineEnd = head.indexOf('\r\n');
    const minor = parseRequestLine(head, lineEnd, headers);
    if (minor < 0) return new CodecError(400, 'http1.codec_error', 'the request line is malformed');
    const fault = parseFields(head, lineEnd + 2, headers, facts, this.#maxHeaderCount);
    if (fault !== undefined) return fault;
    const error = this.#checkRequest(headers, minor);
    if (error !== undefined) return error;
    if (facts.close || (minor === 0 && !facts.keepAlive)) this.closeAfterResponse = true;
    const bodiless = !facts.chunked && facts.contentLength <= 0;
    const isConnect = headers.method === 'CONNECT';
    const asksUpgrade = facts.hasUpgrade && facts.upgradeToken && minor === 1 && bodiless;
    // What is not held back for is not asked for: nobody further on may take it for an upgrade (RFC 9110 §7.8).
    if (!asksUpgrade && (facts.hasUpgrade || facts.upgradeIgnored)) headers.remove('upgrade');
    const encoder = new ResponseEncoder(this, headers.method, minor);
    this.#encoder = encoder;
    this.#responseDone = false;
    this.#decoder = (this.#callbacks.newStream as NonNullable<CodecCallbacks['newStream']>)(encoder);
    if (isConnect || asksUpgrade) {
      this.#requestDone = false;
      this.#held = true;
      this.#decoder.decodeHeaders(headers, false);
      return undefined;
    }
    this.#requestDone = bodiless;
    if (facts.chunked) this.#body.startChunked();
    else if (!bodiless) this.#body.startFixed(facts.contentLength);
    this.#decoder.decodeHeaders(headers, bodiless);
    if (bodiless) this.#settle();
    return undefined;
  }

  #checkRequest(headers: RequestHeaders, minor: number): CodecError | undefined {
    const facts = this.#facts;
    if (minor === 0 && !this.#acceptHttp10) {
      return new CodecError(426, 'low_version', 'HTTP/1.0 is not enabled (accept_http_10)');
    }
    if (facts.chunked && facts.contentLength >= 0) {
      return new CodecError(
        400,
        'http1.content_length_and_chunked_not_allowed',
        'Content-Length and Transfer-Encoding together',
      );
    }
    if (facts.chunked && minor === 0) {
      return new CodecError(400, 'http1.transfer_encoding_not_allowed', 'Transfer-Encoding in HTTP/1.0');
    }
    if (headers.method === 'CONNECT' && (facts.chunked || facts.contentLength > 0)) {
      return new CodecError(400, 'http1.body_disallowed', 'a body with CONNECT');
    }
    // An absolute URI or CONNECT's target has named the host already, and wins (RFC 9112 §3.2.2).
    if (headers.authority === '') {
      const host = facts.host ?? (minor === 0 ? this.#defaultHost : undefined);
      if (host === undefined) return new CodecError(400, 'missing_host_header', 'no Host');
      if (!isHost(host)) return new CodecError(400, 'http1.invalid_host', 'the Host is not a host name');
      headers.authority = host;
    } else if (facts.host === undefined && minor === 1 && headers.method !== 'CONNECT') {
      return new CodecError(400, 'missing_host_header', 'no Host');
    }
    return undefined;
  }
}

const EMPTY = Buffer.alloc(0);

/** Fills method, path, authority and scheme. @returns the minor version; −1: malformed. */
function parseRequestLine(head: string, lineEnd: number, headers: RequestHeaders): number {
  const first = head.indexOf(' ');
  const second = head.indexOf(' ', first + 1);
  if (first <= 0 || second <= first + 1 || second > lineEnd || lineEnd - second !== 9) return -1;
  if (!head.startsWith('HTTP/1.', second + 1)) return -1;
  const minor = head.charCodeAt(lineEnd - 1) - 48;
  if (minor !== 0 && minor !== 1) return -1;
  // A constant for most: what is cut out of a head is interned anew by every set it is looked up in.
  const method = first === 3 && head.startsWith('GET') ? 'GET' : head.slice(0, first);
  if (!isMethod(method)) return -1;
  headers.method = method;
  const target = head.slice(first + 1, second);
  return parseTarget(target, headers) ? minor : -1;
}

/** Methods are case-sensitive and, so far, all in capitals; a lower-case one is a mistake or a trick. */
function isMethod(method: string): boolean {
  switch (method) {
    case 'GET':
    case 'POST':
    case 'PUT':
    case 'DELETE':
    case 'HEAD':
    case 'OPTIONS':
    case 'PATCH':
    case 'CONNECT':
    case 'TRACE':
      return true;
    default:
      return method.length <= 32 && isToken(method) && /^[A-Z][A-Z0-9_-]*$/.test(method);
  }
}

function parseTarget(target: string, headers: RequestHeaders): boolean {
  if (headers.method === 'CONNECT') {
    if (!/^(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):\d{1,5}$/.test(target)) return false;
    headers.authority = target;
    headers.path = '';
    return true;
  }
  if (target.charCodeAt(0) === 47 /* / */) {
    headers.path = target;
    headers.visiblePath = target;
    return isVisibleAscii(target);
  }
  if (target === '*') {
    headers.path = '*';
    return headers.method === 'OPTIONS';
  }
  const absolute = /^(https?):\/\/([^/?#]+)(.*)$/i.exec(target);
  if (absolute === null || !isVisibleAscii(target)) return false;
  const [, scheme = '', authority = '', rest = ''] = absolute;
  if (!isHost(authority)) return false;
  headers.scheme = scheme.toLowerCase();
  headers.authority = authority;
  headers.path = rest === '' ? (headers.method === 'OPTIONS' ? '*' : '/') : rest.startsWith('/') ? rest : `/${rest}`;
  return true;
}

/** Encodes one response. What is called after its end does nothing. */
class ResponseEncoder implements StreamEncoder {
  readonly #codec: Http1ServerCodec;
  /** Of the request. */
  readonly method: string;
  readonly #minor: number;
  #framing: BodyFraming = 'none';
  #done = false;
  #readHolds = 0;

  constructor(codec: Http1ServerCodec, method: string, minor: number) {
    this.#codec = codec;
    this.method = method;
    this.#minor = minor;
  }

  encode1xx(headers: ResponseHeaders): void {
    // HTTP/1.0 clients know no interim answers (RFC 9110 §15.2).
    if (this.#done || this.#minor === 0) return;
    this.#codec.callbacks.write(`${statusLine(headers.status, headers.reason)}${fieldLines(headers)}\r\n`);
  }

  encodeHeaders(head: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    if (this.#done) return;
    const headers = head as ResponseHeaders;
    const { status } = headers;
    const codec = this.#codec;
    const accepted = status === 101 || (this.method === 'CONNECT' && status >= 200 && status < 300);
    codec.answeredUpgrade(accepted);
    let extra = '';
    if (accepted) this.#framing = 'raw';
    else if (status === 204 || status === 304 || this.method === 'HEAD') this.#framing = 'none';
    else if (headers.has('content-length')) this.#framing = 'length';
    else if (endStream) {
      this.#framing = 'none';
      extra = 'content-length: 0\r\n';
    } else if (this.#minor === 1) {
      this.#framing = 'chunked';
      extra = 'transfer-encoding: chunked\r\n';
    } else {
      this.#framing = 'until-close';
      codec.closeAfterResponse = true;
    }
    if (!accepted) {
      if (codec.closeAfterResponse) extra += 'connection: close\r\n';
      else if (this.#minor === 0) extra += 'connection: keep-alive\r\n';
    }
    const first = statusLine(status, headers.reason);
    // Clients of HTTP/1.0 are answered in it, as Envoy does.
    const version = this.#minor === 0 ? `HTTP/1.0${first.slice(8)}` : first;
    const text = `${version}${fieldLines(headers)}${extra}\r\n`;
    headers.wireBytes = text.length;
    codec.callbacks.write(text);
    if (endStream) this.#end();
  }

  encodeData(chunk: Buffer, endStream: boolean): boolean {
    if (this.#done) return true;
    const room = writeBody(this.#codec.callbacks, this.#framing, chunk, endStream);
    if (endStream) this.#end();
    return room;
  }

  encodeTrailers(trailers: HeaderMap): void {
    if (this.#done) return;
    writeTrailers(this.#codec.callbacks, this.#framing, trailers);
    this.#end();
  }

  reset(): void {
    if (this.#done) return;
    this.#done = true;
    this.#releaseReads();
    this.#codec.encoderReset();
  }

  readDisable(disabled: boolean): void {
    if (this.#done) return;
    this.#readHolds += disabled ? 1 : -1;
    this.#codec.callbacks.readDisable(disabled);
  }

  #end(): void {
    this.#done = true;
    this.#releaseReads();
    if (this.#framing === 'raw') this.#codec.closeAfterResponse = true;
    this.#codec.responseComplete();
  }

  /** A stream that ended while it held reads back must not hold the connection's. */
  #releaseReads(): void {
    for (; this.#readHolds > 0; this.#readHolds--) this.#codec.callbacks.readDisable(false);
  }
}
