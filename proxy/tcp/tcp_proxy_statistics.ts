/** A TCP proxy's counters on one thread. Source: Envoy docs "TCP proxy", statistics. */
import type { Counter, Gauge, Statistics } from '../telemetry/statistics.ts';

/** Envoy's names below `tcp.<stat_prefix>.`. */
export class TcpProxyStatistics {
  readonly cxTotal: Counter;
  readonly cxNoRoute: Counter;
  readonly rxBytes: Counter;
  readonly txBytes: Counter;
  readonly flowPaused: Counter;
  readonly flowResumed: Counter;
  readonly earlyData: Counter;
  readonly idleTimeout: Counter;
  readonly maxDuration: Counter;
  readonly upstreamFlushTotal: Counter;
  readonly upstreamFlushActive: Gauge;

  constructor(statistics: Statistics, statPrefix: string) {
    const counter = (name: string): Counter => statistics.counter(`tcp.${statPrefix}.${name}`);
    this.cxTotal = counter('downstream_cx_total');
    this.cxNoRoute = counter('downstream_cx_no_route');
    this.rxBytes = counter('downstream_cx_rx_bytes_total');
    this.txBytes = counter('downstream_cx_tx_bytes_total');
    this.flowPaused = counter('downstream_flow_control_paused_reading_total');
    this.flowResumed = counter('downstream_flow_control_resumed_reading_total');
    this.earlyData = counter('early_data_received_count_total');
    this.idleTimeout = counter('idle_timeout');
    this.maxDuration = counter('max_downstream_connection_duration');
    this.upstreamFlushTotal = counter('upstream_flush_total');
    this.upstreamFlushActive = statistics.gauge(`tcp.${statPrefix}.upstream_flush_active`);
  }
}
