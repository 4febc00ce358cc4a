/** The contract of the HTTP codecs: bytes to events and back. No socket, timer, filter or configuration in here. */
import type { Headers, HeaderMap, RequestHeaders, ResponseHeaders } from './headers.ts';

/** Why a stream ended before its time. Envoy: envoy/http/codec.h StreamResetReason. */
export type ResetReason =
  | 'local reset'
  | 'local refused stream reset'
  | 'remote reset'
  | 'remote refused stream reset'
  | 'connection failure'
  | 'connection timeout'
  | 'connection termination'
  | 'overflow'
  | 'protocol error'
  | 'connect error'
  | 'overload manager';

/** A peer's fault, as a value. The server side answers `status` (0: nothing to answer), then closes. */
export class CodecError {
  /** 400, 408, 413, 414, 426, 431, 501 …; 0 where no answer is possible. */
  readonly status: number;
  /** Envoy's response code details, e.g. `http1.codec_error`, `http1.content_length_and_chunked`. */
  readonly details: string;
  readonly message: string;
  constructor(status: number, details: string, message: string) {
    this.status = status;
    this.details = details;
    this.message = message;
  }
}

/** Bytes to events and back. */
export interface Codec {
  /**
   * A peer's fault comes back as a value; nothing is thrown. `bytes` are borrowed. The result object may be reused
   * by the next call. Leftover bytes (pipelining while a response is open, after an upgrade) stay with the caller, who
   * offers them again.
   */
  dispatch(bytes: Buffer): DispatchResult | CodecError;
  onEndOfInput(): CodecError | undefined;
  /** Upstream side. undefined: no stream may open now. */
  newStream(decoder: StreamDecoder): StreamEncoder | undefined;
  goAway(): void;
}

export interface DispatchResult {
  consumed: number;
}

/** Given to a codec at construction. */
export interface CodecCallbacks {
  /** Server side: a request begins. */
  newStream?(encoder: StreamEncoder): StreamDecoder;
  onGoAway(lastStreamId: number): void;
  onSettings(maxConcurrentStreams: number): void;
  /** @returns false above the connection's high watermark. */
  write(bytes: Buffer | string): boolean;
  /** Counted: a stream wants reading to stop or go on (HTTP/1.1: the connection's). */
  readDisable(disabled: boolean): void;
  /** HTTP/1.1: request and response are both complete; `mustClose`: the connection cannot serve another. */
  onMessageComplete(mustClose: boolean): void;
  /** HTTP/1.1: bytes that were left with the caller would be taken now (an upgrade was answered). */
  onInputWanted(): void;
  /** HTTP/1.1, upstream: our half of a tunnel is over; the other goes on. */
  endWrite?(): void;
  /** HTTP/1.1: a stream was reset by our side, which only closing can say. */
  onLocalReset(): void;
}

/** Receives what a codec decodes. `headers` is RequestHeaders on the server side, ResponseHeaders on the client side. */
export interface StreamDecoder {
  decode1xx(headers: ResponseHeaders): void;
  decodeHeaders(headers: RequestHeaders | ResponseHeaders, endStream: boolean): void;
  /** `chunk` is borrowed until this returns. */
  decodeData(chunk: Buffer, endStream: boolean): void;
  decodeTrailers(trailers: Headers): void;
  onReset(reason: ResetReason): void;
  /** The encoder's queue is below the low watermark again. */
  onDrain(): void;
}

export interface StreamEncoder {
  encode1xx(headers: ResponseHeaders): void;
  encodeHeaders(headers: RequestHeaders | ResponseHeaders, endStream: boolean): void;
  /** `chunk` is borrowed until this returns. @returns false above the high watermark: wait for `onDrain`. */
  encodeData(chunk: Buffer, endStream: boolean): boolean;
  encodeTrailers(trailers: HeaderMap): void;
  reset(reason: ResetReason): void;
  readDisable(disabled: boolean): void;
  /** What the peer does not take yet, or nobody has read of it; HTTP/1.1 leaves it to the connection. */
  readonly queuedBytes?: number;
}
