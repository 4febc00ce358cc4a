/** Windows of a connection in both directions, and the streams that wait for room (RFC 9113 §5.2). */
import { DEFAULT_FRAME_BYTES, DEFAULT_WINDOW_BYTES, MAX_WINDOW_BYTES } from './constants.ts';
import { writeWindowUpdate } from './frames/window_update.ts';
import { FIRST_WINDOW_BYTES, GROWN_WINDOW_BYTES, MAX_GROWN_BYTES } from './options.ts';
import type { Http2Sender } from './sender.ts';
import type { Http2Stream } from './stream.ts';

/** The connection's window is given back once this much of it is used, or half of it. */
const TOP_UP_BYTES = 1024 * 1024;

/** What the windows of all streams of this thread have grown by. */
let grownBytes = 0;

export class FlowControl {
  /** The carrier takes no more: DATA waits in its streams. */
  congested = false;
  /** Streams with something queued, in the order in which they began to wait. */
  readonly blocked = new Set<Http2Stream>();
  readonly #codec: Http2Sender;
  #sendWindow = DEFAULT_WINDOW_BYTES;
  #receiveWindow: number;
  #received = 0;
  #pumping = false;

  constructor(codec: Http2Sender) {
    this.#codec = codec;
    this.#receiveWindow = Math.max(DEFAULT_WINDOW_BYTES, codec.options.initialConnectionWindowBytes);
  }

  /** DATA has come. Streams hold back what they owe; the connection goes on for the others. @returns false: too much. */
  received(bytes: number): boolean {
    this.#receiveWindow -= bytes;
    if (this.#receiveWindow < 0) return false;
    this.#received += bytes;
    if (this.#received >= TOP_UP_BYTES || this.#received > this.#receiveWindow) {
      this.#receiveWindow += this.#received;
      writeWindowUpdate(this.#codec.output, 0, this.#received);
      this.#received = 0;
    }
    return true;
  }

  /** How much of `wanted` may go out now, in one frame. */
  allowance(stream: Http2Stream, wanted: number): number {
    if (this.congested) return 0;
    return Math.max(0, Math.min(wanted, DEFAULT_FRAME_BYTES, this.#sendWindow, stream.sendWindow));
  }

  sent(stream: Http2Stream, bytes: number): void {
    this.#sendWindow -= bytes;
    stream.sendWindow -= bytes;
  }

  /** @returns false: beyond what a window can be. */
  widen(increment: number): boolean {
    this.#sendWindow += increment;
    if (this.#sendWindow > MAX_WINDOW_BYTES) return false;
    this.pump();
    return true;
  }

  pumpStream(stream: Http2Stream): void {
    while (stream.pump());
  }

  /** Round by round, a frame of each waiting stream, until nothing moves. */
  pump(): void {
    if (this.#pumping) return;
    this.#pumping = true;
    let moved = true;
    while (moved && this.blocked.size > 0 && !this.congested && this.#sendWindow > 0) {
      moved = false;
      for (const stream of this.blocked) if (stream.pump()) moved = true;
    }
    this.#pumping = false;
  }

  /** Lets a stream whose reader keeps up have a larger window. @returns by how much. */
  grow(stream: Http2Stream): number {
    const more = Math.min(stream.windowSize, GROWN_WINDOW_BYTES - stream.windowSize, MAX_GROWN_BYTES - grownBytes);
    if (more <= 0) return 0;
    stream.windowSize += more;
    grownBytes += more;
    return more;
  }

  gone(stream: Http2Stream): void {
    if (this.blocked.size > 0) this.blocked.delete(stream);
    if (this.#codec.options.initialStreamWindowBytes === undefined)
      grownBytes -= stream.windowSize - FIRST_WINDOW_BYTES;
  }
}
