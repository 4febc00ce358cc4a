/**
 * What a connection is about to send: the frames of all its streams in one buffer, which is borrowed from a pool of the
 * thread only while there is output. An idle connection holds none.
 */

const BUFFER_BYTES = 65_536;
/** Free buffers kept by a thread. */
const MAX_FREE = 32;

const free: Buffer[] = [];
const NONE = Buffer.alloc(0);

export interface OutputOwner {
  /** The first bytes since the last flush: `flush` will be wanted when the running event ends. */
  outputReady(): void;
  /** Sends `bytes` now. @returns whether their memory is ours again at once (all of it has left). */
  send(bytes: Buffer): boolean;
}

export class Output {
  /** Where to write; `reserve` may replace it. */
  bytes: Buffer = NONE;
  /** Bytes written. */
  length = 0;
  readonly #owner: OutputOwner;
  #asked = false;

  constructor(owner: OutputOwner) {
    this.#owner = owner;
  }

  /** Room for `size` bytes at `length`. `size` is at most one frame with its header. */
  reserve(size: number): Buffer {
    if (this.length + size > this.bytes.length) {
      if (this.length > 0) this.flush();
      if (this.bytes.length === 0) this.bytes = free.pop() ?? Buffer.allocUnsafeSlow(BUFFER_BYTES);
    }
    if (!this.#asked) {
      this.#asked = true;
      this.#owner.outputReady();
    }
    return this.bytes;
  }

  flush(): void {
    this.#asked = false;
    const { bytes, length } = this;
    if (length === 0) {
      this.drop();
      return;
    }
    this.length = 0;
    this.bytes = NONE;
    if (this.#owner.send(bytes.subarray(0, length)) && free.length < MAX_FREE) free.push(bytes);
  }

  /** Nothing more will be sent. */
  drop(): void {
    if (this.bytes.length > 0 && free.length < MAX_FREE) free.push(this.bytes);
    this.bytes = NONE;
    this.length = 0;
  }
}
