/** One connection attempt of a pool, with its timeout and its counts. */
import type { ResetReason } from '../http/codec.ts';
import type { ConnectAttempt } from '../net/connector.ts';
import { Deadline } from '../net/deadlines.ts';
import { openFirst } from '../net/happy_eyeballs.ts';
import type { SocketStream } from '../net/socket_stream.ts';
import type { PoolOptions } from './pool.ts';

/** Whoever waits for the connection. */
export interface AttemptOwner {
  readonly options: PoolOptions;
  connected(attempt: ConnectionAttempt, stream: SocketStream): void;
  connectFailed(attempt: ConnectionAttempt, reason: ResetReason, detail: string): void;
}

export class ConnectionAttempt {
  readonly #owner: AttemptOwner;
  readonly #attempt: ConnectAttempt;
  readonly #deadline: Deadline;

  constructor(owner: AttemptOwner) {
    this.#owner = owner;
    const { host, statistics, connectTimeout, socket, transport, first, from, nowMs, protocol, deadlines } =
      owner.options;
    const startMs = nowMs();
    statistics.cxTotal.inc();
    if (protocol === 'http1') statistics.cxHttp1Total.inc();
    else if (protocol === 'http2') statistics.cxHttp2Total.inc();
    statistics.cxActive.inc();
    this.#deadline = new Deadline(() => {
      this.#attempt.abort();
      statistics.cxConnectTimeout.inc();
      this.#failed('connection timeout', 'connection timeout');
    });
    connectTimeout.arm(this.#deadline, startMs);
    this.#attempt = openFirst(host.additionalAddresses, deadlines, {
      address: host.address,
      socket,
      transport,
      first,
      from,
      nowMs,
      onConnected: (stream) => {
        this.#deadline.cancel();
        statistics.cxConnectMs.record(nowMs() - startMs);
        stream.info.connectStartMs = startMs;
        owner.connected(this, stream);
      },
      onFailed: (message) => this.#failed('connection failure', message),
    });
  }

  abort(): void {
    this.#attempt.abort();
    this.#failed('connection termination', 'aborted');
  }

  #failed(reason: ResetReason, detail: string): void {
    const { statistics } = this.#owner.options;
    this.#deadline.cancel();
    statistics.cxConnectFail.inc();
    statistics.cxActive.dec();
    this.#owner.connectFailed(this, reason, detail);
  }
}
