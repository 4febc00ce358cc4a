/**
 * Access-log lines as bytes, written piece by piece: no string of the whole line is made, flattened, looked through and
 * encoded again.
 */

const FIRST_BYTES = 1024;
/** Longer texts are encoded by Node in one call. */
const SHORT = 64;
/** A character takes at most so many bytes: as UTF-8, or escaped. */
const BYTES_PER_CHARACTER = 4;
const HEX = Buffer.from('0123456789abcdef');

export class LineBuffer {
  #bytes: Buffer;
  #length = 0;

  /** `expectedBytes`: what it will hold, as far as anybody knows. */
  constructor(expectedBytes = 0) {
    this.#bytes = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, expectedBytes));
  }

  get length(): number {
    return this.#length;
  }

  /** What was written. Its memory is the taker's from now on. */
  take(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  /**
   * Appends as UTF-8. Control characters but the tab become \xNN: lines cannot be forged, terminals not be steered
   * (attacks.md row 60).
   */
  text(text: string): void {
    const { length } = text;
    if (this.#length + length * BYTES_PER_CHARACTER > this.#bytes.length) this.#grow(length * BYTES_PER_CHARACTER);
    if (length > SHORT) return this.#long(text);
    const bytes = this.#bytes;
    let at = this.#length;
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i);
      if ((code < 32 && code !== 9) || code >= 127) return this.#odd(text);
      bytes[at++] = code;
    }
    this.#length = at;
  }

  /** Appends as UTF-8 what was escaped before. */
  plain(text: string): void {
    const room = text.length * 3;
    if (this.#length + room > this.#bytes.length) this.#grow(room);
    this.#length += this.#bytes.utf8Write(text, this.#length);
  }

  /** Appends bytes as they are, the line's end too. */
  raw(bytes: Uint8Array): void {
    if (this.#length + bytes.length > this.#bytes.length) this.#grow(bytes.length);
    const to = this.#bytes;
    const at = this.#length;
    for (let i = 0; i < bytes.length; i++) to[at + i] = bytes[i] as number;
    this.#length = at + bytes.length;
  }

  #long(text: string): void {
    const from = this.#length;
    const end = from + this.#bytes.utf8Write(text, from);
    const bytes = this.#bytes;
    for (let i = from; i < end; i++) {
      const code = bytes[i] as number;
      if ((code < 32 && code !== 9) || code === 127) return this.#odd(text);
    }
    this.#length = end;
  }

  /** Something is to be escaped, or is more than ASCII. */
  #odd(text: string): void {
    let from = 0;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if ((code >= 32 && code !== 127) || code === 9) continue;
      this.#length += this.#bytes.utf8Write(text.slice(from, i), this.#length);
      const escaped = this.#bytes;
      escaped[this.#length++] = 92; // \
      escaped[this.#length++] = 120; // x
      escaped[this.#length++] = HEX[code >>> 4] as number;
      escaped[this.#length++] = HEX[code & 15] as number;
      from = i + 1;
    }
    this.#length += this.#bytes.utf8Write(text.slice(from), this.#length);
  }

  #grow(more: number): void {
    const larger = Buffer.allocUnsafeSlow(Math.max(this.#length + more, this.#bytes.length * 2));
    this.#bytes.copy(larger, 0, 0, this.#length);
    this.#bytes = larger;
  }
}
