/** Writes heads and trailers as header blocks into a connection's output. */
import type { Headers, RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import { DEFAULT_FRAME_BYTES, FRAME_HEADER_BYTES } from './constants.ts';
import { writeLongBlock } from './frames/continuation.ts';
import { closeHeaders } from './frames/headers.ts';
import { HpackEncoder } from './hpack/encoder.ts';
import type { Output } from './output.ts';

/** Two table sizes and a status, or the names of all pseudo-headers. */
const BLOCK_OVERHEAD = 160;

export class HeadWriter {
  readonly encoder = new HpackEncoder();
  readonly #output: Output;

  constructor(output: Output) {
    this.#output = output;
  }

  response(streamId: number, status: number, headers: ResponseHeaders, endStream: boolean): void {
    const bound = BLOCK_OVERHEAD + HpackEncoder.bound(headers.fields);
    const out = this.#start(bound);
    const { encoder } = this;
    let at = encoder.start(out, this.#blockAt);
    at = encoder.status(status, out, at);
    at = this.#fields(headers.fields, out, at);
    headers.wireBytes = this.#end(out, at, streamId, endStream);
  }

  /** `protocol`: of extended CONNECT, whose method is CONNECT. @throws {TypeError} on what no head may hold. */
  request(streamId: number, headers: RequestHeaders, protocol: string | undefined, endStream: boolean): void {
    const { scheme, authority, path } = headers;
    const method = protocol === undefined ? headers.method : 'CONNECT';
    const pathFits = path === headers.visiblePath || fits(path);
    if (!pathFits || !fits(method) || !fits(authority) || !fits(scheme)) {
      throw new TypeError('a space or control character in a pseudo-header');
    }
    const texts = method.length + scheme.length + authority.length + path.length + (protocol?.length ?? 0);
    const out = this.#start(BLOCK_OVERHEAD + texts + HpackEncoder.bound(headers.fields));
    const { encoder } = this;
    let at = encoder.start(out, this.#blockAt);
    at = encoder.field(':method', method, out, at);
    if (method !== 'CONNECT' || protocol !== undefined) {
      at = encoder.field(':scheme', scheme, out, at);
      at = encoder.field(':path', path, out, at);
    }
    at = encoder.field(':authority', authority, out, at);
    if (protocol !== undefined) at = encoder.field(':protocol', protocol, out, at);
    at = this.#fields(headers.fields, out, at);
    headers.wireBytes = this.#end(out, at, streamId, endStream);
  }

  trailers(streamId: number, trailers: Headers): void {
    const out = this.#start(BLOCK_OVERHEAD + HpackEncoder.bound(trailers.fields));
    const at = this.#fields(trailers.fields, out, this.encoder.start(out, this.#blockAt));
    trailers.wireBytes = this.#end(out, at, streamId, true);
  }

  #blockAt = 0;
  #isLong = false;

  /** Where the block is written: in the output behind a frame header, or aside when one frame may not hold it. */
  #start(bound: number): Buffer {
    this.#isLong = bound > DEFAULT_FRAME_BYTES;
    if (this.#isLong) {
      this.#blockAt = 0;
      return Buffer.allocUnsafe(bound);
    }
    const out = this.#output.reserve(FRAME_HEADER_BYTES + bound);
    this.#blockAt = this.#output.length + FRAME_HEADER_BYTES;
    return out;
  }

  /** @returns the block's length. */
  #end(out: Buffer, at: number, streamId: number, endStream: boolean): number {
    if (this.#isLong) writeLongBlock(this.#output, streamId, out.subarray(0, at), endStream);
    else {
      closeHeaders(out, this.#output.length, at, streamId, endStream);
      this.#output.length = at;
    }
    return at - this.#blockAt;
  }

  #fields(fields: readonly string[], out: Buffer, from: number): number {
    const { encoder } = this;
    let at = from;
    for (let i = 0; i < fields.length; i += 2) {
      const name = fields[i] as string;
      if (!isOfConnection(name)) at = encoder.field(name, fields[i + 1] as string, out, at);
    }
    return at;
  }
}

/** Fields that HTTP/2 does not know (RFC 9113 §8.2.2), and the one that :authority stands for. */
function isOfConnection(name: string): boolean {
  switch (name.charCodeAt(0)) {
    case 99: // c
      return name === 'connection';
    case 104: // h
      return name === 'host';
    case 107: // k
      return name === 'keep-alive';
    case 112: // p
      return name === 'proxy-connection';
    case 116: // t
      return name === 'transfer-encoding';
    case 117: // u
      return name === 'upgrade';
    default:
      return false;
  }
}

function fits(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code <= 32 || code === 127 || code > 255) return false;
  }
  return true;
}
