/** Cuts a connection's bytes into frames. A frame that comes in pieces is put together; whole ones are read in place. */
import { FRAME_HEADER_BYTES } from './constants.ts';
import { frameLength } from './frames/frame_header.ts';

/** A frame that has only begun gets room as it comes: announcing a length costs a peer more than it costs us. */
const FIRST_ROOM_BYTES = 512;

export class FrameReader {
  /** Longer frames are refused (FRAME_SIZE_ERROR). */
  readonly #maxFrameBytes: number;
  #carry: Buffer | undefined = undefined;
  #carried = 0;

  constructor(maxFrameBytes: number) {
    this.#maxFrameBytes = maxFrameBytes;
  }

  /** Bytes of a frame that is not complete. */
  get carriedBytes(): number {
    return this.#carried;
  }

  /**
   * Length of the frame that begins at `at`, header included. 0: not all of it is there; −1: longer than allowed.
   */
  frameAt(bytes: Buffer, at: number): number {
    if (bytes.length - at < FRAME_HEADER_BYTES) return 0;
    const length = frameLength(bytes, at);
    if (length > this.#maxFrameBytes) return -1;
    return bytes.length - at < FRAME_HEADER_BYTES + length ? 0 : FRAME_HEADER_BYTES + length;
  }

  /** Keeps what is left: the beginning of a frame. */
  keep(bytes: Buffer, at: number): void {
    const length = bytes.length - at;
    if (length === 0) return;
    this.#room(length);
    this.#carried += bytes.copy(this.#carry as Buffer, this.#carried, at);
  }

  /**
   * Adds to the frame that was begun. @returns how many of `bytes` it took; the frame is complete when `whole` is there.
   * −1: longer than allowed.
   */
  add(bytes: Buffer): number {
    let taken = 0;
    if (this.#carried < FRAME_HEADER_BYTES) {
      taken = Math.min(bytes.length, FRAME_HEADER_BYTES - this.#carried);
      this.#append(bytes, 0, taken);
      if (this.#carried < FRAME_HEADER_BYTES) return taken;
    }
    const length = frameLength(this.#carry as Buffer, 0);
    if (length > this.#maxFrameBytes) return -1;
    const more = Math.min(bytes.length - taken, FRAME_HEADER_BYTES + length - this.#carried);
    this.#append(bytes, taken, taken + more);
    return taken + more;
  }

  /** The complete frame, once; undefined: not yet. */
  takeWhole(): Buffer | undefined {
    const carry = this.#carry;
    if (carry === undefined || this.#carried < FRAME_HEADER_BYTES) return undefined;
    const length = FRAME_HEADER_BYTES + frameLength(carry, 0);
    if (this.#carried < length) return undefined;
    this.#carry = undefined;
    this.#carried = 0;
    return carry.subarray(0, length);
  }

  #append(bytes: Buffer, from: number, end: number): void {
    if (end <= from) return;
    this.#room(end - from);
    this.#carried += bytes.copy(this.#carry as Buffer, this.#carried, from, end);
  }

  #room(more: number): void {
    const carry = this.#carry;
    const needed = this.#carried + more;
    if (carry !== undefined && needed <= carry.length) return;
    const room = Math.max(needed, FIRST_ROOM_BYTES, carry === undefined ? 0 : carry.length * 2);
    const larger = Buffer.allocUnsafeSlow(Math.min(room, FRAME_HEADER_BYTES + this.#maxFrameBytes));
    carry?.copy(larger, 0, 0, this.#carried);
    this.#carry = larger;
  }
}
