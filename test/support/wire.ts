/**
 * Drives the HTTP/1.1 codecs without sockets: feeds wire scripts in pieces, records what comes out as plain values,
 * offers leftover bytes again as connections do. Every buffer is poisoned after its dispatch: bytes are borrowed.
 */
import assert from 'node:assert/strict';
import {
  type CodecCallbacks,
  CodecError,
  type ResetReason,
  type StreamDecoder,
  type StreamEncoder,
} from '../../proxy/http/codec.ts';
import { Headers, RequestHeaders, ResponseHeaders } from '../../proxy/http/headers.ts';
import { Http1ClientCodec } from '../../proxy/http1/client_codec.ts';
import type { Http1Options } from '../../proxy/http1/options.ts';
import { Http1ServerCodec } from '../../proxy/http1/server_codec.ts';

/** What a codec said. Neighbouring bodies are one; `end` stands apart from the data it came with. */
export type WireEvent =
  /** `GET http://host /path` or `200 OK`; fields in the spelling of the wire. */
  | { readonly head: string; readonly fields: readonly string[]; readonly end: boolean }
  | { readonly interim: string; readonly fields: readonly string[] }
  | { body: string }
  | { readonly trailers: readonly string[] }
  | 'end'
  | { readonly error: number; readonly details: string }
  | { readonly complete: 'keep' | 'close' }
  | { readonly reset: ResetReason | 'ours' }
  /** Bytes that came to a client nobody had asked, or behind the answer. */
  | { stray: string };

/** A message as it was decoded, or as it shall be encoded. Bodies are latin1. */
export interface Message<H = RequestHeaders | ResponseHeaders> {
  readonly headers: H;
  readonly body: string;
  readonly trailers: Headers | undefined;
  /** No body follows the head. */
  readonly endsWithHead: boolean;
}

/** Fields as `Name: value`, in the spelling of the wire. */
export function fieldList(headers: Headers): string[] {
  const list: string[] = [];
  for (let i = 0; i < headers.fields.length; i += 2) {
    list.push(`${headers.originalNames?.[i >> 1] ?? headers.fields[i]}: ${headers.fields[i + 1]}`);
  }
  return list;
}

function headLine(headers: RequestHeaders | ResponseHeaders): string {
  if (headers instanceof ResponseHeaders) return `${headers.status} ${headers.reason ?? ''}`.trim();
  return `${headers.method} ${headers.scheme}://${headers.authority} ${headers.path}`.trim();
}

class EventLog {
  readonly events: WireEvent[] = [];

  body(text: string): void {
    if (text === '') return;
    const last = this.events.at(-1);
    if (typeof last === 'object' && 'body' in last) last.body += text;
    else this.events.push({ body: text });
  }

  stray(text: string): void {
    const last = this.events.at(-1);
    if (typeof last === 'object' && 'stray' in last) last.stray += text;
    else this.events.push({ stray: text });
  }

  push(event: WireEvent): void {
    this.events.push(event);
  }
}

/** One decoded message; `H` is what its head is. */
class Received<H extends RequestHeaders | ResponseHeaders> implements StreamDecoder, Message<H> {
  body = '';
  trailers: Headers | undefined = undefined;
  endsWithHead = false;
  ended = false;
  readonly #log: EventLog;
  readonly #heads: new () => H;
  #headers: H | undefined = undefined;
  onHead: () => void = () => {};
  onEnd: () => void = () => {};

  constructor(log: EventLog, heads: new () => H) {
    this.#log = log;
    this.#heads = heads;
  }

  /** @throws where no head has come. */
  get headers(): H {
    assert.ok(this.#headers !== undefined, 'no head has come');
    return this.#headers;
  }

  get hasHead(): boolean {
    return this.#headers !== undefined;
  }

  decode1xx(headers: ResponseHeaders): void {
    this.#log.push({ interim: headLine(headers), fields: fieldList(headers) });
  }

  decodeHeaders(headers: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    assert.ok(headers instanceof this.#heads, 'a head of the other side');
    assert.equal(this.#headers, undefined, 'two heads in one stream');
    this.#headers = headers;
    this.endsWithHead = endStream;
    this.#log.push({ head: headLine(headers), fields: fieldList(headers), end: endStream });
    this.onHead();
    if (endStream) this.#end();
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    assert.equal(this.ended, false, 'data behind the end');
    const text = chunk.toString('latin1');
    this.body += text;
    this.#log.body(text);
    if (endStream) {
      this.#log.push('end');
      this.#end();
    }
  }

  decodeTrailers(trailers: Headers): void {
    assert.equal(this.ended, false, 'trailers behind the end');
    this.trailers = trailers;
    this.#log.push({ trailers: fieldList(trailers) });
    this.#end();
  }

  onReset(reason: ResetReason): void {
    this.#log.push({ reset: reason });
  }

  onDrain(): void {}

  #end(): void {
    this.ended = true;
    this.onEnd();
  }
}

/** A request that the server side decoded, and where its answer goes. */
export class ReceivedRequest extends Received<RequestHeaders> {
  readonly encoder: StreamEncoder;
  answered = false;

  constructor(log: EventLog, encoder: StreamEncoder) {
    super(log, RequestHeaders);
    this.encoder = encoder;
  }

  /** Sends a whole response: a body with its length, or none (`content-length: 0` then comes from the codec). */
  answer(status: number, body = '', fields: Readonly<Record<string, string>> = {}): void {
    const headers = responseHead(status, fields);
    if (body !== '') headers.set('content-length', String(Buffer.byteLength(body, 'latin1')));
    this.send({ headers, body, trailers: undefined, endsWithHead: body === '' });
  }

  send(message: Message<ResponseHeaders>, sizes: readonly number[] = []): void {
    this.answered = true;
    encode(this.encoder, message, sizes);
  }
}

export type ReceivedResponse = Received<ResponseHeaders>;

export interface ServerHooks {
  readonly onHead?: (request: ReceivedRequest) => void;
  readonly onEnd?: (request: ReceivedRequest) => void;
}

class Callbacks implements CodecCallbacks {
  readonly log = new EventLog();
  written = '';
  /** Nothing more is read: an error, or a message after which the connection must close. */
  closed = false;
  /** Closed by a fault or a reset. */
  failed = false;
  readHolds = 0;

  onGoAway(): void {}

  onSettings(): void {}

  write(bytes: Buffer | string): boolean {
    this.written +=
      typeof bytes === 'string' ? Buffer.from(bytes, 'latin1').toString('latin1') : bytes.toString('latin1');
    return true;
  }

  readDisable(disabled: boolean): void {
    this.readHolds += disabled ? 1 : -1;
  }

  onMessageComplete(mustClose: boolean): void {
    this.log.push({ complete: mustClose ? 'close' : 'keep' });
    if (mustClose) this.closed = true;
  }

  onInputWanted(): void {}

  onLocalReset(): void {
    this.log.push({ reset: 'ours' });
    this.closed = this.failed = true;
  }

  get events(): readonly WireEvent[] {
    return this.log.events;
  }

  protected fault(error: CodecError): void {
    this.log.push({ error: error.status, details: error.details });
    this.closed = this.failed = true;
  }
}

/** A server codec at the end of a wire, as connection_manager.ts drives it. */
export class ServerWire extends Callbacks {
  readonly codec: Http1ServerCodec;
  readonly requests: ReceivedRequest[] = [];
  readonly #hooks: ServerHooks;
  #leftover = Buffer.alloc(0);
  #dispatching = false;

  constructor(options: Http1Options = {}, hooks: ServerHooks = {}) {
    super();
    this.#hooks = hooks;
    this.codec = new Http1ServerCodec(this, options);
  }

  /** What was not taken yet. */
  get leftover(): string {
    return this.#leftover.toString('latin1');
  }

  newStream(encoder: StreamEncoder): StreamDecoder {
    const request = new ReceivedRequest(this.log, encoder);
    this.requests.push(request);
    request.onHead = () => this.#hooks.onHead?.(request);
    request.onEnd = () => this.#hooks.onEnd?.(request);
    return request;
  }

  feed(bytes: Buffer): void {
    if (!this.closed) this.#dispatch(Buffer.concat([this.#leftover, bytes]));
  }

  endInput(): void {
    if (this.closed) return;
    const error = this.codec.onEndOfInput();
    if (error !== undefined) this.fault(error);
  }

  override onMessageComplete(mustClose: boolean): void {
    super.onMessageComplete(mustClose);
    this.#offerAgain();
  }

  override onInputWanted(): void {
    this.#offerAgain();
  }

  #offerAgain(): void {
    if (!this.#dispatching && !this.closed && this.#leftover.length > 0) this.#dispatch(this.#leftover);
  }

  #dispatch(bytes: Buffer): void {
    const lent = Buffer.from(bytes);
    this.#dispatching = true;
    const result = this.codec.dispatch(lent);
    this.#dispatching = false;
    lent.fill(0xdd);
    if (result instanceof CodecError) {
      this.fault(result);
      return;
    }
    const { consumed } = result;
    assert.ok(consumed >= 0 && consumed <= bytes.length, `consumed ${consumed} of ${bytes.length}`);
    this.#leftover = Buffer.from(bytes.subarray(consumed));
    if (this.closed || this.#leftover.length === 0 || !this.codec.canDispatch) return;
    assert.ok(consumed > 0, 'the codec would take bytes and takes none');
    this.#dispatch(this.#leftover);
  }
}

/** A client codec at the end of a wire, as upstream/http1_connection.ts drives it. */
export class ClientWire extends Callbacks {
  readonly codec: Http1ClientCodec;
  readonly responses: ReceivedResponse[] = [];

  constructor(options: Http1Options = {}) {
    super();
    this.codec = new Http1ClientCodec(this, options);
  }

  /** Opens a stream without writing anything. */
  open(): { readonly encoder: StreamEncoder; readonly response: ReceivedResponse } {
    const response = new Received(this.log, ResponseHeaders);
    this.responses.push(response);
    const encoder = this.codec.newStream(response);
    assert.ok(encoder !== undefined, 'the codec opens no stream');
    return { encoder, response };
  }

  /** Sends a whole request. */
  request(message: Message<RequestHeaders>, sizes: readonly number[] = []): ReceivedResponse {
    const { encoder, response } = this.open();
    encode(encoder, message, sizes);
    return response;
  }

  feed(bytes: Buffer): void {
    if (this.failed) return;
    const lent = Buffer.from(bytes);
    const result = this.codec.dispatch(lent);
    lent.fill(0xdd);
    if (result instanceof CodecError) {
      this.fault(result);
      return;
    }
    const { consumed } = result;
    assert.ok(consumed >= 0 && consumed <= bytes.length, `consumed ${consumed} of ${bytes.length}`);
    if (consumed < bytes.length) this.log.stray(bytes.subarray(consumed).toString('latin1'));
  }

  endInput(): void {
    const error = this.codec.onEndOfInput();
    if (error !== undefined) this.fault(error);
  }
}

/** Sends a message; its body in chunks of `sizes` (the last one takes the rest). */
function encode(encoder: StreamEncoder, message: Message, sizes: readonly number[]): void {
  const { headers, body, trailers, endsWithHead } = message;
  encoder.encodeHeaders(headers, endsWithHead);
  if (endsWithHead) return;
  const bytes = Buffer.from(body, 'latin1');
  let at = 0;
  for (const size of sizes) {
    const end = Math.min(bytes.length, at + size);
    if (end === bytes.length) break;
    encoder.encodeData(bytes.subarray(at, end), false);
    at = end;
  }
  encoder.encodeData(bytes.subarray(at), trailers === undefined);
  if (trailers !== undefined) encoder.encodeTrailers(trailers);
}

/** A request's head. Names keep their spelling. */
export function requestHead(
  method: string,
  path: string,
  fields: Readonly<Record<string, string>> = {},
  authority = 'example.com',
): RequestHeaders {
  const headers = new RequestHeaders();
  headers.method = method;
  headers.path = path;
  headers.authority = authority;
  addFields(headers, Object.entries(fields));
  return headers;
}

export function responseHead(status: number, fields: Readonly<Record<string, string>> = {}): ResponseHeaders {
  const headers = new ResponseHeaders();
  headers.status = status;
  addFields(headers, Object.entries(fields));
  return headers;
}

export function addFields(headers: Headers, fields: Iterable<readonly [string, string]>): void {
  for (const [name, value] of fields) headers.appendAsReceived(name.toLowerCase(), name, value);
}

export function trailerFields(fields: Readonly<Record<string, string>>): Headers {
  const trailers = new Headers();
  addFields(trailers, Object.entries(fields));
  return trailers;
}

/** What Http1ClientCodec makes of a request. */
export function encodedRequest(message: Message<RequestHeaders>, sizes: readonly number[] = []): string {
  const wire = new ClientWire();
  wire.request(message, sizes);
  return wire.written;
}

/** A wire script in pieces: whole, in two at every position, byte by byte. */
export function* everySplit(script: string): Generator<readonly [name: string, pieces: readonly Buffer[]]> {
  const bytes = Buffer.from(script, 'latin1');
  yield ['whole', [bytes]];
  for (let at = 1; at < bytes.length; at++) {
    yield [
      `split at ${at}, before ${JSON.stringify(script.slice(at, at + 12))}`,
      [bytes.subarray(0, at), bytes.subarray(at)],
    ];
  }
  yield ['byte by byte', Array.from(bytes, (_, at) => bytes.subarray(at, at + 1))];
}

/** Fails at the first split whose outcome is not `expected`, and names it. */
export function assertEverySplit<T>(script: string, run: (pieces: readonly Buffer[]) => T, expected: T): void {
  for (const [split, pieces] of everySplit(script)) {
    assert.deepEqual({ split, outcome: run(pieces) }, { split, outcome: expected });
  }
}
