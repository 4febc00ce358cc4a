/** A connection manager on one data thread: its filters, counters and timeouts, made once per configuration. */
import { failures } from '../failures.ts';
import { Http2Statistics } from '../http2/statistics.ts';
import type { Counter, Gauge, Histogram, Statistics } from '../telemetry/statistics.ts';
import { type RequestTracer, tracingCounters } from '../telemetry/tracing/request_tracer.ts';
import type { AccessLog } from '../telemetry/access_log.ts';
import type { RouteTable } from '../router/route.ts';
import type { LoadShedPoint } from '../overload/overload_config.ts';
import type { ScaledTimer } from '../overload/scaled_timers.ts';
import type { DeadlineList, Deadlines } from '../net/deadlines.ts';
import type { ConnectionManagerConfig } from './connection_manager_config.ts';
import type { Filter } from './filter.ts';
import type { RequestHeaders } from './headers.ts';
import type { FilterSlot } from './filter_pass.ts';
import type { PreparedRequest } from './prepare_request.ts';
import type { StreamInfo } from './stream_info.ts';
import type { TerminalFilter } from './terminal.ts';

export interface NamedFilter {
  readonly name: string;
  readonly disabled: boolean;
  readonly filter: Filter<unknown>;
}

export class ConnectionManagerRuntime {
  readonly config: ConnectionManagerConfig;
  readonly terminal: TerminalFilter;
  readonly decodeSlots: readonly FilterSlot[];
  readonly encodeSlots: readonly FilterSlot[];
  /** Every slot, in configured order. */
  readonly slots: readonly FilterSlot[];
  readonly hasStates: boolean;
  /** Whether a filter is off by default. */
  readonly hasDisabled: boolean;
  readonly accessLogs: readonly AccessLog[];
  readonly tracer: RequestTracer | undefined;
  readonly statistics: ConnectionManagerStatistics;
  /** Of all connection managers of the process, as Envoy's. */
  readonly http2Statistics: Http2Statistics;
  readonly streamIdle: DeadlineList | undefined;
  readonly requestTimeout: DeadlineList | undefined;
  readonly headersTimeout: DeadlineList | undefined;
  readonly connectionIdle: DeadlineList | undefined;
  readonly connectionMax: DeadlineList | undefined;
  readonly streamMax: DeadlineList | undefined;
  readonly deadlines: Deadlines;
  readonly routes: (request: RequestHeaders) => RouteTable | undefined;
  /** Whether the response at hand should be its connection's last. */
  readonly drains: () => boolean;
  /** Whether a new request is refused because there is too much to do. */
  readonly sheds: () => boolean;
  readonly shedsAt: (point: LoadShedPoint) => boolean;
  readonly random: () => number;
  readonly nowMs: () => number;
  /** A hook threw: logged, never fatal. */
  readonly onFilterError: (filter: string, error: unknown) => void;

  constructor(options: {
    config: ConnectionManagerConfig;
    filters: readonly NamedFilter[];
    terminal: TerminalFilter;
    accessLogs: readonly AccessLog[];
    tracer?: RequestTracer | undefined;
    statistics: Statistics;
    /** `listener.<address>` */
    listenerStatPrefix: string;
    deadlines: Deadlines;
    routes: (request: RequestHeaders) => RouteTable | undefined;
    drains: () => boolean;
    sheds: () => boolean;
    shedsAt: (point: LoadShedPoint) => boolean;
    random: () => number;
    nowMs: () => number;
    onFilterError: (filter: string, error: unknown) => void;
  }) {
    const { config, deadlines } = options;
    this.config = config;
    this.terminal = options.terminal;
    this.slots = options.filters.map(({ filter, name, disabled }, stateIndex) => ({
      filter,
      name,
      stateIndex,
      disabled,
    }));
    this.hasDisabled = this.slots.some(({ disabled }) => disabled);
    this.decodeSlots = this.slots.filter(
      ({ filter }) => filter.decodeHeaders ?? filter.decodeData ?? filter.decodeTrailers,
    );
    this.encodeSlots = this.slots
      .filter(({ filter }) => filter.encodeHeaders ?? filter.encodeData ?? filter.encodeTrailers)
      .reverse();
    this.hasStates = options.filters.some(({ filter }) => filter.newState !== undefined);
    this.accessLogs = options.accessLogs;
    this.tracer = options.tracer;
    this.statistics = new ConnectionManagerStatistics(
      options.statistics,
      `http.${config.statPrefix}`,
      options.listenerStatPrefix,
    );
    this.http2Statistics = new Http2Statistics(options.statistics, 'http2');
    const scaled = (kind: ScaledTimer, ms: number): DeadlineList | undefined =>
      ms > 0 ? deadlines.scaled(kind, ms) : undefined;
    const list = (ms: number): DeadlineList | undefined => (ms > 0 ? deadlines.list(ms) : undefined);
    this.streamIdle = scaled('http_downstream_stream_idle', config.streamIdleTimeoutMs);
    this.requestTimeout = list(config.requestTimeoutMs);
    this.headersTimeout = list(config.requestHeadersTimeoutMs);
    this.connectionIdle = scaled('http_downstream_connection_idle', config.idleTimeoutMs);
    this.connectionMax = scaled('http_downstream_connection_max', config.maxConnectionDurationMs);
    this.streamMax = list(config.maxStreamDurationMs);
    this.deadlines = deadlines;
    this.routes = options.routes;
    this.drains = options.drains;
    this.sheds = () => {
      if (!options.sheds()) return false;
      this.statistics.rqOverloadClose.inc();
      return true;
    };
    this.shedsAt = options.shedsAt;
    this.random = options.random;
    this.nowMs = options.nowMs;
    this.onFilterError = options.onFilterError;
  }

  newStates(): unknown[] {
    const states: unknown[] = [];
    for (const { filter } of this.slots) states.push(filter.newState?.());
    return states;
  }
}

/** Of all connection managers, by codec. */
interface UnderscoreCounters {
  readonly dropped: Counter;
  readonly refused: Counter;
}

/** Envoy's names below `http.<stat_prefix>.`. */
export class ConnectionManagerStatistics {
  readonly cxTotal: Counter;
  readonly cxActive: Gauge;
  readonly cxDestroy: Counter;
  readonly cxHttp1Total: Counter;
  readonly cxHttp1Active: Gauge;
  readonly cxHttp2Total: Counter;
  readonly cxHttp2Active: Gauge;
  readonly cxIdleTimeout: Counter;
  readonly cxMaxDurationReached: Counter;
  readonly cxMaxRequestsReached: Counter;
  readonly cxDrainClose: Counter;
  readonly cxProtocolError: Counter;
  readonly cxDestroyRemoteActive: Counter;
  readonly cxDestroyLocal: Counter;
  readonly cxDestroyRemote: Counter;
  readonly cxDestroyActive: Counter;
  readonly cxLengthMs: Histogram;
  readonly cxRxBytes: Counter;
  /** Of heads and bodies, when their streams end. */
  readonly cxTxBytes: Counter;
  readonly cxSslTotal: Counter;
  readonly cxSslActive: Gauge;
  readonly rqTotal: Counter;
  readonly rqHttp1Total: Counter;
  readonly rqHttp2Total: Counter;
  readonly rqTooManyPrematureResets: Counter;
  readonly rqActive: Gauge;
  readonly rqCompleted: Counter;
  /** By status / 100; of the connection manager, and of it in this listener. */
  readonly #rqClass: readonly (Counter | undefined)[];
  readonly #listenerClass: readonly (Counter | undefined)[];
  readonly #listenerCompleted: Counter;
  readonly #underscores1: UnderscoreCounters;
  readonly #underscores2: UnderscoreCounters;
  readonly #upgradesTotal: Counter;
  readonly #upgradesActive: Gauge;
  readonly #responseBeforeRqComplete: Counter;
  readonly rqRedirectedNormalized: Counter;
  readonly rqResetAfterResponseStarted: Counter;
  readonly cxDelayedCloseTimeout: Counter;
  readonly cxDestroyLocalActive: Counter;
  readonly #flowPaused: Counter;
  readonly #flowResumed: Counter;
  readonly rqTime: Histogram;
  readonly rqRxReset: Counter;
  readonly rqTxReset: Counter;
  readonly rqTimeout: Counter;
  readonly rqHeaderTimeout: Counter;
  readonly rqIdleTimeout: Counter;
  readonly rqMaxDurationReached: Counter;
  /** Refused, with its connection or alone, because there is too much to do. */
  readonly rqOverloadClose: Counter;
  readonly rqTooLarge: Counter;
  readonly rsTooLarge: Counter;
  readonly rqWsOnNonWsRoute: Counter;
  readonly rqNonRelativePath: Counter;
  readonly rqFailedPathNormalization: Counter;
  readonly filterException: Counter;

  /** `listener`: what stands before the listener's own. */
  constructor(statistics: Statistics, prefix: string, listener: string) {
    const counter = (name: string): Counter => statistics.counter(`${prefix}.${name}`);
    this.cxTotal = counter('downstream_cx_total');
    this.cxActive = statistics.gauge(`${prefix}.downstream_cx_active`);
    this.cxDestroy = counter('downstream_cx_destroy');
    this.cxHttp1Total = counter('downstream_cx_http1_total');
    this.cxHttp1Active = statistics.gauge(`${prefix}.downstream_cx_http1_active`);
    this.cxHttp2Total = counter('downstream_cx_http2_total');
    this.cxHttp2Active = statistics.gauge(`${prefix}.downstream_cx_http2_active`);
    this.cxIdleTimeout = counter('downstream_cx_idle_timeout');
    this.cxMaxDurationReached = counter('downstream_cx_max_duration_reached');
    this.cxMaxRequestsReached = counter('downstream_cx_max_requests_reached');
    this.cxDrainClose = counter('downstream_cx_drain_close');
    this.cxProtocolError = counter('downstream_cx_protocol_error');
    this.cxDestroyRemoteActive = counter('downstream_cx_destroy_remote_active_rq');
    this.cxDestroyLocal = counter('downstream_cx_destroy_local');
    this.cxDestroyRemote = counter('downstream_cx_destroy_remote');
    this.cxDestroyActive = counter('downstream_cx_destroy_active_rq');
    this.cxLengthMs = statistics.histogram(`${prefix}.downstream_cx_length_ms`);
    this.cxRxBytes = counter('downstream_cx_rx_bytes_total');
    this.cxTxBytes = counter('downstream_cx_tx_bytes_total');
    this.cxSslTotal = counter('downstream_cx_ssl_total');
    this.cxSslActive = statistics.gauge(`${prefix}.downstream_cx_ssl_active`);
    this.rqTotal = counter('downstream_rq_total');
    this.rqHttp1Total = counter('downstream_rq_http1_total');
    this.rqHttp2Total = counter('downstream_rq_http2_total');
    this.rqTooManyPrematureResets = counter('downstream_rq_too_many_premature_resets');
    this.rqActive = statistics.gauge(`${prefix}.downstream_rq_active`);
    this.rqCompleted = counter('downstream_rq_completed');
    const classes = (place: string): (Counter | undefined)[] => [
      undefined,
      ...[1, 2, 3, 4, 5].map((digit) => statistics.counter(`${place}.downstream_rq_${digit}xx`)),
    ];
    const here = `${listener}.${prefix}`;
    this.#rqClass = classes(prefix);
    this.#listenerClass = classes(here);
    this.#listenerCompleted = statistics.counter(`${here}.downstream_rq_completed`);
    tracingCounters(statistics, prefix);
    const underscores = (codec: 'http1' | 'http2'): UnderscoreCounters => ({
      dropped: statistics.counter(`${codec}.dropped_headers_with_underscores`),
      refused: statistics.counter(`${codec}.requests_rejected_with_underscores_in_headers`),
    });
    this.#underscores1 = underscores('http1');
    this.#underscores2 = underscores('http2');
    this.#upgradesTotal = counter('downstream_cx_upgrades_total');
    this.#upgradesActive = statistics.gauge(`${prefix}.downstream_cx_upgrades_active`);
    this.#responseBeforeRqComplete = counter('downstream_rq_response_before_rq_complete');
    this.rqRedirectedNormalized = counter('downstream_rq_redirected_with_normalized_path');
    this.rqResetAfterResponseStarted = counter('rq_reset_after_downstream_response_started');
    this.cxDelayedCloseTimeout = counter('downstream_cx_delayed_close_timeout');
    this.cxDestroyLocalActive = counter('downstream_cx_destroy_local_active_rq');
    this.#flowPaused = counter('downstream_flow_control_paused_reading_total');
    this.#flowResumed = counter('downstream_flow_control_resumed_reading_total');
    this.rqTime = statistics.histogram(`${prefix}.downstream_rq_time`);
    this.rqRxReset = counter('downstream_rq_rx_reset');
    this.rqTxReset = counter('downstream_rq_tx_reset');
    this.rqTimeout = counter('downstream_rq_timeout');
    this.rqHeaderTimeout = counter('downstream_rq_header_timeout');
    this.rqIdleTimeout = counter('downstream_rq_idle_timeout');
    this.rqMaxDurationReached = counter('downstream_rq_max_duration_reached');
    this.rqOverloadClose = counter('downstream_rq_overload_close');
    this.rqTooLarge = counter('downstream_rq_too_large');
    this.rsTooLarge = counter('rs_too_large');
    this.rqWsOnNonWsRoute = counter('downstream_rq_ws_on_non_ws_route');
    this.rqNonRelativePath = counter('downstream_rq_non_relative_path');
    this.rqFailedPathNormalization = counter('downstream_rq_failed_path_normalization');
    this.filterException = counter('filter_exception');
  }

  streamBegun(isHttp2: boolean): void {
    this.rqTotal.inc();
    this.rqActive.inc();
    (isHttp2 ? this.rqHttp2Total : this.rqHttp1Total).inc();
  }

  /** headers_with_underscores_action: the request is refused, or goes on without these fields. */
  underscored({ failure, underscores }: PreparedRequest, isHttp2: boolean): void {
    const { refused, dropped } = isHttp2 ? this.#underscores2 : this.#underscores1;
    if (failure === failures.underscoreRejected) refused.inc();
    else dropped.add(underscores);
  }

  /** A response's head goes out. */
  answered(status: number): void {
    const digit = (status / 100) | 0;
    this.#rqClass[digit]?.inc();
    this.#listenerClass[digit]?.inc();
  }

  upgraded(info: StreamInfo): void {
    info.upgraded = true;
    this.#upgradesTotal.inc();
    this.#upgradesActive.inc();
  }

  /** Reading of requests stops until the upstream has taken what was read, or goes on. */
  readingPaused(paused: boolean): void {
    (paused ? this.#flowPaused : this.#flowResumed).inc();
  }

  /** Once a stream. */
  streamEnded(info: StreamInfo, requestComplete: boolean): void {
    this.cxTxBytes.add(info.headerBytesSent + info.bytesSent);
    this.rqActive.dec();
    this.rqCompleted.inc();
    this.#listenerCompleted.inc();
    this.rqTime.record(info.endMs - info.startMs);
    if (info.upgraded) this.#upgradesActive.dec();
    if (!requestComplete && info.responseCode !== 0) this.#responseBeforeRqComplete.inc();
  }
}
