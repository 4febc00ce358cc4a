/** Header blocks that come in several frames, put together within limits (RFC 9113 §6.10). */
import { MAX_CONTINUATION_FRAMES } from './options.ts';

export class HeaderBlocks {
  /** Whose block is being put together; 0: none. */
  streamId = 0;
  endStream = false;
  /** The stream was said to depend on itself. */
  itself = false;
  readonly #maxBytes: number;
  #pieces: Buffer[] = [];
  #bytes = 0;

  /** `maxListBytes`: beyond it a stream is reset; a block several times longer is no mistake but an attack. */
  constructor(maxListBytes: number) {
    this.#maxBytes = 4 * maxListBytes;
  }

  start(streamId: number, endStream: boolean, itself: boolean, bytes: Buffer, from: number, end: number): void {
    this.streamId = streamId;
    this.endStream = endStream;
    this.itself = itself;
    this.#pieces = [Buffer.from(bytes.subarray(from, end))];
    this.#bytes = end - from;
  }

  /** @returns false: too many, or too long. */
  add(bytes: Buffer, from: number, end: number): boolean {
    this.#bytes += end - from;
    if (this.#pieces.length > MAX_CONTINUATION_FRAMES || this.#bytes > this.#maxBytes) return false;
    this.#pieces.push(Buffer.from(bytes.subarray(from, end)));
    return true;
  }

  take(): Buffer {
    const whole = Buffer.concat(this.#pieces);
    this.#pieces = [];
    this.streamId = 0;
    return whole;
  }
}
