/** Counts the messages of a gRPC body as its bytes pass. Source: gRPC over HTTP/2, "Length-Prefixed-Message". */

const PREFIX_BYTES = 5;

export class GrpcMessageCounter {
  /** Messages whose prefix has passed. */
  count = 0;
  /** Bytes of the message under way that are still to come. */
  #rest = 0;
  #prefixSeen = 0;
  #length = 0;

  add(bytes: Buffer): void {
    let at = 0;
    while (at < bytes.length) {
      if (this.#rest > 0) {
        const taken = Math.min(this.#rest, bytes.length - at);
        this.#rest -= taken;
        at += taken;
        continue;
      }
      // One byte says whether it is compressed, four how long it is.
      if (this.#prefixSeen > 0) this.#length = this.#length * 256 + (bytes[at] as number);
      this.#prefixSeen++;
      at++;
      if (this.#prefixSeen === PREFIX_BYTES) {
        this.count++;
        this.#rest = this.#length;
        this.#prefixSeen = 0;
        this.#length = 0;
      }
    }
  }
}

/** Of one stream; read by istio.stats and access logs. */
export interface GrpcMessages {
  readonly request: GrpcMessageCounter;
  readonly response: GrpcMessageCounter;
}
