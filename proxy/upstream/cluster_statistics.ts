/** A cluster's counters on one thread, under Envoy's names (`cluster.<alt_stat_name>.…`). */
import { breakerSignal } from './circuit_breakers.ts';
import { Http2Statistics } from '../http2/statistics.ts';
import type { Counter, Gauge, Histogram, Statistics } from '../telemetry/statistics.ts';
import type { SubsetStatistics } from './subsets.ts';

export class ClusterStatistics {
  readonly cxTotal: Counter;
  readonly cxActive: Gauge;
  readonly cxHttp1Total: Counter;
  readonly cxHttp2Total: Counter;
  readonly cxConnectFail: Counter;
  readonly cxConnectTimeout: Counter;
  readonly cxConnectMs: Histogram;
  readonly cxOverflow: Counter;
  readonly cxDestroy: Counter;
  readonly cxDestroyRemote: Counter;
  readonly #cxDestroyWithActiveRq: Counter;
  readonly #cxDestroyLocalWithActiveRq: Counter;
  readonly #cxDestroyRemoteWithActiveRq: Counter;
  readonly #flowPaused: Counter;
  readonly #flowResumed: Counter;
  readonly #flowBackedUp: Counter;
  readonly #flowDrained: Counter;
  /** More requests than max_requests allows. */
  readonly rqActiveOverflow: Counter;
  /** A host was chosen although too few are healthy. */
  readonly lbHealthyPanic: Counter;
  readonly cxIdleTimeout: Counter;
  readonly cxMaxRequests: Counter;
  readonly cxMaxDurationReached: Counter;
  readonly cxCloseNotify: Counter;
  readonly cxProtocolError: Counter;
  readonly cxNoneHealthy: Counter;
  /** TCP: attempts used up. */
  readonly cxConnectAttemptsExceeded: Counter;
  readonly cxRxBytes: Counter;
  readonly cxTxBytes: Counter;
  readonly rqTotal: Counter;
  readonly rqActive: Gauge;
  readonly rqCompleted: Counter;
  readonly rqPendingTotal: Counter;
  readonly rqPendingActive: Gauge;
  readonly rqPendingOverflow: Counter;
  readonly rqPendingFailureEject: Counter;
  readonly rqTimeout: Counter;
  readonly rqTxReset: Counter;
  readonly rqRxReset: Counter;
  readonly rqCancelled: Counter;
  readonly rqRetry: Counter;
  readonly rqRetrySuccess: Counter;
  readonly rqRetryLimitExceeded: Counter;
  readonly rqRetryOverflow: Counter;
  readonly rqRetryBackoffExponential: Counter;
  readonly rqRetryBackoffRatelimited: Counter;
  readonly retryOrShadowAbandoned: Counter;
  readonly rqPerTryTimeout: Counter;
  readonly rqPerTryIdleTimeout: Counter;
  readonly rqMaxDurationReached: Counter;
  readonly rqTime: Histogram;
  readonly membershipTotal: Gauge;
  readonly membershipDegraded: Gauge;
  readonly membershipExcluded: Gauge;
  readonly maxHostWeight: Gauge;
  readonly cxDestroyLocal: Counter;
  readonly cxLengthMs: Histogram;
  readonly rqPerCx: Histogram;
  readonly membershipHealthy: Gauge;
  readonly membershipChange: Counter;
  readonly #statistics: Statistics;
  readonly #prefix: string;
  readonly #byClass: (Counter | undefined)[] = [];
  readonly #byCode = new Map<number, Counter>();
  #http2: Http2Statistics | undefined = undefined;
  #internal: OriginStatistics | undefined = undefined;
  #external: OriginStatistics | undefined = undefined;

  constructor(statistics: Statistics, statName: string) {
    const prefix = `cluster.${statName}`;
    const counter = (name: string): Counter => statistics.counter(`${prefix}.${name}`);
    const gauge = (name: string): Gauge => statistics.gauge(`${prefix}.${name}`);
    this.#statistics = statistics;
    this.#prefix = prefix;
    // The control thread sets it, with all others of the breakers.
    statistics.gauge(breakerSignal(statName));
    this.cxTotal = counter('upstream_cx_total');
    this.cxActive = gauge('upstream_cx_active');
    this.cxHttp1Total = counter('upstream_cx_http1_total');
    this.cxHttp2Total = counter('upstream_cx_http2_total');
    this.cxConnectFail = counter('upstream_cx_connect_fail');
    this.cxConnectTimeout = counter('upstream_cx_connect_timeout');
    this.cxConnectMs = statistics.histogram(`${prefix}.upstream_cx_connect_ms`);
    this.cxOverflow = counter('upstream_cx_overflow');
    this.cxDestroy = counter('upstream_cx_destroy');
    this.cxDestroyRemote = counter('upstream_cx_destroy_remote');
    this.#cxDestroyWithActiveRq = counter('upstream_cx_destroy_with_active_rq');
    this.#cxDestroyLocalWithActiveRq = counter('upstream_cx_destroy_local_with_active_rq');
    this.#cxDestroyRemoteWithActiveRq = counter('upstream_cx_destroy_remote_with_active_rq');
    this.#flowPaused = counter('upstream_flow_control_paused_reading_total');
    this.#flowResumed = counter('upstream_flow_control_resumed_reading_total');
    this.#flowBackedUp = counter('upstream_flow_control_backed_up_total');
    this.#flowDrained = counter('upstream_flow_control_drained_total');
    this.rqActiveOverflow = counter('upstream_rq_active_overflow');
    this.lbHealthyPanic = counter('lb_healthy_panic');
    this.cxIdleTimeout = counter('upstream_cx_idle_timeout');
    this.cxMaxRequests = counter('upstream_cx_max_requests');
    this.cxMaxDurationReached = counter('upstream_cx_max_duration_reached');
    this.cxCloseNotify = counter('upstream_cx_close_notify');
    this.cxProtocolError = counter('upstream_cx_protocol_error');
    this.cxNoneHealthy = counter('upstream_cx_none_healthy');
    this.cxConnectAttemptsExceeded = counter('upstream_cx_connect_attempts_exceeded');
    this.cxRxBytes = counter('upstream_cx_rx_bytes_total');
    this.cxTxBytes = counter('upstream_cx_tx_bytes_total');
    this.rqTotal = counter('upstream_rq_total');
    this.rqActive = gauge('upstream_rq_active');
    this.rqCompleted = counter('upstream_rq_completed');
    this.rqPendingTotal = counter('upstream_rq_pending_total');
    this.rqPendingActive = gauge('upstream_rq_pending_active');
    this.rqPendingOverflow = counter('upstream_rq_pending_overflow');
    this.rqPendingFailureEject = counter('upstream_rq_pending_failure_eject');
    this.rqTimeout = counter('upstream_rq_timeout');
    this.rqTxReset = counter('upstream_rq_tx_reset');
    this.rqRxReset = counter('upstream_rq_rx_reset');
    this.rqCancelled = counter('upstream_rq_cancelled');
    this.rqRetry = counter('upstream_rq_retry');
    this.rqRetrySuccess = counter('upstream_rq_retry_success');
    this.rqRetryLimitExceeded = counter('upstream_rq_retry_limit_exceeded');
    this.rqRetryOverflow = counter('upstream_rq_retry_overflow');
    this.rqRetryBackoffExponential = counter('upstream_rq_retry_backoff_exponential');
    this.rqRetryBackoffRatelimited = counter('upstream_rq_retry_backoff_ratelimited');
    this.retryOrShadowAbandoned = counter('retry_or_shadow_abandoned');
    this.rqPerTryTimeout = counter('upstream_rq_per_try_timeout');
    this.rqPerTryIdleTimeout = counter('upstream_rq_per_try_idle_timeout');
    this.rqMaxDurationReached = counter('upstream_rq_max_duration_reached');
    this.rqTime = statistics.histogram(`${prefix}.upstream_rq_time`);
    this.membershipTotal = gauge('membership_total');
    this.membershipDegraded = gauge('membership_degraded');
    this.membershipExcluded = gauge('membership_excluded');
    this.maxHostWeight = gauge('max_host_weight');
    this.cxDestroyLocal = counter('upstream_cx_destroy_local');
    this.cxLengthMs = statistics.histogram(`${prefix}.upstream_cx_length_ms`);
    this.rqPerCx = statistics.histogram(`${prefix}.upstream_rq_per_cx`);
    this.membershipHealthy = gauge('membership_healthy');
    this.membershipChange = counter('membership_change');
  }

  /** After connect; `isRemote`: the peer began it (which has counted it). */
  connectionClosed(isRemote: boolean, lengthMs: number, requests: number): void {
    this.cxActive.dec();
    this.cxDestroy.inc();
    if (!isRemote) this.cxDestroyLocal.inc();
    this.cxLengthMs.record(Math.max(0, lengthMs));
    this.rqPerCx.record(requests);
  }

  /** A connection went, and took requests with it. */
  destroyedWithRequests(isRemote: boolean): void {
    this.#cxDestroyWithActiveRq.inc();
    (isRemote ? this.#cxDestroyRemoteWithActiveRq : this.#cxDestroyLocalWithActiveRq).inc();
  }

  /** Responses are not read until the client has taken what was read, or again. */
  responsePaused(paused: boolean): void {
    (paused ? this.#flowPaused : this.#flowResumed).inc();
  }

  /** A request's body waits until the host has taken what was sent, or goes on. */
  requestBackedUp(backedUp: boolean): void {
    (backedUp ? this.#flowBackedUp : this.#flowDrained).inc();
  }

  /** Of a cluster that has subsets. */
  subsets(): SubsetStatistics {
    const counter = (name: string): Counter => this.#statistics.counter(`${this.#prefix}.lb_subsets_${name}`);
    return {
      active: this.#statistics.gauge(`${this.#prefix}.lb_subsets_active`),
      created: counter('created'),
      removed: counter('removed'),
      selected: counter('selected'),
      fallback: counter('fallback'),
    };
  }

  /** Of the codecs; made with the first connection that speaks it. */
  get http2(): Http2Statistics {
    this.#http2 ??= new Http2Statistics(this.#statistics, `${this.#prefix}.http2`);
    return this.#http2;
  }

  /** upstream_rq_<code>, upstream_rq_<class>, upstream_rq_completed, and the same by who asked: made when first seen. */
  response(status: number, internal: boolean): void {
    this.rqCompleted.inc();
    const classIndex = (status / 100) | 0;
    let byClass = this.#byClass[classIndex];
    if (byClass === undefined) {
      byClass = this.#statistics.counter(`${this.#prefix}.upstream_rq_${classIndex}xx`);
      this.#byClass[classIndex] = byClass;
    }
    byClass.inc();
    let byCode = this.#byCode.get(status);
    if (byCode === undefined) {
      byCode = this.#statistics.counter(`${this.#prefix}.upstream_rq_${status}`);
      this.#byCode.set(status, byCode);
    }
    byCode.inc();
    this.#of(internal).answered(status);
  }

  /** From a request's sending to its response's head. */
  responseTime(ms: number, internal: boolean): void {
    this.rqTime.record(ms);
    this.#of(internal).rqTime.record(ms);
  }

  #of(internal: boolean): OriginStatistics {
    if (internal) {
      this.#internal ??= new OriginStatistics(this.#statistics, `${this.#prefix}.internal`);
      return this.#internal;
    }
    this.#external ??= new OriginStatistics(this.#statistics, `${this.#prefix}.external`);
    return this.#external;
  }

  /** A response that was not passed on but asked for another attempt: `retry.upstream_rq_<code>`. */
  retriedResponse(status: number): void {
    const counter = (name: string): Counter => this.#statistics.counter(`${this.#prefix}.retry.${name}`);
    counter('upstream_rq_completed').inc();
    counter(`upstream_rq_${(status / 100) | 0}xx`).inc();
    counter(`upstream_rq_${status}`).inc();
  }
}

/** Responses to requests of one origin: `internal` as x-envoy-internal has it, or `external`. */
class OriginStatistics {
  readonly rqTime: Histogram;
  readonly #completed: Counter;
  readonly #byStatus: (readonly [Counter, Counter] | undefined)[] = [];
  readonly #statistics: Statistics;
  readonly #prefix: string;

  constructor(statistics: Statistics, prefix: string) {
    this.#statistics = statistics;
    this.#prefix = prefix;
    this.rqTime = statistics.histogram(`${prefix}.upstream_rq_time`);
    this.#completed = statistics.counter(`${prefix}.upstream_rq_completed`);
  }

  answered(status: number): void {
    this.#completed.inc();
    let counters = this.#byStatus[status];
    if (counters === undefined) {
      const counter = (name: string): Counter => this.#statistics.counter(`${this.#prefix}.upstream_rq_${name}`);
      counters = [counter(`${(status / 100) | 0}xx`), counter(String(status))];
      this.#byStatus[status] = counters;
    }
    counters[0].inc();
    counters[1].inc();
  }
}
