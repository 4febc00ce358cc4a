/** Reads protobuf's wire format. A peer's bytes: everything that is wrong with them throws a WireError. Source: protobuf.dev "Encoding". */

export class WireError extends Error {}

/** Wire types. */
export const VARINT = 0;
export const FIXED64 = 1;
export const LENGTH = 2;
export const START_GROUP = 3;
export const END_GROUP = 4;
export const FIXED32 = 5;

const strictUtf8 = new TextDecoder('utf-8', { fatal: true });

export class WireReader {
  readonly #bytes: Buffer;
  #at: number;
  #end: number;

  constructor(bytes: Buffer, start = 0, end = bytes.length) {
    this.#bytes = bytes;
    this.#at = start;
    this.#end = end;
  }

  /** From the beginning of the bytes. */
  get position(): number {
    return this.#at;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#end;
  }

  /** Field number and wire type, as they stand on the wire: number × 8 + type. */
  tag(): number {
    const tag = this.uint32();
    if (tag >>> 3 === 0) throw new WireError('a field has number 0');
    return tag;
  }

  /** The low 32 bits of a varint. */
  uint32(): number {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = this.#byte();
      if (shift < 32) value |= (byte & 0x7f) << shift;
      if (byte < 0x80) return value >>> 0;
    }
    throw new WireError('a number has more than 10 bytes');
  }

  uint64(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, value);
    }
    throw new WireError('a number has more than 10 bytes');
  }

  fixed32(): number {
    return this.#bytes.readUInt32LE(this.#take(4));
  }

  fixed64(): bigint {
    return this.#bytes.readBigUInt64LE(this.#take(8));
  }

  float(): number {
    return this.#bytes.readFloatLE(this.#take(4));
  }

  double(): number {
    return this.#bytes.readDoubleLE(this.#take(8));
  }

  /** Shares memory with what is read. */
  bytes(): Buffer {
    const length = this.uint32();
    const start = this.#take(length);
    return this.#bytes.subarray(start, start + length);
  }

  string(): string {
    const length = this.uint32();
    const start = this.#take(length);
    const text = this.#bytes.utf8Slice(start, start + length);
    if (!text.includes('\ufffd')) return text;
    try {
      return strictUtf8.decode(this.#bytes.subarray(start, start + length));
    } catch {
      throw new WireError('a text is not UTF-8');
    }
  }

  /** Reads on inside of a length-delimited field. @returns what to give to `leave`. */
  enter(): number {
    const length = this.uint32();
    const start = this.#take(length);
    const outer = this.#end;
    this.#at = start;
    this.#end = start + length;
    return outer;
  }

  leave(outer: number): void {
    this.#at = this.#end;
    this.#end = outer;
  }

  skip(wireType: number, depth = 0): void {
    switch (wireType) {
      case VARINT:
        this.uint32();
        return;
      case FIXED64:
        this.#take(8);
        return;
      case LENGTH:
        this.#take(this.uint32());
        return;
      case FIXED32:
        this.#take(4);
        return;
      case START_GROUP:
        if (depth > 100) throw new WireError('groups nest too deep');
        for (;;) {
          const tag = this.tag();
          if ((tag & 7) === END_GROUP) return;
          this.skip(tag & 7, depth + 1);
        }
      default:
        throw new WireError(`wire type ${wireType} does not stand here`);
    }
  }

  #byte(): number {
    if (this.#at >= this.#end) throw new WireError('the bytes end in the middle of a field');
    return this.#bytes[this.#at++] as number;
  }

  #take(count: number): number {
    const start = this.#at;
    if (count > this.#end - start) throw new WireError('the bytes end in the middle of a field');
    this.#at = start + count;
    return start;
  }
}
