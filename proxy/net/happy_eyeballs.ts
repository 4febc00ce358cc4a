/**
 * Connects to an endpoint of several addresses: the families take turns, the next attempt begins 300 ms after the last
 * one or when it fails, and the first to be connected (TLS included) is used. RFC 8305; Envoy does the same for hosts
 * with additional_addresses.
 */
import type { SocketAddress } from './connection_info.ts';
import { type ConnectAttempt, type ConnectOptions, openConnection } from './connector.ts';
import { Deadline, type DeadlineList } from './deadlines.ts';
import type { HappyEyeballs } from './socket_options.ts';
import type { SocketStream } from './socket_stream.ts';

/** RFC 8305 §5 "Connection Attempt Delay" recommends 250; Envoy has 300. */
const ATTEMPT_DELAY_MS = 300;

/** `openConnection` to `options.address` or one of `additional`, whichever is there first. */
export function openFirst(
  additional: readonly SocketAddress[],
  deadlines: { list(durationMs: number): DeadlineList },
  options: ConnectOptions,
): ConnectAttempt {
  if (additional.length === 0) return openConnection(options);
  const addresses = interleaved([options.address, ...additional], options.socket.happyEyeballs);
  return new Race(addresses, deadlines.list(ATTEMPT_DELAY_MS), options);
}

/** Families in turn, the first address's first; within one the given order (RFC 8305 §4). */
export function interleaved(
  addresses: readonly SocketAddress[],
  { firstFamily, firstCount }: HappyEyeballs = { firstFamily: 'default', firstCount: 1 },
): SocketAddress[] {
  const startsV6 = firstFamily === 'default' ? addresses[0]?.ip.includes(':') === true : firstFamily === 'v6';
  const first = addresses.filter(({ ip }) => ip.includes(':') === startsV6);
  const second = addresses.filter(({ ip }) => ip.includes(':') !== startsV6);
  const out: SocketAddress[] = [];
  for (let index = 0; out.length < addresses.length; index++) {
    out.push(...first.slice(index * firstCount, (index + 1) * firstCount), ...second.slice(index, index + 1));
  }
  return out;
}

class Race implements ConnectAttempt {
  readonly #addresses: readonly SocketAddress[];
  readonly #delay: DeadlineList;
  readonly #options: ConnectOptions;
  readonly #running = new Set<ConnectAttempt>();
  readonly #next: Deadline;
  #begun = 0;

  constructor(addresses: readonly SocketAddress[], delay: DeadlineList, options: ConnectOptions) {
    this.#addresses = addresses;
    this.#delay = delay;
    this.#options = options;
    this.#next = new Deadline(() => this.#begin());
    this.#begin();
  }

  abort(): void {
    this.#next.cancel();
    for (const attempt of this.#running) attempt.abort();
    this.#running.clear();
  }

  #begin(): void {
    const address = this.#addresses[this.#begun++];
    if (address === undefined) return;
    const attempt = openConnection({
      ...this.#options,
      address,
      onConnected: (stream) => this.#won(attempt, stream),
      onFailed: (message) => this.#lost(attempt, message),
    });
    this.#running.add(attempt);
    if (this.#begun < this.#addresses.length) this.#delay.arm(this.#next);
  }

  #won(attempt: ConnectAttempt, stream: SocketStream): void {
    this.#running.delete(attempt);
    this.abort();
    this.#options.onConnected(stream);
  }

  /** The last one to fail says why. */
  #lost(attempt: ConnectAttempt, message: string): void {
    this.#running.delete(attempt);
    if (this.#begun < this.#addresses.length) {
      this.#next.cancel();
      this.#begin();
    } else if (this.#running.size === 0) this.#options.onFailed(message);
  }
}
