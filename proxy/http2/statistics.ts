/** Counters of HTTP/2 codecs under Envoy's names: `http2.…` downstream, `cluster.<name>.http2.…` upstream. */
import type { Counter, Gauge, Statistics } from '../telemetry/statistics.ts';

export class Http2Statistics {
  readonly headerOverflow: Counter;
  readonly tooManyHeaders: Counter;
  readonly inboundEmptyFramesFlood: Counter;
  readonly inboundPriorityFramesFlood: Counter;
  readonly inboundWindowUpdateFramesFlood: Counter;
  /** Ours: PING, SETTINGS, RST_STREAM and unknown frames beyond their rate. */
  readonly inboundControlFramesFlood: Counter;
  /** Ours. */
  readonly inboundContinuationFlood: Counter;
  /** Ours: streams that were reset young (rapid reset). */
  readonly prematureResetFlood: Counter;
  readonly outboundFlood: Counter;
  readonly outboundControlFlood: Counter;
  readonly rxMessagingError: Counter;
  readonly rxReset: Counter;
  readonly txReset: Counter;
  readonly streamRefusedErrors: Counter;
  readonly txFlushTimeout: Counter;
  readonly keepaliveTimeout: Counter;
  readonly trailers: Counter;
  readonly goawaySent: Counter;
  readonly streamsActive: Gauge;

  /** `prefix`: `http2`, or `cluster.<name>.http2`. */
  constructor(statistics: Statistics, prefix: string) {
    const counter = (name: string): Counter => statistics.counter(`${prefix}.${name}`);
    this.headerOverflow = counter('header_overflow');
    this.tooManyHeaders = counter('too_many_headers');
    this.inboundEmptyFramesFlood = counter('inbound_empty_frames_flood');
    this.inboundPriorityFramesFlood = counter('inbound_priority_frames_flood');
    this.inboundWindowUpdateFramesFlood = counter('inbound_window_update_frames_flood');
    this.inboundControlFramesFlood = counter('inbound_control_frames_flood');
    this.inboundContinuationFlood = counter('inbound_continuation_flood');
    this.prematureResetFlood = counter('premature_reset_flood');
    this.outboundFlood = counter('outbound_flood');
    this.outboundControlFlood = counter('outbound_control_flood');
    this.rxMessagingError = counter('rx_messaging_error');
    this.rxReset = counter('rx_reset');
    this.txReset = counter('tx_reset');
    this.streamRefusedErrors = counter('stream_refused_errors');
    this.txFlushTimeout = counter('tx_flush_timeout');
    this.keepaliveTimeout = counter('keepalive_timeout');
    this.trailers = counter('trailers');
    this.goawaySent = counter('goaway_sent');
    this.streamsActive = statistics.gauge(`${prefix}.streams_active`);
  }
}
