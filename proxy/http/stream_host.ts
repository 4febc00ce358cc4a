/** What a stream may ask of its connection. */
import type { ConnectionInfo } from '../net/connection_info.ts';
import type { InternalRequest, InternalResponse } from './filter.ts';
import type { HttpStream } from './stream.ts';

/** The connection a stream lives on. */
export interface StreamHost {
  readonly info: ConnectionInfo;
  /** Asked when response headers leave: must the connection close after this response? */
  shouldClose(): boolean;
  /** Tells the codec to announce and do it. */
  closeAfterResponse(): void;
  streamEnded(stream: HttpStream): void;
  /** Internal client; a filter's call to a cluster. */
  call(cluster: string, request: InternalRequest, signal: AbortSignal): Promise<InternalResponse>;
}
