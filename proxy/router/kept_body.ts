/** The copies of a request's body that the router keeps: what came before a connection, and what may be sent again. */
import type { Headers } from '../http/headers.ts';

export class KeptBody {
  /** The head was the whole request. */
  readonly none: boolean;
  /** Everything of the request has come. */
  complete: boolean;
  trailers: Headers | undefined = undefined;
  /** Nothing was let go of: the request can be sent from its beginning. */
  replayable = true;
  readonly chunks: Buffer[] = [];
  bytes = 0;

  constructor(endStream: boolean) {
    this.none = endStream;
    this.complete = endStream;
  }

  /** `bytes` are borrowed: copied. */
  keep(bytes: Buffer): void {
    this.bytes += bytes.length;
    this.chunks.push(Buffer.from(bytes));
  }

  /** Nothing of it will be sent (again). */
  release(): void {
    this.replayable = this.none;
    if (this.chunks.length > 0) this.chunks.length = 0;
    this.bytes = 0;
  }
}
