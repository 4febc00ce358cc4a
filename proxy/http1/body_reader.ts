/**
 * Bodies of HTTP/1.1 messages (RFC 9112 §6, §7).
 *
 *   none ─► done
 *   fixed(n) ──n bytes──► done
 *   size line ──n>0──► chunk data ──n bytes──► chunk end (CRLF) ──► size line
 *       └──n=0──► trailers ──empty line──► done
 *   until close ──end of input──► done          raw ──► never done (after an upgrade)
 */
import { CodecError } from '../http/codec.ts';
import { Headers } from '../http/headers.ts';
import { findHeadEnd, HeadFacts, parseFields } from './head_parser.ts';
import { DEFAULT_MAX_HEADER_COUNT, MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES } from './options.ts';

type State =
  | 'done'
  | 'fixed'
  | 'size'
  | 'extension'
  | 'size-lf'
  | 'data'
  | 'data-cr'
  | 'data-lf'
  | 'trailers'
  | 'until-close'
  | 'raw';

export interface BodySink {
  /** `chunk` is borrowed. */
  bodyData(chunk: Buffer, end: boolean): void;
  bodyTrailers(trailers: Headers): void;
}

const EMPTY = Buffer.alloc(0);

export class BodyReader {
  error: CodecError | undefined = undefined;
  readonly #sink: BodySink;
  #state: State = 'done';
  #remaining = 0;
  #digits = 0;
  #lineBytes = 0;
  #trailers: Buffer = EMPTY;

  constructor(sink: BodySink) {
    this.#sink = sink;
  }

  get done(): boolean {
    return this.#state === 'done';
  }

  get untilClose(): boolean {
    return this.#state === 'until-close' || this.#state === 'raw';
  }

  get raw(): boolean {
    return this.#state === 'raw';
  }

  startFixed(length: number): void {
    this.#remaining = length;
    this.#state = length === 0 ? 'done' : 'fixed';
  }

  startChunked(): void {
    this.#state = 'size';
    this.#remaining = 0;
    this.#digits = 0;
    this.#lineBytes = 0;
  }

  startUntilClose(): void {
    this.#state = 'until-close';
  }

  startRaw(): void {
    this.#state = 'raw';
  }

  stop(): void {
    this.#state = 'done';
  }

  /** Reads from `from`. @returns where it stopped: the end of the bytes, or of the body; −1: see `error`. */
  read(bytes: Buffer, from: number): number {
    let at = from;
    while (at < bytes.length) {
      switch (this.#state) {
        case 'done':
          return at;
        case 'fixed': {
          const end = Math.min(bytes.length, at + this.#remaining);
          this.#remaining -= end - at;
          if (this.#remaining === 0) this.#state = 'done';
          this.#sink.bodyData(bytes.subarray(at, end), this.#remaining === 0);
          at = end;
          break;
        }
        case 'until-close':
        case 'raw':
          this.#sink.bodyData(at === 0 ? bytes : bytes.subarray(at), false);
          return bytes.length;
        case 'data': {
          const end = Math.min(bytes.length, at + this.#remaining);
          this.#remaining -= end - at;
          if (this.#remaining === 0) this.#state = 'data-cr';
          this.#sink.bodyData(bytes.subarray(at, end), false);
          at = end;
          break;
        }
        case 'trailers': {
          at = this.#readTrailers(bytes, at);
          if (at < 0) return -1;
          break;
        }
        default:
          if (!this.#readLineByte(bytes[at] as number)) return this.#fail();
          at++;
      }
    }
    return at;
  }

  /** One byte of a chunk-size line or of the CRLF behind chunk data. */
  #readLineByte(byte: number): boolean {
    switch (this.#state) {
      case 'size': {
        const digit = hexDigit(byte);
        if (digit >= 0) {
          // 2^52 is more than anyone sends; beyond, sizes would lose precision.
          if (++this.#digits > 13) return false;
          this.#remaining = this.#remaining * 16 + digit;
          return true;
        }
        if (this.#digits === 0) return false;
        if (byte === 13) this.#state = 'size-lf';
        else if (byte === 59) this.#state = 'extension';
        else return false;
        return true;
      }
      case 'extension':
        if (byte === 13) this.#state = 'size-lf';
        else if ((byte < 32 && byte !== 9) || byte === 127 || ++this.#lineBytes > MAX_CHUNK_LINE_BYTES) return false;
        return true;
      case 'size-lf':
        if (byte !== 10) return false;
        this.#state = this.#remaining === 0 ? 'trailers' : 'data';
        this.#trailers = EMPTY;
        return true;
      case 'data-cr':
        if (byte !== 13) return false;
        this.#state = 'data-lf';
        return true;
      case 'data-lf':
        if (byte !== 10) return false;
        this.startChunked();
        return true;
      default:
        return false;
    }
  }

  #readTrailers(bytes: Buffer, at: number): number {
    const before = this.#trailers.length;
    if (before === 0 && bytes[at] === 13 && bytes[at + 1] === 10) {
      this.#state = 'done';
      this.#sink.bodyData(EMPTY, true);
      return at + 2;
    }
    const all = before === 0 ? bytes.subarray(at) : Buffer.concat([this.#trailers, bytes.subarray(at)]);
    if (all[0] === 13 && all[1] === 10) {
      this.#state = 'done';
      this.#sink.bodyData(EMPTY, true);
      return at + 2 - before;
    }
    const end = findHeadEnd(all, Math.max(0, before - 3));
    if (end === -2 || (all[0] === 13 && all.length > 1)) return this.#fail();
    if (end < 0 || end > MAX_TRAILER_BYTES) {
      if (all.length > MAX_TRAILER_BYTES) {
        this.error = new CodecError(
          431,
          'http1.trailers_too_large',
          `trailers are longer than ${MAX_TRAILER_BYTES} bytes`,
        );
        return -1;
      }
      this.#trailers = Buffer.from(all);
      return bytes.length;
    }
    const trailers = new Headers();
    const facts = new HeadFacts();
    this.error = parseFields(all.latin1Slice(0, end), 0, trailers, facts, DEFAULT_MAX_HEADER_COUNT);
    if (this.error !== undefined) return -1;
    // Framing and routing fields mean nothing in trailers (RFC 9110 §6.5.1); to forward them would be to let them in.
    trailers.filter(
      (name) =>
        name !== 'content-length' &&
        name !== 'connection' &&
        name !== 'upgrade' &&
        name !== 'keep-alive' &&
        name !== 'trailer',
    );
    this.#state = 'done';
    this.#sink.bodyTrailers(trailers);
    return at + end - before;
  }

  #fail(): number {
    this.error = new CodecError(400, 'http1.codec_error', 'the chunked body is malformed');
    return -1;
  }
}

function hexDigit(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}
