/** Envoy's substitution format strings: `%COMMAND(ARGUMENT):LENGTH%`. Source: envoy docs, "Access logging → Format strings". */
import type { Headers, RequestHeaders, ResponseHeaders } from './headers.ts';
import type { StreamInfo } from './stream_info.ts';

/** What a format may look at. */
export interface FormatInput {
  readonly info: StreamInfo;
  readonly requestHeaders: RequestHeaders | undefined;
  readonly responseHeaders: ResponseHeaders | undefined;
  readonly responseTrailers: Headers | undefined;
}

/** A compiled format string. */
export interface Formatter {
  /** Missing values print `-` in access logs and nothing in headers (chosen when compiled). */
  format(input: FormatInput): string;
  /** The text if it has no command in it. */
  readonly constant: string | undefined;
}
