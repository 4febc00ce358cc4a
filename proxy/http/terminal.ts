/** The contract between a stream and the filter that ends its chain: who takes the request and gives the response. */
import type { Failure } from '../failures.ts';
import type { Filter, FilterContext } from './filter.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from './headers.ts';

/** The last filter of a chain. */
export interface TerminalFilter extends Filter<undefined> {
  open(stream: TerminalContext): RequestSink;
}

export function isTerminal(filter: object): filter is TerminalFilter {
  return 'open' in filter;
}

/** Takes one request. Bytes are borrowed. */
export interface RequestSink {
  /** Of the body, while it waits or may be sent again. */
  readonly heldBytes?: number;
  headers(headers: RequestHeaders, endStream: boolean): void;
  data(bytes: Buffer, endStream: boolean): void;
  trailers(trailers: Headers): void;
  /** Counted: stop or go on giving response body. */
  readDisable(disabled: boolean): void;
  /** The stream is over before the response was: abandon the request. No callback afterwards. */
  abandon(): void;
}

/** What a terminal filter may ask of its stream beyond what every filter may. */
export interface TerminalContext extends FilterContext {
  readonly responseHeaders: ResponseHeaders | undefined;
  readonly responseTrailers: Headers | undefined;
  respond1xx(headers: ResponseHeaders): void;
  respondHeaders(headers: ResponseHeaders, endStream: boolean): void;
  respondData(bytes: Buffer, endStream: boolean): void;
  respondTrailers(trailers: Headers): void;
  /** After response headers: the downstream stream is reset. Before: a local reply. */
  fail(failure: Failure, modifyHeaders?: (headers: ResponseHeaders) => void): void;
  /** Counted: stop or go on giving request body. */
  pauseRequest(paused: boolean): void;
  /** The whole request has arrived. */
  readonly requestComplete: boolean;
  readonly responseStarted: boolean;
  /** Of the connection manager, for a route without its own; 0: none. */
  readonly suppressEnvoyHeaders: boolean;
  /** Lower-case type of an upgrade that was accepted for forwarding. */
  readonly upgrade: string | undefined;
  /** The route's idle timeout replaces the connection manager's. 0: none. */
  setIdleTimeout(timeoutMs: number): void;
  /** How long the stream may last, from its beginning: replaces the connection manager's. 0: for ever. */
  setMaxDuration(durationMs: number): void;
  /** How much of a body may be held. */
  readonly bufferLimitBytes: number;
}
