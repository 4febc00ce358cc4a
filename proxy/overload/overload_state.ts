/** What overload asks of a data thread: read from shared memory at each request and connection, and the thread's own lag. */
import type { Counter } from '../telemetry/statistics.ts';
import type { HandshakeCount } from './handshake_limit.ts';
import type { Breaker } from '../upstream/circuit_breakers.ts';
import { type HeldMemory, shedHeavy } from './heavy_streams.ts';
import { SCALED_TIMERS, type ScaledTimer, type TimerMinimum } from './scaled_timers.ts';
import { fullName, type LoadShedPoint, OVERLOAD_SIGNALS, type OverloadSignal } from './overload_config.ts';

/**
 * How many signals are up; the most connections, 0: any number; the most handshakes; from which power of
 * two of bytes a stream is heavy; levels in millionths, by their
 * signal's index; how short timeouts may become, by their kind: milliseconds (−1: none), millionths; handshakes under
 * way, by thread.
 */
export type OverloadMemory = SharedArrayBuffer;

/** In the table of circuit breakers, as no cluster is called: all connections of all threads. */
export const CONNECTIONS_OF_ALL = '';

const FULL = 1_000_000;
const SIGNALS_UP = 0;
const MOST_CONNECTIONS = 1;
const MOST_HANDSHAKES = 2;
const HEAVY_FROM = 3;
const LEVELS = 4;
const MINIMUMS = LEVELS + OVERLOAD_SIGNALS.length;
const HANDSHAKES = MINIMUMS + 2 * SCALED_TIMERS.length;
/** Threads beyond share a word, which is then zeroed with either. */
const MOST_THREADS = 256;

export function createOverloadMemory(): OverloadMemory {
  const memory = new SharedArrayBuffer((HANDSHAKES + MOST_THREADS) * 4);
  setTimerMinimums(memory, new Map());
  return memory;
}

/** 0: not active; 1: complete. Only the control thread sets it. */
export function setLevel(memory: OverloadMemory, signal: OverloadSignal, level: number): void {
  const words = new Int32Array(memory);
  const before = Atomics.exchange(words, indexOf(signal), Math.round(level * FULL));
  if (level > 0 === before > 0) return;
  Atomics.add(words, SIGNALS_UP, level > 0 ? 1 : -1);
}

export function setMaxConnections(memory: OverloadMemory, most: number | undefined): void {
  Atomics.store(new Int32Array(memory), MOST_CONNECTIONS, Math.min(most ?? 0, 2 ** 31 - 1));
}

export function setMaxHandshakes(memory: OverloadMemory, most: number): void {
  Atomics.store(new Int32Array(memory), MOST_HANDSHAKES, Math.min(most, 2 ** 31 - 1));
}

export function setTimerMinimums(memory: OverloadMemory, minimums: ReadonlyMap<ScaledTimer, TimerMinimum>): void {
  const words = new Int32Array(memory);
  SCALED_TIMERS.forEach((timer, index) => {
    const minimum = minimums.get(timer) ?? { minShare: 1 };
    const isShare = 'minShare' in minimum;
    Atomics.store(words, MINIMUMS + 2 * index, isShare ? -1 : Math.min(minimum.minMs, 2 ** 31 - 1));
    Atomics.store(words, MINIMUMS + 2 * index + 1, isShare ? Math.round(minimum.minShare * FULL) : 0);
  });
}

export function setHeavyFrom(memory: OverloadMemory, power: number): void {
  Atomics.store(new Int32Array(memory), HEAVY_FROM, power);
}

/** Of all threads. */
export function pendingHandshakes(memory: OverloadMemory): number {
  return sumOfHandshakes(new Int32Array(memory));
}

function sumOfHandshakes(words: Int32Array): number {
  let sum = 0;
  for (let index = HANDSHAKES; index < words.length; index++) sum += Atomics.load(words, index);
  return sum;
}

function indexOf(signal: OverloadSignal): number {
  return LEVELS + OVERLOAD_SIGNALS.indexOf(signal);
}

const KEEPALIVE = indexOf('disable_http_keepalive');
const REQUESTS = indexOf('stop_accepting_requests');
const ACCEPTING = indexOf('stop_accepting_connections');
const CONNECTIONS = indexOf('reject_incoming_connections');
const TIMEOUTS = indexOf('reduce_timeouts');
const RESETS = indexOf('reset_high_memory_stream');

/** A thread that comes to its timers this late sheds requests, until it comes half as late. */
const LATE_MS = 1500;
const TICK_MS = 200;
/** How often in a row it has to be late: one long task is no overload. */
const LATE_TICKS = 2;

/** shed: there is too much to do. overflow: there are as many as there may be. */
export type Acceptance = 'accepted' | 'shed' | 'overflow';

export class ThreadOverload implements HandshakeCount {
  readonly #words: Int32Array;
  readonly #handshakes: number;
  readonly #connections: Breaker;
  readonly #random: () => number;
  readonly #counter: (name: string) => Counter;
  readonly #shed = new Map<LoadShedPoint, Counter>();
  #late = false;

  /** `connections`: counts those of all threads. */
  constructor(
    memory: OverloadMemory,
    threadIndex: number,
    connections: Breaker,
    random: () => number,
    counter: (name: string) => Counter,
  ) {
    this.#words = new Int32Array(memory);
    this.#handshakes = HANDSHAKES + (threadIndex % MOST_THREADS);
    // What the thread before this one had under way died with it.
    Atomics.store(this.#words, this.#handshakes, 0);
    this.#connections = connections;
    this.#random = random;
    this.#counter = counter;
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
    return this.#late || this.#is(REQUESTS) || this.shedsAt('http_connection_manager_decode_headers');
  }

  /** Responses are their connections' last. */
  closesConnections(): boolean {
    return this.#late || this.#is(KEEPALIVE) || this.#is(REQUESTS);
  }

  /** New connections stay in the kernel's queue. */
  get stopsAccepting(): boolean {
    return Atomics.load(this.#words, ACCEPTING) >= FULL;
  }

  /** Where it is not accepted, the connection is closed unseen. Otherwise `connectionClosed` follows. */
  accept(): Acceptance {
    if (this.#is(CONNECTIONS) || this.shedsAt('tcp_listener_accept')) return 'shed';
    const most = this.#words[MOST_CONNECTIONS] as number;
    this.#connections.acquire('connections');
    if (most === 0 || this.#connections.count('connections') <= most) return 'accepted';
    this.#connections.release('connections');
    return 'overflow';
  }

  /** A connection that is accepted whatever the load. */
  acceptAnyway(): Acceptance {
    this.#connections.acquire('connections');
    return 'accepted';
  }

  connectionClosed(): void {
    this.#connections.release('connections');
  }

  /** Ends those that hold most, as far as the pressure of now asks for it. */
  shedHeavy(streams: readonly HeldMemory[]): void {
    const level = Atomics.load(this.#words, RESETS) / FULL;
    if (level === 0) return;
    const ended = shedHeavy(streams, Atomics.load(this.#words, HEAVY_FROM), level);
    this.#counter(`${fullName('reset_high_memory_stream')}.count`).add(ended);
  }

  /** How long a timeout of this kind takes under the load of now. */
  timeoutMs(timer: ScaledTimer, configuredMs: number): number {
    const at = MINIMUMS + 2 * SCALED_TIMERS.indexOf(timer);
    const minMs = Atomics.load(this.#words, at);
    const shortest =
      minMs < 0 ? (configuredMs * Atomics.load(this.#words, at + 1)) / FULL : Math.min(minMs, configuredMs);
    return configuredMs - ((configuredMs - shortest) * Atomics.load(this.#words, TIMEOUTS)) / FULL;
  }

  handshakeBegins(): boolean {
    Atomics.add(this.#words, this.#handshakes, 1);
    if (sumOfHandshakes(this.#words) <= Atomics.load(this.#words, MOST_HANDSHAKES)) return true;
    this.handshakeEnded();
    return false;
  }

  handshakeEnded(): void {
    Atomics.sub(this.#words, this.#handshakes, 1);
  }

  /** Whether load is shed at this point, this time; counted. */
  shedsAt(point: LoadShedPoint): boolean {
    // Mostly nothing is up: one look is enough.
    if (Atomics.load(this.#words, SIGNALS_UP) === 0 || !this.#is(indexOf(point))) return false;
    let counter = this.#shed.get(point);
    if (counter === undefined) {
      counter = this.#counter(`overload.${fullName(point)}.shed_load_count`);
      this.#shed.set(point, counter);
    }
    counter.inc();
    return true;
  }

  #is(index: number): boolean {
    const level = Atomics.load(this.#words, index);
    return level !== 0 && (level >= FULL || this.#random() * FULL < level);
  }
}
