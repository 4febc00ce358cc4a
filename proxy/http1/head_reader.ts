/** Collects a head that may come in pieces, up to its empty line. */
import { CodecError } from '../http/codec.ts';
import { findHeadEnd } from './head_parser.ts';

const INCOMPLETE = -1;

/** `text` is the complete head, from its first line to the empty line; `consumed` says how much of the given bytes was it. */
export class HeadReader {
  text = '';
  consumed = 0;
  readonly #maxBytes: number;
  /** What came before, copied: only when a head is split over reads. */
  #partial: Buffer | undefined = undefined;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  get hasPartial(): boolean {
    return this.#partial !== undefined;
  }

  /** @returns true: `text` and `consumed` are set; false: all bytes were taken, more are wanted. */
  read(bytes: Buffer, from: number): boolean | CodecError {
    const before = this.#partial?.length ?? 0;
    const all = this.#partial === undefined ? bytes : Buffer.concat([this.#partial, bytes.subarray(from)]);
    let start = this.#partial === undefined ? from : 0;
    // Empty lines before a message are ignored (RFC 9112 §2.2).
    while (all[start] === 13 && all[start + 1] === 10) start += 2;
    if (start === all.length - 1 && all[start] === 13) return this.#keep(all, start);
    // Three bytes back: an empty line may have been cut in two.
    const end =
      this.#partial === undefined ? headEnd(all, start, start) : headEnd(all, start, Math.max(start, before - 3));
    if (end === INCOMPLETE) return this.#keep(all, start);
    if (end < 0)
      return new CodecError(400, 'http1.invalid_characters', 'a control character or a bare CR or LF in the head');
    if (end - start > this.#maxBytes) return this.#tooLong(all, start);
    this.text = all.latin1Slice(start, end);
    this.consumed = this.#partial === undefined ? end : from + end - before;
    this.#partial = undefined;
    return true;
  }

  #keep(all: Buffer, start: number): boolean | CodecError {
    if (all.length - start > this.#maxBytes) return this.#tooLong(all, start);
    this.#partial = start === all.length ? undefined : Buffer.from(all.subarray(start));
    return false;
  }

  #tooLong(all: Buffer, start: number): CodecError {
    const firstLine = all.indexOf(13, start);
    return firstLine < 0 || firstLine - start > this.#maxBytes
      ? new CodecError(414, 'http1.uri_too_long', `the request line is longer than ${this.#maxBytes} bytes`)
      : new CodecError(431, 'http1.headers_too_large', `the head is longer than ${this.#maxBytes} bytes`);
  }
}

/** findHeadEnd over a head that begins at `start`, of which everything before `from` was looked at. */
function headEnd(all: Buffer, start: number, from: number): number {
  if (start === 0) return findHeadEnd(all, from);
  const end = findHeadEnd(all.subarray(start), from - start);
  return end < 0 ? end : end + start;
}
