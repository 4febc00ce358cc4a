/** A ceiling on TLS handshakes under way, over all threads: what is above it is closed before any of it costs anything. */
import type { DownstreamTransportSocket, PeekedConnection, TransportCallbacks } from '../listener/transport_socket.ts';
import type { Counter } from '../telemetry/statistics.ts';

export interface HandshakeCount {
  /** @returns false: there are as many as there may be. Otherwise `handshakeEnded` follows. */
  handshakeBegins(): boolean;
  handshakeEnded(): void;
}

export class LimitedHandshakes implements DownstreamTransportSocket {
  readonly #inner: DownstreamTransportSocket;
  readonly #count: HandshakeCount;
  readonly #overflow: Counter;

  constructor(inner: DownstreamTransportSocket, count: HandshakeCount, overflow: Counter) {
    this.#inner = inner;
    this.#count = count;
    this.#overflow = overflow;
  }

  open(connection: PeekedConnection, on: TransportCallbacks): { abort(): void } {
    if (!this.#count.handshakeBegins()) {
      this.#overflow.inc();
      connection.stream.close('reset');
      on.failed('too many TLS handshakes');
      return NOTHING_TO_ABORT;
    }
    let under = true;
    const end = (): void => {
      if (under) this.#count.handshakeEnded();
      under = false;
    };
    const attempt = this.#inner.open(connection, {
      ready(stream, bytes, ended) {
        end();
        on.ready(stream, bytes, ended);
      },
      failed(details) {
        end();
        on.failed(details);
      },
    });
    return {
      abort() {
        end();
        attempt.abort();
      },
    };
  }

  close(): void {
    this.#inner.close?.();
  }
}

const NOTHING_TO_ABORT = { abort(): void {} };
