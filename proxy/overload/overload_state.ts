/** What overload asks of a data thread: read from shared memory at each request and connection, and the thread's own lag. */
import type { Breaker } from '../upstream/circuit_breakers.ts';
import { OVERLOAD_ACTIONS, type OverloadAction } from './overload_config.ts';

/** Levels of actions in millionths, by their index; then the most connections, 0: any number. */
export type OverloadMemory = SharedArrayBuffer;

/** In the table of circuit breakers, as no cluster is called: all connections of all threads. */
export const CONNECTIONS_OF_ALL = '';

const FULL = 1_000_000;
const MOST_CONNECTIONS = OVERLOAD_ACTIONS.length;

export function createOverloadMemory(): OverloadMemory {
  return new SharedArrayBuffer((OVERLOAD_ACTIONS.length + 1) * 4);
}

/** 0: not active; 1: complete. */
export function setLevel(memory: OverloadMemory, action: OverloadAction, level: number): void {
  Atomics.store(new Int32Array(memory), OVERLOAD_ACTIONS.indexOf(action), Math.round(level * FULL));
}

export function setMaxConnections(memory: OverloadMemory, most: number | undefined): void {
  Atomics.store(new Int32Array(memory), MOST_CONNECTIONS, Math.min(most ?? 0, 2 ** 31 - 1));
}

/** A thread that comes to its timers this late sheds requests, until it comes half as late. */
const LATE_MS = 1500;
const TICK_MS = 200;
/** How often in a row it has to be late: one long task is no overload. */
const LATE_TICKS = 2;

export class ThreadOverload {
  readonly #levels: Int32Array;
  readonly #connections: Breaker;
  readonly #random: () => number;
  #late = false;

  /** `connections`: counts those of all threads. */
  constructor(memory: OverloadMemory, connections: Breaker, random: () => number) {
    this.#levels = new Int32Array(memory);
    this.#connections = connections;
    this.#random = random;
  }

  /** Looks at the thread's own lag from now on. */
  watchLag(): void {
    let dueMs = performance.now() + TICK_MS;
    let times = 0;
    setInterval(() => {
      const nowMs = performance.now();
      const lateMs = nowMs - dueMs;
      dueMs = nowMs + TICK_MS;
      times = lateMs > LATE_MS ? times + 1 : 0;
      if (times >= LATE_TICKS) this.#late = true;
      else if (lateMs < LATE_MS / 2) this.#late = false;
    }, TICK_MS).unref();
  }

  /** A new request is answered 503 (OM) at once. */
  shedsRequest(): boolean {
    return this.#late || this.#is(1);
  }

  /** Responses are their connections' last. */
  closesConnections(): boolean {
    return this.#late || this.#is(0) || this.#is(1);
  }

  /** @returns false: the connection is closed unseen. Otherwise `connectionClosed` follows. */
  acceptsConnection(): boolean {
    if (this.#is(2) || this.#is(3)) return false;
    const most = this.#levels[MOST_CONNECTIONS] as number;
    this.#connections.acquire('connections');
    if (most === 0 || this.#connections.count('connections') <= most) return true;
    this.#connections.release('connections');
    return false;
  }

  connectionClosed(): void {
    this.#connections.release('connections');
  }

  #is(action: number): boolean {
    const level = Atomics.load(this.#levels, action);
    return level !== 0 && (level >= FULL || this.#random() * FULL < level);
  }
}
