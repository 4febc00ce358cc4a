/** PINGs that find out whether the peer of an HTTP/2 connection still lives. Envoy: core.v3.KeepaliveSettings. */
import { Deadline, type Deadlines } from '../net/deadlines.ts';

export interface KeepaliveConfig {
  /** 0: no pings at this rate. */
  readonly intervalMs: number;
  /** How long the answer may take. */
  readonly timeoutMs: number;
  /** Of the interval, at most this much is added at random. Default 15. */
  readonly jitterPercent: number;
  /** A connection that was silent for so long is asked before it is used again; 0: never. */
  readonly idleIntervalMs: number;
}

interface Pinger {
  ping(high: number, low: number): void;
  readonly failed: boolean;
}

export class KeepalivePings {
  readonly #config: KeepaliveConfig;
  readonly #pinger: Pinger;
  readonly #deadlines: Pick<Deadlines, 'list'>;
  readonly #interval: Deadline;
  readonly #timeout: Deadline;
  #sent = 0;

  private constructor(
    config: KeepaliveConfig,
    pinger: Pinger,
    deadlines: Pick<Deadlines, 'list'>,
    onSilence: () => void,
  ) {
    this.#config = config;
    this.#pinger = pinger;
    this.#deadlines = deadlines;
    this.#interval = new Deadline(() => this.#ping());
    this.#timeout = new Deadline(onSilence);
    this.#armInterval();
  }

  /** undefined: none are configured. */
  static start(
    config: KeepaliveConfig | undefined,
    pinger: Pinger,
    deadlines: Pick<Deadlines, 'list'>,
    onSilence: () => void,
  ): KeepalivePings | undefined {
    return config === undefined ? undefined : new KeepalivePings(config, pinger, deadlines, onSilence);
  }

  /** Bytes have come: the peer lives. */
  active(): void {
    if (!this.#timeout.armed) return;
    this.#timeout.cancel();
    this.#armInterval();
  }

  answered(): void {
    this.active();
  }

  /** The connection was silent and is about to be used. */
  ask(): void {
    if (!this.#timeout.armed) this.#ping();
  }

  stop(): void {
    this.#interval.cancel();
    this.#timeout.cancel();
  }

  #armInterval(): void {
    const { intervalMs, jitterPercent } = this.#config;
    if (intervalMs <= 0) return;
    // Whole steps of a tenth keep the number of different lists small.
    const steps = Math.floor(Math.random() * 10);
    const delayMs = Math.max(1, Math.round(intervalMs * (1 + (jitterPercent / 100) * (steps / 10))));
    this.#deadlines.list(delayMs).arm(this.#interval);
  }

  #ping(): void {
    if (this.#pinger.failed) return;
    this.#interval.cancel();
    this.#sent++;
    this.#pinger.ping(0x6b656570, this.#sent);
    this.#deadlines.list(this.#config.timeoutMs).arm(this.#timeout);
  }
}
