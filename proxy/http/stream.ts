/**
 * One request and its response, from the codec through the filters to the terminal filter and back.
 *
 *   codec ─decodeHeaders/Data/Trailers─► decode pass ─► sink (router)
 *   codec ◄─encodeHeaders/Data/Trailers─ encode pass ◄─ respondHeaders/Data/Trailers, or a local reply
 *
 * It ends once: after the response's last byte, or with a reset from either side. Then every filter's onDestroy runs
 * and the access log is written.
 */
import { STATUS_CODES } from 'node:http';
import { failures, type Failure, type ResponseFlag } from '../failures.ts';
import { Deadline } from '../net/deadlines.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import type { Route, RouteTable } from '../router/route.ts';
import { timedMatch } from '../router/timed_match.ts';
import type { ResetReason, StreamDecoder, StreamEncoder } from './codec.ts';
import type { ConnectionManagerRuntime } from './connection_manager_runtime.ts';
import { activeSlots, choosesSame } from './chosen_filters.ts';
import type { FilterTimer, InternalRequest, InternalResponse, RoutesOnDemand } from './filter.ts';
import { endFilters, FilterPass, type FilterSlot, type PassOwner } from './filter_pass.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from './headers.ts';
import { interimHead } from './local_reply.ts';
import { type PlainReply, replyOf } from './local_reply_config.ts';
import type { Linked } from './open_streams.ts';
import { prepareRequest, requestIdOf, takesExpectation } from './prepare_request.ts';
import { prepareResponse } from './prepare_response.ts';
import type { RequestSpan } from '../telemetry/tracing/request_tracer.ts';
import type { StreamHost } from './stream_host.ts';
import { StreamTimers } from './stream_timers.ts';
import { StreamInfo } from './stream_info.ts';
import type { RequestSink, TerminalContext } from './terminal.ts';
import { mayUpgrade } from './upgrade_rules.ts';

const NOTHING: readonly unknown[] = [];

export class HttpStream implements StreamDecoder, TerminalContext, PassOwner, Linked<HttpStream> {
  previousOpen: HttpStream | undefined = undefined;
  nextOpen: HttpStream | undefined = undefined;
  readonly info: StreamInfo;
  readonly states: readonly unknown[];
  currentSlot: FilterSlot | undefined = undefined;
  requestHeaders!: RequestHeaders; // Set by decodeHeaders, the first event of every stream.
  responseHeaders: ResponseHeaders | undefined = undefined;
  responseTrailers: Headers | undefined = undefined;
  requestComplete = false;
  upgrade: string | undefined = undefined;
  readonly #runtime: ConnectionManagerRuntime;
  readonly #host: StreamHost;
  readonly #encoder: StreamEncoder;
  #slots: readonly FilterSlot[];
  #decodePass: FilterPass;
  #encodeSlots: readonly FilterSlot[];
  #encodePass: FilterPass | undefined = undefined;
  #sink: RequestSink | undefined = undefined;
  #table: RouteTable | undefined = undefined;
  #route: Route | undefined = undefined;
  #routeKnown = false;
  #randomValue = -1;
  #ended = false;
  #responseSent = false;
  #responseEnded = false;
  /** A reply that cannot be encoded is replaced once, by one that says so. */
  #localReplies = 0;
  #encoderFull = false;
  /** A filter waits before the request is complete. */
  #decodePaused = false;
  #abort: AbortController | undefined = undefined;
  #span: RequestSpan | undefined = undefined;
  readonly #timers: StreamTimers;

  constructor(host: StreamHost, runtime: ConnectionManagerRuntime, encoder: StreamEncoder) {
    this.#host = host;
    this.#runtime = runtime;
    this.#encoder = encoder;
    this.info = new StreamInfo(host.info, Date.now(), runtime.nowMs());
    this.states = runtime.hasStates ? runtime.newStates() : NOTHING;
    this.#slots = runtime.slots;
    this.#encodeSlots = runtime.encodeSlots;
    this.#decodePass = new FilterPass(this, true, runtime.decodeSlots, runtime.config.bufferLimitBytes);
    this.#timers = new StreamTimers(runtime, this);
  }

  get connection(): ConnectionInfo {
    return this.info.connection;
  }

  get responseStarted(): boolean {
    return this.#responseSent;
  }

  get suppressEnvoyHeaders(): boolean {
    return this.#runtime.config.suppressEnvoyHeaders;
  }

  get ended(): boolean {
    return this.#ended;
  }

  get heldBytes(): number {
    const passes = this.#decodePass.heldBytes + (this.#encodePass?.heldBytes ?? 0);
    return passes + (this.#sink?.heldBytes ?? 0) + (this.#encoder.queuedBytes ?? 0);
  }

  shed(): void {
    this.#host.closeAfterResponse();
    this.fail(failures.overload);
  }

  get signal(): AbortSignal {
    this.#abort ??= new AbortController();
    if (this.#ended) this.#abort.abort();
    return this.#abort.signal;
  }

  // ── from the codec ──────────────────────────────────────────────────────────────────────────────────────────────

  decode1xx(): void {}

  decodeHeaders(head: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    const headers = head as RequestHeaders;
    const { config, statistics } = this.#runtime;
    this.requestHeaders = headers;
    this.info.headReceived(headers.wireBytes, this.#runtime.nowMs());
    statistics.streamBegun(this.info.protocol === 'HTTP/2');
    if (endStream) this.#requestDone();
    this.#timers.start(endStream);
    const prepared = prepareRequest(headers, config, this.info.connection);
    this.info.requestId = requestIdOf(headers, config, this.#runtime.random);
    this.upgrade = prepared.upgrade;
    if (prepared.underscores > 0) statistics.underscored(prepared, this.info.protocol === 'HTTP/2');
    this.info.internal = prepared.internal;
    if (prepared.remoteAddress !== undefined) this.info.remoteAddress = prepared.remoteAddress;
    if (this.#runtime.sheds()) prepared.failure = failures.overload;
    if (prepared.failure !== undefined) {
      if (prepared.failure === failures.pathNormalizationFailed) statistics.rqFailedPathNormalization.inc();
      this.#host.closeAfterResponse();
      this.fail(prepared.failure);
      return;
    }
    if (prepared.redirectPath !== undefined) {
      const location = prepared.redirectPath;
      statistics.rqRedirectedNormalized.inc();
      this.sendLocalReply(307, '', 'path_normalization_redirect', '', (reply) => reply.set('location', location));
      return;
    }
    if (takesExpectation(headers, config)) this.#encoder.encode1xx(interimHead(100));
    this.#table = this.#runtime.routes(headers);
    if (this.upgrade !== undefined && !mayUpgrade(this.upgrade, this.route(), config)) {
      statistics.rqWsOnNonWsRoute.inc();
      this.#host.closeAfterResponse();
      this.fail(failures.upgradeFailed);
      return;
    }
    if (this.upgrade !== undefined) statistics.upgraded(this.info);
    this.#span = this.#runtime.tracer?.start(headers, this);
    if (this.#runtime.hasDisabled || this.#table?.switchesFilters === true) this.#chooseFilters();
    this.#decodePass.start(headers, endStream);
  }

  /** Once per stream, by the route that matches before any filter ran. */
  #chooseFilters(): void {
    const { decodeSlots, slots, config } = this.#runtime;
    this.#slots = activeSlots(slots, this.route());
    this.#encodeSlots = activeSlots(this.#runtime.encodeSlots, this.route());
    this.#decodePass = new FilterPass(this, true, activeSlots(decodeSlots, this.route()), config.bufferLimitBytes);
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#ended) return;
    this.info.bytesReceived += chunk.length;
    if (endStream) this.#requestDone();
    this.#timers.active();
    this.#decodePass.data(chunk, endStream);
  }

  decodeTrailers(trailers: Headers): void {
    if (this.#ended) return;
    this.#requestDone();
    this.#decodePass.trailers(trailers);
  }

  onReset(reason: ResetReason): void {
    if (this.#ended) return;
    if (this.info.responseCodeDetails === '') {
      const failure = reason === 'remote reset' ? failures.downstreamRemoteReset : failures.downstreamDisconnect;
      this.info.responseCodeDetails = failure.details;
    }
    this.info.addFlag(reason === 'protocol error' ? 'DPE' : reason === 'remote reset' ? 'DR' : 'DC');
    this.#runtime.statistics.rqRxReset.inc();
    this.#finish();
  }

  onDrain(): void {
    if (!this.#encoderFull || this.#ended) return;
    this.#encoderFull = false;
    this.#timers.active();
    this.#sink?.readDisable(false);
  }

  // ── from the passes ─────────────────────────────────────────────────────────────────────────────────────────────

  headersPassed(pass: FilterPass, endStream: boolean): void {
    if (pass.decoding) {
      this.#sink = this.#runtime.terminal.open(this);
      try {
        this.#sink.headers(this.requestHeaders, endStream);
      } catch (error) {
        this.#runtime.statistics.filterException.inc();
        this.#runtime.onFilterError('router', error);
        this.fail(failures.filterException);
      }
    } else this.#sendHeaders(endStream);
  }

  dataPassed(pass: FilterPass, bytes: Buffer, endStream: boolean): void {
    if (pass.decoding) {
      this.#sink?.data(bytes, endStream);
      return;
    }
    this.info.bytesSent += bytes.length;
    if (!this.#encoder.encodeData(bytes, endStream) && !endStream && !this.#encoderFull) {
      this.#encoderFull = true;
      this.#sink?.readDisable(true);
    }
    if (endStream) this.#responseDone();
  }

  trailersPassed(pass: FilterPass, trailers: Headers): void {
    if (pass.decoding) {
      this.#sink?.trailers(trailers);
      return;
    }
    this.responseTrailers = trailers;
    this.#encoder.encodeTrailers(trailers);
    this.#responseDone();
  }

  readingPaused(pass: FilterPass, paused: boolean): void {
    if (!pass.decoding) {
      this.#sink?.readDisable(paused);
      return;
    }
    // Nothing of a complete request can come any more; but that the client leaves must be seen.
    if (paused ? this.requestComplete : !this.#decodePaused) return;
    this.#decodePaused = paused;
    this.#encoder.readDisable(paused);
  }

  hookFailed(pass: FilterPass, slot: FilterSlot, error: unknown): void {
    pass.stop();
    this.#runtime.statistics.filterException.inc();
    this.#runtime.onFilterError(slot.name, error);
    this.fail(failures.filterException);
  }

  bufferFull(pass: FilterPass): void {
    if (pass.decoding) this.#runtime.statistics.rqTooLarge.inc();
    else this.#runtime.statistics.rsTooLarge.inc();
    this.fail(pass.decoding ? failures.payloadTooLarge : failures.responsePayloadTooLarge);
  }

  // ── from the terminal filter ────────────────────────────────────────────────────────────────────────────────────

  respond1xx(headers: ResponseHeaders): void {
    if (!this.#ended && !this.#responseSent) this.#encoder.encode1xx(headers);
  }

  respondHeaders(headers: ResponseHeaders, endStream: boolean): void {
    if (this.#ended || this.#encodePass !== undefined) return;
    this.responseHeaders = headers;
    // Encode filters may ask for it; a reply of the terminal filter's own has said something already.
    if (this.info.responseCodeDetails === '') this.info.responseCodeDetails = 'via_upstream';
    this.#timers.active();
    this.#encodePass = this.#newEncodePass();
    this.#encodePass.start(headers, endStream);
  }

  respondData(bytes: Buffer, endStream: boolean): void {
    if (this.#ended || this.#localReplies > 0) return;
    this.#timers.active();
    this.#encodePass?.data(bytes, endStream);
  }

  respondTrailers(trailers: Headers): void {
    if (this.#ended) return;
    this.#encodePass?.trailers(trailers);
  }

  pauseRequest(paused: boolean): void {
    if (!this.#ended) this.#encoder.readDisable(paused);
  }

  setIdleTimeout(timeoutMs: number): void {
    this.#timers.setIdle(timeoutMs);
  }

  setMaxDuration(durationMs: number): void {
    this.#timers.setMax(durationMs);
  }

  get bufferLimitBytes(): number {
    return this.#runtime.config.bufferLimitBytes;
  }

  closeAfterResponse(): void {
    this.#host.closeAfterResponse();
  }

  fail(failure: Failure, modifyHeaders?: (headers: ResponseHeaders) => void): void {
    if (this.#ended) return;
    this.info.addFlag(failure.flag);
    if (this.#responseSent) {
      this.info.responseCodeDetails = failure.details;
      this.#resetDownstream('local reset');
    } else {
      const { status, details, body, grpcStatus } = failure;
      this.#reply(details, { status, body, grpcStatus, modifyHeaders });
    }
  }

  // ── for filters ─────────────────────────────────────────────────────────────────────────────────────────────────

  route(): Route | undefined {
    if (this.#routeKnown) return this.#route;
    this.#routeKnown = true;
    // A stream pins the table it began with; later configuration is for later streams.
    this.#table ??= this.#runtime.routes(this.requestHeaders);
    this.#route = timedMatch(this.#table, this.requestHeaders, this);
    const route = this.#route;
    this.info.routed(route);
    return route;
  }

  /** For RouteContext: the same number for the life of the stream. */
  get randomValue(): number {
    if (this.#randomValue < 0) this.#randomValue = this.#runtime.random();
    return this.#randomValue;
  }

  routesOnDemand(): RoutesOnDemand | undefined {
    const slot = this.currentSlot;
    if (this.#table?.hostsOnDemand !== true) return undefined;
    const refresh = (): 'same filters' | 'other filters' => {
      this.#table = this.#runtime.routes(this.requestHeaders);
      this.clearRouteCache();
      this.currentSlot = slot;
      return choosesSame(this.#slots, this.#runtime.slots, this.route()) ? 'same filters' : 'other filters';
    };
    return { name: this.#table.name, refresh };
  }

  clearRouteCache(): void {
    this.#routeKnown = false;
    this.#route = undefined;
  }

  routeConfig<T>(): T | undefined {
    const name = this.currentSlot?.name;
    return name === undefined ? undefined : (this.route()?.filterConfig(name)?.config as T | undefined);
  }

  routeConfigs<T>(): readonly T[] {
    const name = this.currentSlot?.name;
    const found = name === undefined ? undefined : this.route()?.filterConfigs(name);
    return (found ?? NOTHING) as readonly T[];
  }

  sendLocalReply(
    status: number,
    flag: ResponseFlag,
    details: string,
    body = '',
    modifyHeaders?: (headers: ResponseHeaders) => void,
  ): 'stop' {
    if (this.#ended) return 'stop';
    this.info.addFlag(flag);
    if (this.#responseSent) this.#resetDownstream('local reset');
    else this.#reply(details, { status, body, modifyHeaders });
    return 'stop';
  }

  injectDecodedData(bytes: Buffer, endStream: boolean): void {
    if (this.currentSlot !== undefined) this.#decodePass.inject(this.currentSlot, bytes, endStream);
  }

  injectEncodedData(bytes: Buffer, endStream: boolean): void {
    if (this.currentSlot !== undefined) this.#encodePass?.inject(this.currentSlot, bytes, endStream);
  }

  addEncodedTrailers(trailers: Headers): void {
    this.#encodePass?.trailers(trailers);
  }

  call(cluster: string, request: InternalRequest): Promise<InternalResponse> {
    return this.#host.call(cluster, request, this.signal);
  }

  setTimer(delayMs: number, callback: () => void): FilterTimer {
    const slot = this.currentSlot;
    const deadline = new Deadline(() => {
      if (this.#ended) return;
      this.currentSlot = slot;
      callback();
    });
    this.#runtime.deadlines.list(Math.max(1, delayMs)).arm(deadline);
    return deadline;
  }

  // ── endings ─────────────────────────────────────────────────────────────────────────────────────────────────────

  /** The codec or the connection found a fault in the request before or within it. */
  rejectRequest(status: number, details: string): void {
    if (this.#ended) return;
    this.info.addFlag('DPE');
    if (this.#responseSent || status === 0) this.#resetDownstream('protocol error');
    else {
      this.#host.closeAfterResponse();
      this.#reply(details, { status, body: STATUS_CODES[status] ?? '' });
    }
  }

  #newEncodePass(): FilterPass {
    return new FilterPass(this, false, this.#encodeSlots, this.#runtime.config.bufferLimitBytes);
  }

  #reply(details: string, plain: PlainReply): void {
    this.#decodePass.stop();
    this.#encodePass?.stop();
    this.#sink?.abandon();
    this.#sink = undefined;
    this.#localReplies++;
    this.info.answeredHere(details, plain.body);
    const { headers, body: text } = replyOf(this.#runtime.config.localReplies, this.info, this.requestHeaders, plain);
    this.responseHeaders = headers;
    const pass = this.#newEncodePass();
    this.#encodePass = pass;
    pass.start(headers, text === '');
    if (text !== '' && !this.#ended) pass.data(Buffer.from(text), true);
  }

  #sendHeaders(endStream: boolean): void {
    const headers = this.responseHeaders as ResponseHeaders;
    const { config, statistics } = this.#runtime;
    prepareResponse(headers, config, this.info.startTimeMs, this.info.requestId);
    if (this.#host.shouldClose()) this.#host.closeAfterResponse();
    this.#responseSent = true;
    this.info.responseCode = headers.status;
    if (this.info.responseCodeDetails === '') this.info.responseCodeDetails = 'via_upstream';
    statistics.answered(headers.status);
    try {
      this.#encoder.encodeHeaders(headers, endStream);
    } catch (error) {
      // A header that would split the response: nothing was written yet, so it can still be answered.
      this.#responseSent = false;
      this.#runtime.onFilterError('response headers', error);
      if (this.#localReplies > 1) this.#resetDownstream('local reset');
      else this.fail(failures.upstreamProtocolError);
      return;
    }
    this.info.headerBytesSent = headers.wireBytes;
    if (endStream) this.#responseDone();
  }

  #requestDone(): void {
    this.requestComplete = true;
    this.info.requestCompleteMs = this.#runtime.nowMs();
    this.#timers.requestDone();
  }

  #responseDone(): void {
    this.#responseEnded = true;
    this.#finish();
  }

  #resetDownstream(reason: ResetReason): void {
    this.#runtime.statistics.rqTxReset.inc();
    const encoder = this.#encoder;
    this.#finish();
    encoder.reset(reason);
  }

  #finish(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.info.endMs = this.#runtime.nowMs();
    this.#timers.cancel();
    this.#decodePass.stop();
    if (!this.#responseEnded) this.#encodePass?.stop();
    this.#sink?.abandon();
    this.#sink = undefined;
    this.#abort?.abort();
    endFilters(this.#slots, this, this.#runtime.onFilterError);
    const { statistics, accessLogs } = this.#runtime;
    statistics.streamEnded(this.info, this.requestComplete);
    for (const log of accessLogs) log.log(this);
    this.#span?.finish(this);
    this.#host.streamEnded(this);
  }
}
