/** A listener's counters on one thread. Source: Envoy docs "Listener statistics". */
import type { ListenerConfig } from '../listener_config.ts';
import type { Counter, Gauge, Histogram, Statistics } from '../telemetry/statistics.ts';

/** `listener.<address>`, or what stat_prefix says. */
export function listenerStatPrefix({ addresses, statPrefix }: ListenerConfig): string {
  const { ip, port } = addresses[0] ?? { ip: '', port: 0 };
  return `listener.${statPrefix === '' ? `${ip.replaceAll(':', '_')}_${port}` : statPrefix}`;
}

/** Envoy's names below `listener.<address>.`. */
export class ListenerStatistics {
  readonly cxTotal: Counter;
  readonly cxActive: Gauge;
  readonly cxDestroy: Counter;
  readonly cxLengthMs: Histogram;
  readonly #workerTotal: Counter;
  readonly #workerActive: Gauge;
  readonly #serverConnections: Gauge;
  /** Accepted, its chain not chosen yet. */
  readonly preCxActive: Gauge;
  readonly preCxTimeout: Counter;
  readonly noFilterChain: Counter;
  readonly transportSocketTimeout: Counter;
  /** Closed unseen: there are too many on this proxy. */
  readonly cxGlobalOverflow: Counter;
  /** Closed unseen: there is too much to do. */
  readonly cxOverloadReject: Counter;
  /** The client left while the listener filters looked. */
  readonly filterRemoteClose: Counter;
  /** Closed because a listener filter said so. */
  readonly filterRejected: Counter;
  /** Ours: more was peeked at than there is room for. */
  readonly peekOverflow: Counter;

  constructor(statistics: Statistics, config: ListenerConfig, threadIndex: number) {
    const prefix = listenerStatPrefix(config);
    this.cxTotal = statistics.counter(`${prefix}.downstream_cx_total`);
    this.cxActive = statistics.gauge(`${prefix}.downstream_cx_active`);
    this.cxDestroy = statistics.counter(`${prefix}.downstream_cx_destroy`);
    this.cxLengthMs = statistics.histogram(`${prefix}.downstream_cx_length_ms`);
    this.#workerTotal = statistics.counter(`${prefix}.worker_${threadIndex}.downstream_cx_total`);
    this.#workerActive = statistics.gauge(`${prefix}.worker_${threadIndex}.downstream_cx_active`);
    this.#serverConnections = statistics.gauge('server.total_connections');
    this.cxGlobalOverflow = statistics.counter(`${prefix}.downstream_global_cx_overflow`);
    this.cxOverloadReject = statistics.counter(`${prefix}.downstream_cx_overload_reject`);
    this.preCxActive = statistics.gauge(`${prefix}.downstream_pre_cx_active`);
    this.preCxTimeout = statistics.counter(`${prefix}.downstream_pre_cx_timeout`);
    this.noFilterChain = statistics.counter(`${prefix}.no_filter_chain_match`);
    this.transportSocketTimeout = statistics.counter(`${prefix}.downstream_cx_transport_socket_connect_timeout`);
    this.filterRemoteClose = statistics.counter(`${prefix}.downstream_listener_filter_remote_close`);
    this.filterRejected = statistics.counter(`${prefix}.downstream_listener_filter_error`);
    this.peekOverflow = statistics.counter(`${prefix}.downstream_peek_overflow`);
  }

  /** Accepted, and its filter chain chosen. */
  opened(): void {
    this.cxTotal.inc();
    this.cxActive.inc();
    this.#workerTotal.inc();
    this.#workerActive.inc();
    this.#serverConnections.inc();
  }

  closed(lengthMs: number): void {
    this.cxActive.dec();
    this.cxDestroy.inc();
    this.cxLengthMs.record(Math.max(0, lengthMs));
    this.#workerActive.dec();
    this.#serverConnections.dec();
  }
}
