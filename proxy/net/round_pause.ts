/**
 * A pause between two rounds of the event loop, as network cards moderate their interrupts. A thread that is faster than
 * its peers is woken for every single message: with 64 streams over HTTP/2 a request then costs 0.8 reads, writes and
 * waits, and the kernel takes 60 % of the CPU time. While a thread pauses, messages gather, and share their system calls
 * here and at the peers (measurements: bench/README.md).
 *
 * Nobody should feel it: it pauses only while so many streams are open that they wait for each other longer than for the
 * pause, and while rounds follow each other closely and do little. A thread at its limits has long rounds, and none.
 */

/** The kernel adds its slack to it, by default 50 µs on Linux. */
const PAUSE_MS = 0.01;
/** A pause that takes as long was not worth it: timers are coarse here, or others want the core. */
const MAX_PAUSE_MS = 1;
/** Fewer streams would wait for the pause rather than for each other. */
const MIN_OPEN_STREAMS = 16;
/** A round that takes longer has enough to do. */
const MAX_WORK_MS = 0.1;
/** Rounds further apart than this share nothing. */
const MAX_GAP_MS = 0.1;
/** So many pauses in a row that bring a single message, or one that takes too long, … */
const MAX_IDLE_PAUSES = 8;
/** … and so many rounds go without. */
export const ROUNDS_WITHOUT = 256;

export class RoundPause {
  readonly #nowMs: () => number;
  readonly #wait: (ms: number) => void;
  #openStreams = 0;
  /** Requests and answers that have begun since the last round. */
  #messages = 0;
  #paused = false;
  #idlePauses = 0;
  #roundsWithout = 0;
  #lastEndMs = 0;

  /** `nowMs`: monotonic. `wait` stops the thread for so long. */
  constructor(nowMs: () => number, wait: (ms: number) => void) {
    this.#nowMs = nowMs;
    this.#wait = wait;
  }

  streamOpened(): void {
    this.#openStreams++;
    this.#messages++;
  }

  streamAnswered(): void {
    this.#messages++;
  }

  streamClosed(): void {
    this.#openStreams--;
  }

  /** All output of a round has left; its first was written at `beganMs`. Pauses if that is worth while. */
  roundOver(beganMs: number): void {
    const messages = this.#messages;
    this.#messages = 0;
    if (this.#paused) this.#judge(messages);
    const endMs = this.#nowMs();
    const isClose = beganMs - this.#lastEndMs <= MAX_GAP_MS;
    this.#lastEndMs = endMs;
    if (!isClose || this.#openStreams < MIN_OPEN_STREAMS || endMs - beganMs > MAX_WORK_MS) return;
    if (this.#roundsWithout > 0) {
      this.#roundsWithout--;
      return;
    }
    this.#wait(PAUSE_MS);
    this.#paused = true;
    this.#lastEndMs = this.#nowMs();
    if (this.#lastEndMs - endMs > MAX_PAUSE_MS) this.#roundsWithout = ROUNDS_WITHOUT;
  }

  /** `messages`: of the round behind a pause. */
  #judge(messages: number): void {
    this.#paused = false;
    if (messages > 1) this.#idlePauses = 0;
    else if (++this.#idlePauses >= MAX_IDLE_PAUSES) {
      this.#idlePauses = 0;
      this.#roundsWithout = ROUNDS_WITHOUT;
    }
  }
}

const nobodyWakesIt = new Int32Array(new SharedArrayBuffer(4));

/** Of this thread. */
export const roundPause = new RoundPause(
  () => performance.now(),
  (ms) => Atomics.wait(nobodyWakesIt, 0, 0, ms),
);
