/**
 * One stream of a connection (RFC 9113 §5.1), our half of it and what waits in either direction.
 *
 *   open ──our END_STREAM──► half-closed (local) ──theirs──► closed
 *     │ └──their END_STREAM──► half-closed (remote) ──ours──► closed
 *     └──RST_STREAM of either side, end of the connection──► closed
 */
import type { ResetReason, StreamDecoder, StreamEncoder } from '../http/codec.ts';
import type { HeaderMap, Headers, RequestHeaders, ResponseHeaders } from '../http/headers.ts';

import { HIGH_WATERMARK_BYTES, LOW_WATERMARK_BYTES } from './options.ts';
import type { Http2Sender } from './sender.ts';

const EMPTY = Buffer.alloc(0);

export class Http2Stream implements StreamEncoder {
  /** 0: client side, before its head was written. */
  id: number;
  readonly openedMs: number;
  decoder!: StreamDecoder; // Set right after construction, before any event.
  /** What we may still send. */
  sendWindow: number;
  /** Of an upgrade (CONNECT, extended or not) that was not answered yet: its bytes are for nobody. */
  held = false;
  /** What the peer may still send. */
  receiveWindow: number;
  /** What it may send in all before we say more. */
  windowSize: number;
  /** A head has come (not counting interim ones). */
  headReceived = false;
  /** END_STREAM was written. */
  localEnd = false;
  /** END_STREAM has come. */
  remoteEnd = false;
  closed = false;
  /** Body that content-length announced; −1: none did. */
  expectedBytes = -1;
  /** Client side: an answer without a body, whatever its content-length says. */
  bodiless = false;
  interimHeads = 0;
  /** `:protocol` of extended CONNECT, or of an upgrade that became one. */
  upgrade: string | undefined = undefined;
  webSocketKey: string | undefined = undefined;
  /** Waits for the peer to take what is queued, after our end. */
  flushTimer: { cancel(): void } | undefined = undefined;
  readonly #codec: Http2Sender;
  #receivedBytes = 0;
  #unacknowledged = 0;
  #queue: Buffer[] | undefined = undefined;
  #queuedBytes = 0;
  #endQueued = false;
  #trailersQueued: HeaderMap | undefined = undefined;
  #needDrain = false;
  #readHolds = 0;
  #heldInput: Buffer[] | undefined = undefined;
  #heldBytes = 0;
  #heldTrailers: Headers | undefined = undefined;
  #heldEnd = false;

  constructor(id: number, codec: Http2Sender, sendWindow: number, receiveWindow: number, nowMs: number) {
    this.id = id;
    this.#codec = codec;
    this.sendWindow = sendWindow;
    this.receiveWindow = receiveWindow;
    this.windowSize = receiveWindow;
    this.openedMs = nowMs;
  }

  get queuedBytes(): number {
    return this.#queuedBytes + this.#heldBytes;
  }

  // ── encoding ────────────────────────────────────────────────────────────────────────────────────────────────────

  encode1xx(headers: ResponseHeaders): void {
    if (!this.closed && !this.localEnd) this.#codec.writeHead(this, headers, false);
  }

  encodeHeaders(headers: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    if (this.closed || this.localEnd) return;
    this.#codec.writeHead(this, headers, endStream);
    if (endStream) this.#ended();
  }

  encodeData(chunk: Buffer, endStream: boolean): boolean {
    if (this.closed || this.localEnd || this.#endQueued) return true;
    let sent = 0;
    if (this.#queue === undefined) {
      sent = this.#codec.sendData(this, chunk, 0, endStream);
      if (sent === chunk.length && (this.localEnd || !endStream)) {
        if (endStream) this.#ended();
        return true;
      }
    }
    this.#endQueued = endStream;
    this.#enqueue(sent === 0 ? Buffer.from(chunk) : Buffer.from(chunk.subarray(sent)));
    if (this.#queuedBytes < HIGH_WATERMARK_BYTES) return true;
    this.#needDrain = true;
    return false;
  }

  encodeTrailers(trailers: HeaderMap): void {
    if (this.closed || this.localEnd || this.#endQueued) return;
    if (this.#queue !== undefined) {
      this.#endQueued = true;
      this.#trailersQueued = trailers;
      this.#awaitFlush();
      return;
    }
    this.#codec.writeTrailers(this, trailers);
    this.#ended();
  }

  reset(reason: ResetReason): void {
    if (!this.closed) this.#codec.resetStream(this, reason);
  }

  /** Sends what is queued, as far as windows allow, one frame at most. @returns whether anything left. */
  pump(): boolean {
    const queue = this.#queue;
    if (queue === undefined) return false;
    const chunk = queue[0] ?? EMPTY;
    const last = queue.length <= 1 && this.#endQueued && this.#trailersQueued === undefined;
    const sent = this.#codec.sendFrame(this, chunk, 0, last);
    if (sent === 0 && !this.localEnd && chunk.length > 0) return false;
    this.#queuedBytes -= sent;
    if (sent < chunk.length) queue[0] = chunk.subarray(sent);
    else queue.shift();
    if (queue.length === 0) {
      this.#queue = undefined;
      this.#codec.unblocked(this);
      if (this.#trailersQueued !== undefined) this.#codec.writeTrailers(this, this.#trailersQueued);
      if (this.localEnd) this.#ended();
    }
    if (this.#needDrain && this.#queuedBytes <= LOW_WATERMARK_BYTES && !this.closed) {
      this.#needDrain = false;
      this.decoder.onDrain();
    }
    return true;
  }

  #enqueue(bytes: Buffer): void {
    if (this.#queue === undefined) {
      this.#queue = [];
      this.#codec.blocked(this);
    }
    this.#queue.push(bytes);
    this.#queuedBytes += bytes.length;
    if (this.#endQueued) this.#awaitFlush();
  }

  #awaitFlush(): void {
    this.flushTimer ??= this.#codec.callbacks.flushDeadline?.(() => {
      this.#codec.statistics.txFlushTimeout.inc();
      this.reset('local reset');
    });
  }

  #ended(): void {
    this.#codec.localEnded(this);
  }

  // ── decoding ────────────────────────────────────────────────────────────────────────────────────────────────────

  readDisable(disabled: boolean): void {
    this.#readHolds += disabled ? 1 : -1;
    if (this.#readHolds === 0) this.#deliverHeld();
  }

  /** @returns false: longer than content-length said. */
  countBody(bytes: number): boolean {
    this.#receivedBytes += bytes;
    return this.expectedBytes < 0 || this.#receivedBytes <= this.expectedBytes || this.bodiless;
  }

  /** Whether the body ended where content-length said. */
  get bodyComplete(): boolean {
    return this.expectedBytes < 0 || this.#receivedBytes === this.expectedBytes || this.bodiless;
  }

  /** `flowBytes`: what counts for the window, padding included. */
  data(chunk: Buffer, flowBytes: number, endStream: boolean): void {
    if (this.#readHolds > 0 || this.#heldInput !== undefined) {
      this.#heldInput ??= [];
      if (chunk.length > 0) this.#heldInput.push(Buffer.from(chunk));
      this.#heldBytes += flowBytes;
      this.#heldEnd = endStream;
      return;
    }
    if (!endStream) this.#consumed(flowBytes);
    this.decoder.decodeData(chunk, endStream);
  }

  trailers(trailers: Headers): void {
    if (this.#readHolds > 0 || this.#heldInput !== undefined) this.#heldTrailers = trailers;
    else this.decoder.decodeTrailers(trailers);
  }

  /** Nothing waits to be delivered any more. */
  dropHeld(): void {
    this.#heldInput = undefined;
    this.#heldTrailers = undefined;
    this.#heldEnd = false;
    this.#queue = undefined;
    this.flushTimer?.cancel();
  }

  #deliverHeld(): void {
    const input = this.#heldInput;
    if (input !== undefined) {
      if (!this.#heldEnd && !this.closed) this.#consumed(this.#heldBytes);
      this.#heldBytes = 0;
      while (input.length > 0) {
        const chunk = input.shift() as Buffer;
        const last = this.#heldEnd && input.length === 0;
        if (last) this.#heldEnd = false;
        this.decoder.decodeData(chunk, last);
        if (this.#readHolds > 0) return;
      }
      this.#heldInput = undefined;
      if (this.#heldEnd) {
        this.#heldEnd = false;
        this.decoder.decodeData(EMPTY, true);
      }
    }
    const trailers = this.#heldTrailers;
    if (trailers === undefined) return;
    this.#heldTrailers = undefined;
    this.decoder.decodeTrailers(trailers);
  }

  /** Gives the window back once half of it is used. */
  #consumed(bytes: number): void {
    this.#unacknowledged += bytes;
    if (this.#unacknowledged * 2 < this.windowSize || this.remoteEnd || this.closed) return;
    const grown = this.#codec.growWindow(this);
    this.#codec.giveWindow(this, this.#unacknowledged + grown);
    this.#unacknowledged = 0;
  }
}
