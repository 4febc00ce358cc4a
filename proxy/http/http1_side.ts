/** What serves HTTP/1.1 on a downstream connection: one request after the other, the bytes of the next ones kept back. */
import { Http1ServerCodec } from '../http1/server_codec.ts';
import { Deadline } from '../net/deadlines.ts';
import { type CodecCallbacks, CodecError, type StreamDecoder, type StreamEncoder } from './codec.ts';
import type { HttpConnection, HttpSide } from './connection_manager.ts';
import { StreamInfo } from './stream_info.ts';

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  413: 'Payload Too Large',
  414: 'URI Too Long',
  426: 'Upgrade Required',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  501: 'Not Implemented',
};

export class Http1Side implements HttpSide, CodecCallbacks {
  readonly #connection: HttpConnection;
  readonly #codec: Http1ServerCodec;
  #leftover: Buffer | undefined = undefined;
  #dispatching = false;
  #headers: Deadline | undefined = undefined;

  constructor(connection: HttpConnection) {
    this.#connection = connection;
    const { config, statistics } = connection.runtime();
    this.#codec = new Http1ServerCodec(this, {
      maxHeadBytes: config.maxRequestHeadBytes,
      maxHeaderCount: config.maxHeadersCount,
      acceptHttp10: config.acceptHttp10,
      defaultHostForHttp10: config.defaultHostForHttp10,
    });
    statistics.cxHttp1Total.inc();
    statistics.cxHttp1Active.inc();
  }

  // ── from the connection ─────────────────────────────────────────────────────────────────────────────────────────

  received(bytes: Buffer): void {
    if (this.#leftover !== undefined) {
      // Reading is paused while something is left over; what was on its way joins it.
      this.#leftover = Buffer.concat([this.#leftover, bytes]);
      return;
    }
    this.#dispatch(bytes);
  }

  inputEnded(): boolean {
    if (this.#codec.endTunnel()) return true;
    this.#codec.onEndOfInput();
    return false;
  }

  drained(): void {
    this.#connection.drainStreams();
  }

  /** Answers say so from now on; without a request in progress there is nobody to tell. */
  drain(): void {
    if (this.#connection.activeCount === 0) this.#connection.closeWhenQuiet();
  }

  closeAfterResponse(): void {
    this.#codec.closeAfterResponse = true;
  }

  closing(): void {
    this.#headers?.cancel();
    if (this.#leftover !== undefined) {
      this.#leftover = undefined;
      this.#connection.stream.readDisable(false);
    }
  }

  ended(): void {
    this.#headers?.cancel();
    this.#connection.statistics.cxHttp1Active.dec();
  }

  // ── from the codec ──────────────────────────────────────────────────────────────────────────────────────────────

  newStream(encoder: StreamEncoder): StreamDecoder {
    this.#headers?.cancel();
    return this.#connection.newStream(encoder, 'HTTP/1.1');
  }

  onGoAway(): void {}

  onSettings(): void {}

  write(bytes: Buffer | string): boolean {
    return this.#connection.stream.write(bytes);
  }

  readDisable(disabled: boolean): void {
    this.#connection.runtime().statistics.readingPaused(disabled);
    this.#connection.stream.readDisable(disabled);
  }

  onInputWanted(): void {
    if (!this.#dispatching) this.#dispatchLeftover();
  }

  onLocalReset(): void {
    this.#connection.destroy();
  }

  onMessageComplete(mustClose: boolean): void {
    if (mustClose) this.#connection.close();
    else if (!this.#dispatching && this.#leftover !== undefined) this.#dispatchLeftover();
  }

  // ── inside ──────────────────────────────────────────────────────────────────────────────────────────────────────

  #dispatch(bytes: Buffer): void {
    const { shedsAt, statistics } = this.#connection.runtime();
    if (this.#connection.activeCount === 0 && shedsAt('http1_server_abort_dispatch')) {
      statistics.rqOverloadClose.inc();
      this.#answerUnparsed(new CodecError(500, 'overload', 'envoy overloaded'));
      return this.#connection.close();
    }
    this.#dispatching = true;
    const result = this.#codec.dispatch(bytes);
    this.#dispatching = false;
    if (result instanceof CodecError) return this.#protocolError(result);
    if (this.#connection.isClosing) return;
    const { consumed } = result;
    if (consumed < bytes.length) {
      if (this.#leftover === undefined) this.#connection.stream.readDisable(true);
      this.#leftover = Buffer.from(bytes.subarray(consumed));
      // The response may have ended while we were dispatching.
      if (this.#connection.activeCount === 0 && this.#codec.canDispatch) this.#dispatchLeftover();
    } else {
      if (this.#leftover !== undefined) {
        this.#leftover = undefined;
        this.#connection.stream.readDisable(false);
      }
      if (this.#connection.activeCount === 0) this.#awaitHeaders();
    }
  }

  #dispatchLeftover(): void {
    const bytes = this.#leftover;
    if (bytes !== undefined) this.#dispatch(bytes);
  }

  /** A head has begun and is not complete. */
  #awaitHeaders(): void {
    const { headersTimeout, statistics } = this.#connection.runtime();
    if (headersTimeout === undefined || this.#headers?.armed === true || !this.#codec.hasPartialHead) return;
    this.#headers ??= new Deadline(() => {
      statistics.rqHeaderTimeout.inc();
      this.#protocolError(new CodecError(408, 'request_header_timeout', 'request header timeout'));
    });
    headersTimeout.arm(this.#headers);
  }

  #protocolError(error: CodecError): void {
    const { statistics } = this.#connection.runtime();
    statistics.cxProtocolError.inc();
    this.#connection.info.terminationDetails = error.message;
    let answered = false;
    for (const stream of this.#connection.openStreams()) {
      stream.rejectRequest(error.status, error.details);
      answered = true;
    }
    if (!answered && error.status !== 0) this.#answerUnparsed(error);
    this.#connection.close();
  }

  /** No stream has begun: the answer is written as it stands, and logged. */
  #answerUnparsed(error: CodecError): void {
    const { config, statistics, accessLogs, nowMs } = this.#connection.runtime();
    const reason = REASONS[error.status] ?? 'Bad Request';
    const info = new StreamInfo(this.#connection.info, Date.now(), nowMs());
    // Envoy's words: a request without a host gets none.
    const body = error.details === 'missing_host_header' ? '' : reason;
    this.#connection.stream.write(
      `HTTP/1.1 ${error.status} ${reason}\r\ncontent-length: ${body.length}\r\n${body === '' ? '' : 'content-type: text/plain\r\n'}date: ${new Date(info.startTimeMs).toUTCString()}\r\nserver: ${config.serverName}\r\nconnection: close\r\n\r\n${body}`,
    );
    info.responseCode = error.status;
    info.responseCodeDetails = error.details;
    info.bytesSent = body.length;
    info.addFlag('DPE');
    info.endMs = nowMs();
    statistics.answered(error.status);
    for (const log of accessLogs) {
      log.log({ info, requestHeaders: undefined, responseHeaders: undefined, responseTrailers: undefined });
    }
  }
}
