/** One downstream HTTP connection: its codec, its streams, its timeouts, its end. */
import type { Failure } from '../failures.ts';
import { Http1ServerCodec } from '../http1/server_codec.ts';
import type { ByteStream } from '../net/byte_stream.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import { Deadline } from '../net/deadlines.ts';
import type { ConnectionOwner } from '../net/network_filter.ts';
import { type CodecCallbacks, CodecError, type StreamDecoder, type StreamEncoder } from './codec.ts';
import type { ConnectionManagerRuntime, ConnectionManagerStatistics } from './connection_manager_runtime.ts';
import type { InternalRequest, InternalResponse } from './filter.ts';
import { HttpStream, type StreamHost } from './stream.ts';
import { StreamInfo } from './stream_info.ts';

/** How long a closing connection may go on sending before it is cut: time for the peer to read our answer. */
const DELAYED_CLOSE_MS = 1000;

const REASONS: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  408: 'Request Timeout',
  413: 'Payload Too Large',
  414: 'URI Too Long',
  426: 'Upgrade Required',
  431: 'Request Header Fields Too Large',
  501: 'Not Implemented',
};

export class HttpConnection implements ConnectionOwner, CodecCallbacks, StreamHost {
  readonly info: ConnectionInfo;
  onClosed: (() => void) | undefined = undefined;
  readonly #runtime: () => ConnectionManagerRuntime;
  readonly #stream: ByteStream;
  readonly #codec: Http1ServerCodec;
  readonly #streams = new Set<HttpStream>();
  readonly #callCluster: StreamHost['call'];
  /** Of the configuration the connection began with: what it counted up it counts down. */
  readonly #statistics: ConnectionManagerStatistics;
  #leftover: Buffer | undefined = undefined;
  #dispatching = false;
  #draining = false;
  #closing = false;
  #closed = false;
  #requests = 0;
  #idle: Deadline | undefined = undefined;
  #headers: Deadline | undefined = undefined;
  #max: Deadline | undefined = undefined;

  /** `runtime` answers the newest configuration: each new stream uses it. */
  constructor(stream: ByteStream, runtime: () => ConnectionManagerRuntime, callCluster: StreamHost['call']) {
    this.#stream = stream;
    this.#runtime = runtime;
    this.#callCluster = callCluster;
    this.info = stream.info;
    const { config, statistics, connectionMax } = runtime();
    this.#statistics = statistics;
    this.#codec = new Http1ServerCodec(this, {
      maxHeadBytes: config.maxRequestHeadBytes,
      maxHeaderCount: config.maxHeadersCount,
      acceptHttp10: config.acceptHttp10,
      defaultHostForHttp10: config.defaultHostForHttp10,
    });
    statistics.cxTotal.inc();
    statistics.cxActive.inc();
    statistics.cxHttp1Total.inc();
    statistics.cxHttp1Active.inc();
    stream.onData = (bytes) => this.#received(bytes);
    stream.onEnd = () => this.#peerEnded();
    stream.onClose = () => this.#ended();
    stream.onDrain = () => {
      for (const open of this.#streams) open.onDrain();
    };
    this.#armIdle();
    if (connectionMax !== undefined) {
      this.#max = new Deadline(() => {
        statistics.cxMaxDurationReached.inc();
        this.drain();
      });
      connectionMax.arm(this.#max);
    }
  }

  get activeCount(): number {
    return this.#streams.size;
  }

  drain(): void {
    this.#draining = true;
    if (this.#streams.size === 0) this.#close();
  }

  destroy(): void {
    this.#closing = true;
    this.#stream.close('reset');
  }

  // ── from the codec ──────────────────────────────────────────────────────────────────────────────────────────────

  newStream(encoder: StreamEncoder): StreamDecoder {
    this.#headers?.cancel();
    this.#requests++;
    const stream = new HttpStream(this, this.#runtime(), encoder);
    this.#streams.add(stream);
    return stream;
  }

  onGoAway(): void {}

  onSettings(): void {}

  write(bytes: Buffer | string): boolean {
    return this.#stream.write(bytes);
  }

  readDisable(disabled: boolean): void {
    this.#stream.readDisable(disabled);
  }

  onInputWanted(): void {
    if (!this.#dispatching) this.#dispatchLeftover();
  }

  onLocalReset(): void {
    this.#closing = true;
    this.#stream.close('reset');
  }

  onMessageComplete(mustClose: boolean): void {
    if (mustClose) this.#close();
    else if (!this.#dispatching && this.#leftover !== undefined) this.#dispatchLeftover();
  }

  // ── from streams ────────────────────────────────────────────────────────────────────────────────────────────────

  shouldClose(): boolean {
    if (this.#draining) {
      this.#runtime().statistics.cxDrainClose.inc();
      return true;
    }
    const { maxRequestsPerConnection } = this.#runtime().config;
    if (maxRequestsPerConnection === 0 || this.#requests < maxRequestsPerConnection) return false;
    this.#runtime().statistics.cxMaxRequestsReached.inc();
    return true;
  }

  closeAfterResponse(): void {
    this.#codec.closeAfterResponse = true;
  }

  streamEnded(stream: HttpStream): void {
    this.#streams.delete(stream);
    if (this.#streams.size === 0 && !this.#closing) this.#armIdle();
  }

  call(cluster: string, request: InternalRequest, signal: AbortSignal): Promise<InternalResponse> {
    return this.#callCluster(cluster, request, signal);
  }

  // ── from the byte stream ────────────────────────────────────────────────────────────────────────────────────────

  #received(bytes: Buffer): void {
    if (this.#closing) return;
    if (this.#leftover !== undefined) {
      // Reading is paused while something is left over; what was on its way joins it.
      this.#leftover = Buffer.concat([this.#leftover, bytes]);
      return;
    }
    this.#dispatch(bytes);
  }

  #dispatch(bytes: Buffer): void {
    this.#dispatching = true;
    const result = this.#codec.dispatch(bytes);
    this.#dispatching = false;
    if (result instanceof CodecError) return this.#protocolError(result);
    if (this.#closing) return;
    const { consumed } = result;
    if (consumed < bytes.length) {
      if (this.#leftover === undefined) this.#stream.readDisable(true);
      this.#leftover = Buffer.from(bytes.subarray(consumed));
      // The response may have ended while we were dispatching.
      if (this.#streams.size === 0 && this.#codec.canDispatch) this.#dispatchLeftover();
    } else {
      if (this.#leftover !== undefined) {
        this.#leftover = undefined;
        this.#stream.readDisable(false);
      }
      if (this.#streams.size === 0) this.#awaitHeaders();
    }
  }

  #dispatchLeftover(): void {
    const bytes = this.#leftover;
    if (bytes !== undefined) this.#dispatch(bytes);
  }

  /** A head has begun and is not complete. */
  #awaitHeaders(): void {
    const { headersTimeout, statistics } = this.#runtime();
    if (headersTimeout === undefined || this.#headers?.armed === true || !this.#codec.hasPartialHead) return;
    this.#headers ??= new Deadline(() => {
      statistics.rqHeaderTimeout.inc();
      this.#protocolError(new CodecError(408, 'request_header_timeout', 'request header timeout'));
    });
    headersTimeout.arm(this.#headers);
  }

  #protocolError(error: CodecError): void {
    const { statistics } = this.#runtime();
    statistics.cxProtocolError.inc();
    this.info.terminationDetails = error.message;
    let answered = false;
    for (const stream of [...this.#streams]) {
      stream.rejectRequest(error.status, error.details);
      answered = true;
    }
    if (!answered && error.status !== 0) this.#answerUnparsed(error);
    this.#close();
  }

  /** No stream has begun: the answer is written as it stands, and logged. */
  #answerUnparsed(error: CodecError): void {
    const { config, statistics, accessLogs, nowMs } = this.#runtime();
    const reason = REASONS[error.status] ?? 'Bad Request';
    const info = new StreamInfo(this.info, Date.now(), nowMs());
    // Envoy's words: a request without a host gets none.
    const body = error.details === 'missing_host_header' ? '' : reason;
    this.#stream.write(
      `HTTP/1.1 ${error.status} ${reason}\r\ncontent-length: ${body.length}\r\n${body === '' ? '' : 'content-type: text/plain\r\n'}date: ${new Date(info.startTimeMs).toUTCString()}\r\nserver: ${config.serverName}\r\nconnection: close\r\n\r\n${body}`,
    );
    info.responseCode = error.status;
    info.responseCodeDetails = error.details;
    info.bytesSent = body.length;
    info.addFlag('DPE');
    info.endMs = nowMs();
    statistics.rqClass[(error.status / 100) | 0]?.inc();
    for (const log of accessLogs) {
      log.log({ info, requestHeaders: undefined, responseHeaders: undefined, responseTrailers: undefined });
    }
  }

  #peerEnded(): void {
    if (!this.#closing) {
      this.#codec.onEndOfInput();
      this.#resetStreams();
    }
    this.#closing = true;
    this.#stream.close('flush');
  }

  #resetStreams(): void {
    if (this.#streams.size === 0) return;
    this.#runtime().statistics.cxDestroyRemoteActive.inc();
    for (const stream of [...this.#streams]) stream.onReset('connection termination');
  }

  /** Sends what is queued and the end; what still comes is ignored, and after a second the rest is cut. */
  #close(): void {
    if (this.#closing) return;
    this.#closing = true;
    this.#idle?.cancel();
    this.#headers?.cancel();
    if (this.#leftover !== undefined) {
      this.#leftover = undefined;
      this.#stream.readDisable(false);
    }
    this.#stream.endWrite();
    this.#runtime()
      .deadlines.list(DELAYED_CLOSE_MS)
      .arm(
        new Deadline(() => {
          if (!this.#closed) this.#stream.close('reset');
        }),
      );
  }

  #ended(_failure?: Failure): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closing = true;
    this.#resetStreams();
    this.#idle?.cancel();
    this.#headers?.cancel();
    this.#max?.cancel();
    this.#statistics.cxActive.dec();
    this.#statistics.cxHttp1Active.dec();
    this.#statistics.cxDestroy.inc();
    this.onClosed?.();
  }

  #armIdle(): void {
    const { connectionIdle, statistics } = this.#runtime();
    if (connectionIdle === undefined) return;
    this.#idle ??= new Deadline(() => {
      if (this.#streams.size > 0) return;
      statistics.cxIdleTimeout.inc();
      this.#close();
    });
    connectionIdle.arm(this.#idle);
  }
}
