/** Limits of the HTTP/1.1 codecs. Each has a default, an answer and a test. */

export interface Http1Options {
  /** Request line and fields together. Default 61,440 (Envoy max_request_headers_kb 60). Beyond: 431, or 414 when the first line alone is too long. */
  readonly maxHeadBytes?: number;
  /** Default 100. Beyond: 431. */
  readonly maxHeaderCount?: number;
  /** Server side. Default false: HTTP/1.0 gets 426. */
  readonly acceptHttp10?: boolean;
  /** Host of HTTP/1.0 requests that name none; '' (default): 400. */
  readonly defaultHostForHttp10?: string;
}

export const DEFAULT_MAX_HEAD_BYTES = 61_440;
export const DEFAULT_MAX_HEADER_COUNT = 100;
/** Extensions of one chunk-size line; they are dropped, never copied. */
export const MAX_CHUNK_LINE_BYTES = 4_096;
/** A trailer section. */
export const MAX_TRAILER_BYTES = 16_384;
