/** Drives the HTTP/2 codecs without sockets: frames as bytes in, frames out, every buffer poisoned after its dispatch. */
import type { CodecError, ResetReason, StreamDecoder } from '../../proxy/http/codec.ts';
import { type Headers, RequestHeaders, ResponseHeaders } from '../../proxy/http/headers.ts';
import { Http2ClientCodec } from '../../proxy/http2/client_codec.ts';
import { FrameType, PREFACE } from '../../proxy/http2/constants.ts';
import { DecodedBlock, HpackDecoder } from '../../proxy/http2/hpack/decoder.ts';
import { DEFAULT_OPTIONS, type Http2Options } from '../../proxy/http2/options.ts';
import type { Http2Callbacks } from '../../proxy/http2/sender.ts';
import { Http2ServerCodec } from '../../proxy/http2/server_codec.ts';
import { Http2Statistics } from '../../proxy/http2/statistics.ts';
import type { Http2Stream } from '../../proxy/http2/stream.ts';
import type { Statistics } from '../../proxy/telemetry/statistics.ts';

export interface Frame {
  readonly type: number;
  readonly flags: number;
  readonly streamId: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, streamId: number, payload: Buffer | string = ''): Buffer {
  const body = typeof payload === 'string' ? Buffer.from(payload, 'latin1') : payload;
  const head = Buffer.alloc(9);
  head.writeUIntBE(body.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(streamId, 5);
  return Buffer.concat([head, body]);
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Cuts bytes into frames. @throws when they do not end with one. */
export function parseFrames(bytes: Buffer): Frame[] {
  const frames: Frame[] = [];
  let at = bytes.subarray(0, PREFACE.length).equals(PREFACE) ? PREFACE.length : 0;
  while (at < bytes.length) {
    const length = bytes.readUIntBE(at, 3);
    if (at + 9 + length > bytes.length) throw new Error('a frame is cut off');
    frames.push({
      type: bytes[at + 3] as number,
      flags: bytes[at + 4] as number,
      streamId: bytes.readUInt32BE(at + 5),
      payload: Buffer.from(bytes.subarray(at + 9, at + 9 + length)),
    });
    at += 9 + length;
  }
  return frames;
}

/** A header block of literals that enter no table: `name`, `value`, … */
export function literals(...texts: readonly string[]): Buffer {
  const parts: Buffer[] = [];
  for (let i = 0; i < texts.length; i += 2) {
    parts.push(Buffer.from([0]), text(texts[i] as string), text(texts[i + 1] as string));
  }
  return Buffer.concat(parts);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.length < 127) return Buffer.concat([Buffer.from([bytes.length]), bytes]);
  const head = [127];
  let rest = bytes.length - 127;
  for (; rest >= 128; rest >>= 7) head.push((rest & 127) | 128);
  head.push(rest);
  return Buffer.concat([Buffer.from(head), bytes]);
}

export const GET = literals(':method', 'GET', ':scheme', 'http', ':path', '/', ':authority', 'a');
export const POST = literals(':method', 'POST', ':scheme', 'http', ':path', '/', ':authority', 'a');

/** Statistics that can be looked at. */
export class CountingStatistics implements Statistics {
  readonly values = new Map<string, number>();

  counter(name: string): { inc(): void; add(count: number): void } {
    const add = (count: number): void => void this.values.set(name, (this.values.get(name) ?? 0) + count);
    return { inc: () => add(1), add };
  }

  gauge(name: string): { inc(): void; dec(): void; set(value: number): void } {
    const { inc, add } = this.counter(name);
    return { inc, dec: () => add(-1), set: (value) => void this.values.set(name, value) };
  }

  histogram(): { record(): void } {
    return { record: () => {} };
  }

  get(name: string): number {
    return this.values.get(name) ?? 0;
  }
}

/** What one stream's decoder was told. */
export class Received implements StreamDecoder {
  readonly stream: Http2Stream | undefined;
  readonly events: string[] = [];
  headers: RequestHeaders | ResponseHeaders | undefined = undefined;
  interim: number[] = [];
  body = '';
  trailers: Headers | undefined = undefined;
  ended = false;
  drains = 0;
  onHead: () => void = () => {};
  resetReason: ResetReason | undefined = undefined;

  constructor(stream?: Http2Stream) {
    this.stream = stream;
  }

  decode1xx(headers: ResponseHeaders): void {
    this.interim.push(headers.status);
  }

  decodeHeaders(headers: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    this.headers = headers;
    this.ended = endStream;
    this.onHead();
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    this.body += chunk.toString('latin1');
    this.ended = endStream;
  }

  decodeTrailers(trailers: Headers): void {
    this.trailers = trailers;
    this.ended = true;
  }

  onReset(reason: ResetReason): void {
    this.resetReason = reason;
  }

  onDrain(): void {
    this.drains++;
  }
}

class Wire implements Http2Callbacks {
  readonly statistics = new CountingStatistics();
  readonly http2 = new Http2Statistics(this.statistics, 'http2');
  readonly goAways: number[] = [];
  readonly pingAcks: number[] = [];
  /** What `send` answers: 0 as an open socket does, 2 as one whose peer does not read. */
  carrier: 0 | 1 | 2 = 0;
  error: CodecError | undefined = undefined;
  clockMs = 1;
  sent: Buffer[] = [];
  wanted = 0;

  streamClosed(): void {}

  onGoAway(lastStreamId: number): void {
    this.goAways.push(lastStreamId);
  }

  onSettings(): void {}

  onPingAck(_high: number, low: number): void {
    this.pingAcks.push(low);
  }

  outputReady(): void {
    this.wanted++;
  }

  send(bytes: Buffer): 0 | 1 | 2 {
    this.sent.push(Buffer.from(bytes));
    return this.carrier;
  }

  nowMs(): number {
    return this.clockMs;
  }

  protected run(codec: Http2ServerCodec | Http2ClientCodec, bytes: Buffer): void {
    const lent = Buffer.from(bytes);
    this.error = codec.dispatch(lent) ?? this.error;
    lent.fill(0xdd);
    codec.flush();
  }

  /** Frames written since the last call. */
  take(): Frame[] {
    const frames = parseFrames(Buffer.concat(this.sent));
    this.sent = [];
    return frames;
  }
}

/** A server codec; `start` says the client's preface. */
export class ServerWire extends Wire {
  readonly codec: Http2ServerCodec;
  readonly requests: Received[] = [];
  onRequest: (request: Received) => void = () => {};

  constructor(options: Partial<Http2Options> = {}) {
    super();
    this.codec = new Http2ServerCodec(this, { ...DEFAULT_OPTIONS, ...options }, this.http2);
    this.codec.flush();
  }

  newStream(stream: Http2Stream): StreamDecoder {
    const request = new Received(stream);
    this.requests.push(request);
    request.onHead = () => this.onRequest(request);
    return request;
  }

  start(settings: Buffer = Buffer.alloc(0)): this {
    this.feed(PREFACE, frame(FrameType.SETTINGS, 0, 0, settings));
    this.take();
    return this;
  }

  feed(...pieces: readonly Buffer[]): this {
    this.run(this.codec, Buffer.concat(pieces));
    return this;
  }
}

/** A client codec; `start` says the server's preface. */
export class ClientWire extends Wire {
  readonly codec: Http2ClientCodec;

  constructor(options: Partial<Http2Options> = {}) {
    super();
    this.codec = new Http2ClientCodec(this, { ...DEFAULT_OPTIONS, ...options }, this.http2);
    this.codec.flush();
  }

  start(settings: Buffer = Buffer.alloc(0)): this {
    this.feed(frame(FrameType.SETTINGS, 0, 0, settings));
    this.take();
    return this;
  }

  feed(...pieces: readonly Buffer[]): this {
    this.run(this.codec, Buffer.concat(pieces));
    return this;
  }

  /** Sends a GET. */
  get(path = '/'): Received {
    const received = new Received();
    const stream = this.codec.newStream(received);
    if (stream === undefined) throw new Error('no stream may open');
    const headers = new RequestHeaders();
    headers.authority = 'a';
    headers.path = path;
    stream.encodeHeaders(headers, true);
    return received;
  }
}

/** Decodes a block by itself: for codecs whose table is empty so far. */
export function decodeBlock(block: Buffer, decoder = new HpackDecoder(4096)): string[] {
  const into = new DecodedBlock();
  if (!decoder.decode(block, 0, block.length, { maxListBytes: 1e9, maxCount: 1e9 }, into)) {
    throw new Error('the block cannot be decoded');
  }
  return [...into.texts];
}

export function answer(request: Received, status: number, body = ''): void {
  const headers = new ResponseHeaders();
  headers.status = status;
  request.stream?.encodeHeaders(headers, body === '');
  if (body !== '') request.stream?.encodeData(Buffer.from(body, 'latin1'), true);
}
