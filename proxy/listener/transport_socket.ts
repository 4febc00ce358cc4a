/** The seam for transport sockets on accepted connections: raw bytes, TLS. */
import type { ListenerConfig, TransportSocketConfig } from '../listener_config.ts';
import type { ByteStream } from '../net/byte_stream.ts';
import type { ConnectionFacts } from '../net/listener_filter.ts';
import type { SocketStream } from '../net/socket_stream.ts';
import type { ThreadServices } from '../thread_services.ts';

/** A connection whose filter chain is chosen, as the listener hands it over. */
export interface PeekedConnection {
  /**
   * Nothing of it has been written. Its callbacks are the taker's to set. `info` holds what the listener filters found
   * (addresses, `requestedServerName`, filter state). Reading is neither paused nor resumed: bytes may come in the next
   * event. A taker that wants the bare socket calls `stream.release()`.
   */
  readonly stream: SocketStream;
  /**
   * What listener filters have read and nobody consumed; undefined when nothing was read. Borrowed until `open` returns:
   * it may be a view of the read buffer. The taker has to deal with these bytes before any that come later.
   */
  readonly bytes: Buffer | undefined;
  /** The client's end was read too: `onEnd` will not come again. */
  readonly ended: boolean;
  /** transportProtocol, serverName, applicationProtocols as offered. */
  readonly facts: ConnectionFacts;
}

export interface TransportCallbacks {
  /**
   * Once, at the latest when the first plain byte is there: the listener starts the network filters on `stream`, whose
   * callbacks are set when this returns. `stream.info` is the SocketStream's own object, completed (alpn, tls).
   * `bytes` (borrowed) and `ended` are given to the filters first, as if `stream` had said them.
   */
  ready(stream: ByteStream, bytes: Buffer | undefined, ended: boolean): void;
  /**
   * Instead of `ready`: the handshake failed or the client left. The taker has closed the socket or let it be closed;
   * `details` go to the log and %DOWNSTREAM_TRANSPORT_FAILURE_REASON%.
   */
  failed(details: string): void;
}

/**
 * One per filter chain, configuration and thread. `open` is called within the read event that completed the listener
 * filters, or within the accept. Exactly one callback comes, within `open` or later; after `abort` none does.
 */
export interface DownstreamTransportSocket {
  open(connection: PeekedConnection, on: TransportCallbacks): { abort(): void };
  /** The chain's next version has taken over; connections go on. */
  close?(): void;
}

/** Whose connections they are. */
export interface TransportPlace {
  readonly listener: ListenerConfig;
  readonly chain: string;
  /** `listener.<name>`, before its statistics. */
  readonly statPrefix: string;
}

/** Makes a chain's transport socket; undefined: this one is not executed, and connections of the chain are reset. */
export type TransportSocketMaker = (
  socket: TransportSocketConfig,
  services: ThreadServices,
  place: TransportPlace,
) => DownstreamTransportSocket | undefined;

const NOTHING_TO_ABORT = { abort(): void {} };

/** The bytes as they are. */
export const rawTransport: DownstreamTransportSocket = {
  open({ stream, bytes, ended }, on) {
    on.ready(stream, bytes, ended);
    return NOTHING_TO_ABORT;
  },
};
