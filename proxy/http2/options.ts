/** Settings and limits of an HTTP/2 connection. Envoy: envoy.config.core.v3.Http2ProtocolOptions. */

export interface Http2Options {
  /** Streams that the peer may have open. Default 1024, as Envoy. */
  readonly maxConcurrentStreams: number;
  /** What the peer may send on a stream before we say more. undefined: 64 KiB, and more for streams that read fast. */
  readonly initialStreamWindowBytes: number | undefined;
  /** Default 16 MiB: topped up as it is used, so that no stream waits for another. */
  readonly initialConnectionWindowBytes: number;
  /** Of both directions. Default 4096. */
  readonly hpackTableBytes: number;
  /** Extended CONNECT is offered (RFC 8441). */
  readonly allowConnect: boolean;
  /** Decoded size of a head or of trailers: names, values and 32 a field. */
  readonly maxHeaderListBytes: number;
  readonly maxHeaderCount: number;
  /** Frames that wait while the peer does not read. Default 10,000. */
  readonly maxOutboundFrames: number;
  /** PING, SETTINGS and RST_STREAM among them. Default 1,000. */
  readonly maxOutboundControlFrames: number;
  /** Frames in a row that carry nothing and end nothing. Default 1. */
  readonly maxConsecutiveInboundFramesWithEmptyPayload: number;
  /** Times (1 + streams opened). Default 100. */
  readonly maxInboundPriorityFramesPerStream: number;
  /** 5 + 2 × (streams opened + this × DATA frames sent). Default 10. */
  readonly maxInboundWindowUpdateFramesPerDataFrameSent: number;
}

export const DEFAULT_OPTIONS: Http2Options = {
  maxConcurrentStreams: 1024,
  initialStreamWindowBytes: undefined,
  initialConnectionWindowBytes: 16 * 1024 * 1024,
  hpackTableBytes: 4096,
  allowConnect: false,
  maxHeaderListBytes: 60 * 1024,
  maxHeaderCount: 100,
  maxOutboundFrames: 10_000,
  maxOutboundControlFrames: 1000,
  maxConsecutiveInboundFramesWithEmptyPayload: 1,
  maxInboundPriorityFramesPerStream: 100,
  maxInboundWindowUpdateFramesPerDataFrameSent: 10,
};

/** CONTINUATION frames of one header block, however small they are (CVE-2024-27919). */
export const MAX_CONTINUATION_FRAMES = 64;
/** PING, SETTINGS, RST_STREAM of streams that are gone and unknown frames: a bucket of this many, refilled by the second. */
export const MAX_INBOUND_CONTROL_FRAMES = 2000;
export const INBOUND_CONTROL_FRAMES_PER_SECOND = 200;
/** A connection that resets more than half of at least this many streams young is not served (CVE-2023-44487). */
export const PREMATURE_RESET_TOTAL_STREAMS = 500;
export const PREMATURE_RESET_MIN_LIFETIME_MS = 1000;
/** Streams that we reset are remembered: what was on its way for them is no fault. */
export const MAX_RESET_REMEMBERED = 1024;
/** Above this much unsent, a stream's writer is told to wait; below the low mark it goes on. */
export const HIGH_WATERMARK_BYTES = 65_536;
export const LOW_WATERMARK_BYTES = 32_768;
/** A stream's window without configuration: at first, and at most, when its reader keeps up. */
export const FIRST_WINDOW_BYTES = 65_535;
export const GROWN_WINDOW_BYTES = 1024 * 1024;
/** All that windows of one thread may have grown by. */
export const MAX_GROWN_BYTES = 64 * 1024 * 1024;
