/**
 * Joins two byte streams: bytes, ends and resets of each become those of the other.
 *
 *   both open ─ end of one ─► half closed (the other direction goes on) ─ end of the other ─► closed
 *       └── reset or loss of either: the other one is reset ──────────────────────────────────►┘
 *
 * A side whose peer takes nothing is not read: memory stays at what the two watermarks allow.
 */
import type { Failure } from '../failures.ts';
import type { ByteStream } from '../net/byte_stream.ts';

export type Side = 'downstream' | 'upstream';

export interface RelayObserver {
  /** From the client to the host. */
  sent(bytes: number): void;
  /** From the host to the client. */
  received(bytes: number): void;
  paused(side: Side): void;
  resumed(side: Side): void;
  /** Once, when both are gone. `cut`: who ended it before its time, and why. */
  over(cut: { readonly side: Side; readonly failure: Failure } | undefined): void;
}

export class Relay {
  readonly #down: ByteStream;
  readonly #up: ByteStream;
  readonly #observer: RelayObserver;
  #downClosed = false;
  #upClosed = false;
  #downEnded = false;
  #upEnded = false;
  /** Reading of the side is paused because the other takes nothing. */
  #downPaused = false;
  #upPaused = false;
  #cut: { readonly side: Side; readonly failure: Failure } | undefined = undefined;

  constructor(down: ByteStream, up: ByteStream, observer: RelayObserver) {
    this.#down = down;
    this.#up = up;
    this.#observer = observer;
    down.onData = (bytes) => this.fromClient(bytes);
    up.onData = (bytes) => this.#fromHost(bytes);
    down.onEnd = () => this.clientEnded();
    up.onEnd = () => this.#hostEnded();
    down.onDrain = () => this.#resumeHost();
    up.onDrain = () => this.#resumeClient();
    down.onClose = (failure) => this.#clientClosed(failure);
    up.onClose = (failure) => this.#hostClosed(failure);
  }

  /** Bytes that came before the upstream was there go the same way. Borrowed. */
  fromClient(bytes: Buffer): void {
    this.#observer.sent(bytes.length);
    if (this.#upClosed || this.#up.write(bytes) || this.#downPaused) return;
    this.#downPaused = true;
    this.#observer.paused('downstream');
    this.#down.readDisable(true);
  }

  clientEnded(): void {
    if (this.#downEnded) return;
    this.#downEnded = true;
    if (!this.#upClosed) this.#up.endWrite();
  }

  /** Ends both. */
  close(how: 'flush' | 'reset'): void {
    if (!this.#upClosed) {
      this.#up.info.localCloseReason ??= 'closing_upstream_tcp_connection_due_to_downstream_local_close';
      this.#up.close(how);
    }
    if (!this.#downClosed) this.#down.close(how);
  }

  #fromHost(bytes: Buffer): void {
    this.#observer.received(bytes.length);
    if (this.#downClosed || this.#down.write(bytes) || this.#upPaused) return;
    this.#upPaused = true;
    this.#observer.paused('upstream');
    this.#up.readDisable(true);
  }

  #hostEnded(): void {
    if (this.#upEnded) return;
    this.#upEnded = true;
    if (!this.#downClosed) this.#down.endWrite();
  }

  #resumeClient(): void {
    if (!this.#downPaused) return;
    this.#downPaused = false;
    this.#observer.resumed('downstream');
    if (!this.#downClosed) this.#down.readDisable(false);
  }

  #resumeHost(): void {
    if (!this.#upPaused) return;
    this.#upPaused = false;
    this.#observer.resumed('upstream');
    if (!this.#upClosed) this.#up.readDisable(false);
  }

  #clientClosed(failure: Failure | undefined): void {
    if (this.#downClosed) return;
    this.#downClosed = true;
    if (failure !== undefined) this.#cut ??= { side: 'downstream', failure };
    // Gone before both had ended: what the other one still says has no reader.
    if (!this.#upClosed && (failure !== undefined || !this.#downEnded || !this.#upEnded)) {
      this.#up.info.localCloseReason ??= `closing_upstream_tcp_connection_due_to_downstream_${failure === undefined ? 'remote' : 'reset'}_close`;
      this.#up.close(failure === undefined ? 'flush' : 'reset');
    }
    this.#overIfBoth();
  }

  #hostClosed(failure: Failure | undefined): void {
    if (this.#upClosed) return;
    this.#upClosed = true;
    if (failure !== undefined) this.#cut ??= { side: 'upstream', failure };
    if (!this.#downClosed && (failure !== undefined || !this.#upEnded || !this.#downEnded)) {
      this.#down.close(failure === undefined ? 'flush' : 'reset');
    }
    this.#overIfBoth();
  }

  #overIfBoth(): void {
    if (this.#downClosed && this.#upClosed) this.#observer.over(this.#cut);
  }
}
