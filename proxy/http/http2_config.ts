/** Reads envoy.config.core.v3.Http2ProtocolOptions, of connection managers and of clusters. */
import { DEFAULT_OPTIONS, type Http2Options } from '../http2/options.ts';
import type { Fields } from '../resource_fields.ts';
import type { KeepaliveConfig } from './keepalive_pings.ts';

export interface Http2Config {
  readonly options: Http2Options;
  /** undefined: no PINGs of our own. */
  readonly keepalive: KeepaliveConfig | undefined;
}

const MAX = 2 ** 31 - 1;

/** `fields`: undefined where nothing is said. @throws {ConfigError} with the field's path. */
export function parseHttp2Options(
  fields: Fields | undefined,
  limits: Pick<Http2Options, 'maxHeaderListBytes' | 'maxHeaderCount'>,
): Http2Config {
  if (fields === undefined) return { options: { ...DEFAULT_OPTIONS, ...limits }, keepalive: undefined };
  if (fields.boolean('allow_metadata') === true) fields.fail('allow_metadata', 'METADATA frames are not supported');
  if (fields.list('custom_settings_parameters').length > 0) {
    fields.fail('custom_settings_parameters', 'are not supported: use the fields for settings that are known');
  }
  const defaults = DEFAULT_OPTIONS;
  return {
    options: {
      ...limits,
      hpackTableBytes: fields.integer('hpack_table_size') ?? defaults.hpackTableBytes,
      maxConcurrentStreams: fields.integer('max_concurrent_streams', 1, MAX) ?? defaults.maxConcurrentStreams,
      initialStreamWindowBytes: fields.integer('initial_stream_window_size', 65_535, MAX),
      initialConnectionWindowBytes:
        fields.integer('initial_connection_window_size', 65_535, MAX) ?? defaults.initialConnectionWindowBytes,
      allowConnect: fields.boolean('allow_connect') ?? false,
      maxOutboundFrames: fields.integer('max_outbound_frames', 1) ?? defaults.maxOutboundFrames,
      maxOutboundControlFrames: fields.integer('max_outbound_control_frames', 1) ?? defaults.maxOutboundControlFrames,
      maxConsecutiveInboundFramesWithEmptyPayload:
        fields.integer('max_consecutive_inbound_frames_with_empty_payload') ??
        defaults.maxConsecutiveInboundFramesWithEmptyPayload,
      maxInboundPriorityFramesPerStream:
        fields.integer('max_inbound_priority_frames_per_stream') ?? defaults.maxInboundPriorityFramesPerStream,
      maxInboundWindowUpdateFramesPerDataFrameSent:
        fields.integer('max_inbound_window_update_frames_per_data_frame_sent', 1) ??
        defaults.maxInboundWindowUpdateFramesPerDataFrameSent,
    },
    keepalive: parseKeepalive(fields.message('connection_keepalive')),
  };
}

function parseKeepalive(fields: Fields | undefined): KeepaliveConfig | undefined {
  if (fields === undefined) return undefined;
  const timeoutMs = fields.durationMs('timeout');
  if (timeoutMs === undefined || timeoutMs < 1) return fields.fail('timeout', 'is required, and at least 0.001s');
  return {
    intervalMs: fields.durationMs('interval') ?? 0,
    timeoutMs,
    jitterPercent: fields.message('interval_jitter')?.number('value', 0, 100) ?? 15,
    idleIntervalMs: fields.durationMs('connection_idle_interval') ?? 0,
  };
}
