/** Writes protobuf messages by hand: data threads do without the descriptors. Source: protobuf.dev "Encoding". */
import { isUtf8 } from 'node:buffer';

const FIRST_BYTES = 4096;
/** A larger buffer is let go after use. */
const KEPT_BYTES = 256 * 1024;

/** One message at a time, in a buffer that is used again. Values that are a field's default are left out. */
export class ProtobufWriter {
  #bytes = Buffer.allocUnsafe(FIRST_BYTES);
  #length = 0;

  /** What was written since the last `reset`: borrowed until the next. */
  get message(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /** Bytes since the last `reset`. */
  get length(): number {
    return this.#length;
  }

  reset(): void {
    this.#length = 0;
    if (this.#bytes.length > KEPT_BYTES) this.#bytes = Buffer.allocUnsafe(FIRST_BYTES);
  }

  /** Opens a message field; give what it returns to `end`. */
  begin(field: number): number {
    this.#tag(field, 2);
    this.#room(1);
    return ++this.#length;
  }

  /** Puts the length before what was written since `begin`. */
  end(start: number): void {
    const size = this.#length - start;
    const extra = varintBytes(size) - 1;
    if (extra > 0) {
      this.#room(extra);
      this.#bytes.copyWithin(start + extra, start, this.#length);
      this.#length += extra;
    }
    writeVarint(this.#bytes, start - 1, size);
  }

  /** bool, enum, uint32 and uint64 (below 2^53). */
  integer(field: number, value: number): void {
    if (value > 0) this.#integer(field, value);
  }

  /** In a message of its own (google.protobuf.UInt32Value): 0 is told from nothing. */
  wrapped(field: number, value: number): void {
    const start = this.begin(field);
    this.integer(1, value);
    this.end(start);
  }

  flag(field: number, value: boolean): void {
    if (value) this.#integer(field, 1);
  }

  double(field: number, value: number): void {
    this.#tag(field, 1);
    this.#room(8);
    this.#length = this.#bytes.writeDoubleLE(value, this.#length);
  }

  /** undefined and '' are left out. Heads of peers come as Latin-1: their bytes are kept where they are UTF-8. */
  string(field: number, text: string | undefined): void {
    if (text === undefined || text === '') return;
    const size = text.length;
    if (isAscii(text)) {
      this.#tag(field, 2);
      this.#room(size + 5);
      this.#length = writeVarint(this.#bytes, this.#length, size);
      this.#length += this.#bytes.latin1Write(text, this.#length);
    } else this.bytes(field, utf8(text));
  }

  bytes(field: number, value: Uint8Array): void {
    this.#tag(field, 2);
    this.#room(value.length + 5);
    this.#length = writeVarint(this.#bytes, this.#length, value.length);
    this.#bytes.set(value, this.#length);
    this.#length += value.length;
  }

  #integer(field: number, value: number): void {
    this.#tag(field, 0);
    this.#room(10);
    this.#length = writeVarint(this.#bytes, this.#length, value);
  }

  #tag(field: number, wire: number): void {
    this.#room(3);
    this.#length = writeVarint(this.#bytes, this.#length, field * 8 + wire);
  }

  #room(size: number): void {
    const wanted = this.#length + size;
    if (wanted <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(wanted, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}

/** A length-delimited field of a message that is put together of few pieces. */
export function message(field: number, body: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(varintBytes(field * 8) + varintBytes(body.length) + body.length);
  bytes.set(body, writeVarint(bytes, writeVarint(bytes, 0, field * 8 + 2), body.length));
  return bytes;
}

/** @returns the offset behind it. `value` is below 2^53. */
export function writeVarint(bytes: Buffer, at: number, value: number): number {
  let rest = value;
  let offset = at;
  while (rest > 127) {
    bytes[offset++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  bytes[offset++] = rest;
  return offset;
}

export function varintBytes(value: number): number {
  let count = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) count++;
  return count;
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false;
  return true;
}

function utf8(text: string): Buffer {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 255) return Buffer.from(text.toWellFormed());
  const bytes = Buffer.from(text, 'latin1');
  return isUtf8(bytes) ? bytes : Buffer.from(text);
}
