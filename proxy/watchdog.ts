/**
 * Threads that do not come back to their event loop, counted. Each data thread beats in a word of shared memory; the
 * control thread looks whether it has, and at the lateness of its own timer for itself.
 * Envoy: envoy.config.bootstrap.v3.Watchdogs, source/server/guarddog_impl.cc. Nothing is ever killed for it.
 */
import type { Fields } from './resource_fields.ts';
import type { Counter, Statistics } from './telemetry/statistics.ts';

/** How often threads beat, and are looked at. */
export const BEAT_MS = 100;
const DEFAULT_MISS_MS = 200;
const DEFAULT_MEGA_MISS_MS = 1000;

export type Heartbeat = SharedArrayBuffer;

export function createHeartbeat(): Heartbeat {
  return new SharedArrayBuffer(4);
}

/** Called by the thread itself. */
export function startBeating(heartbeat: Heartbeat): void {
  const beats = new Int32Array(heartbeat);
  setInterval(() => Atomics.add(beats, 0, 1), BEAT_MS).unref();
}

export interface Patience {
  readonly missMs: number;
  readonly megaMissMs: number;
}

export interface WatchdogConfig {
  readonly main: Patience;
  readonly workers: Patience;
}

/** Of a bootstrap. @throws {ConfigError} for timeouts that would end the process: nothing here does. */
export function parseWatchdogs(bootstrap: Fields): WatchdogConfig {
  const both = bootstrap.message('watchdog');
  const each = bootstrap.message('watchdogs');
  return {
    main: parsePatience(each?.message('main_thread_watchdog') ?? both),
    workers: parsePatience(each?.message('worker_watchdog') ?? both),
  };
}

function parsePatience(fields: Fields | undefined): Patience {
  for (const name of ['kill_timeout', 'multikill_timeout']) {
    if ((fields?.durationMs(name) ?? 0) > 0) fields?.fail(name, 'a thread that hangs is counted, not killed');
  }
  if ((fields?.list('actions').length ?? 0) > 0) fields?.fail('actions', 'are not supported');
  return {
    missMs: fields?.durationMs('miss_timeout') ?? DEFAULT_MISS_MS,
    megaMissMs: fields?.durationMs('megamiss_timeout') ?? DEFAULT_MEGA_MISS_MS,
  };
}

/** Counts once for each time that somebody stayed away. */
class Absence {
  readonly #patience: Patience;
  readonly #miss: readonly Counter[];
  readonly #megaMiss: readonly Counter[];
  #missed = false;
  #megaMissed = false;

  constructor(patience: Patience, statistics: Statistics, names: readonly string[]) {
    this.#patience = patience;
    this.#miss = names.map((name) => statistics.counter(`${name}.watchdog_miss`));
    this.#megaMiss = names.map((name) => statistics.counter(`${name}.watchdog_mega_miss`));
  }

  back(): void {
    this.#missed = false;
    this.#megaMissed = false;
  }

  away(forMs: number): void {
    const { missMs, megaMissMs } = this.#patience;
    if (!this.#missed && forMs > missMs) {
      this.#missed = true;
      for (const counter of this.#miss) counter.inc();
    }
    if (!this.#megaMissed && forMs > megaMissMs) {
      this.#megaMissed = true;
      for (const counter of this.#megaMiss) counter.inc();
    }
  }
}

interface Watched {
  heartbeat: Heartbeat;
  beats: Int32Array;
  last: number;
  sinceMs: number;
  readonly absence: Absence;
}

export class Watchdog {
  readonly #heartbeats: () => readonly (Heartbeat | undefined)[];
  readonly #threads: Watched[];
  readonly #main: Absence;
  readonly #timer: NodeJS.Timeout;
  #lastLookMs: number;

  /** `heartbeats`: by thread; undefined: it is not there. One that has not beaten yet is starting. */
  constructor(
    config: WatchdogConfig,
    statistics: Statistics,
    count: number,
    heartbeats: () => readonly (Heartbeat | undefined)[],
  ) {
    this.#heartbeats = heartbeats;
    this.#main = new Absence(config.main, statistics, ['main_thread', 'server.main_thread']);
    const none = createHeartbeat();
    this.#threads = Array.from({ length: count }, (_, index) => ({
      heartbeat: none,
      beats: new Int32Array(none),
      last: 0,
      sinceMs: 0,
      absence: new Absence(config.workers, statistics, ['workers', `server.worker_${index}`]),
    }));
    this.#lastLookMs = performance.now();
    this.#timer = setInterval(() => this.look(performance.now()), BEAT_MS).unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  look(nowMs: number): void {
    const lateMs = nowMs - this.#lastLookMs - BEAT_MS;
    this.#lastLookMs = nowMs;
    this.#main.back();
    this.#main.away(lateMs);
    const heartbeats = this.#heartbeats();
    for (const [index, watched] of this.#threads.entries()) {
      const heartbeat = heartbeats[index];
      if (heartbeat === undefined) continue;
      if (heartbeat !== watched.heartbeat) {
        watched.heartbeat = heartbeat;
        watched.beats = new Int32Array(heartbeat);
        watched.last = 0;
      }
      const beats = Atomics.load(watched.beats, 0);
      if (beats !== watched.last) {
        watched.last = beats;
        watched.sinceMs = nowMs;
        watched.absence.back();
      } else if (beats !== 0) {
        // What passed while nobody looked may have been anybody's.
        if (lateMs > BEAT_MS) watched.sinceMs += lateMs;
        watched.absence.away(nowMs - watched.sinceMs);
      }
    }
  }
}
