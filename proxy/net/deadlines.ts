/**
 * Timeouts that cost a list operation each: entries with the same duration stand in order of expiry, one real timer
 * watches the first. (setTimeout and clearTimeout cost 250 ns together, this pair about 20.)
 */
import type { ScaledTimer } from '../overload/scaled_timers.ts';

/** Something with a timeout. One entry stands in one list at a time. */
export class Deadline {
  readonly onExpire: () => void;
  /** Maintained by Deadlines. */
  armedMs = 0;
  previous: Deadline | undefined = undefined;
  next: Deadline | undefined = undefined;
  list: DeadlineList | undefined = undefined;

  constructor(onExpire: () => void) {
    this.onExpire = onExpire;
  }

  get armed(): boolean {
    return this.list !== undefined;
  }

  /** Does nothing when it is not armed. */
  cancel(): void {
    this.list?.remove(this);
  }
}

/** Of this thread, for those who look whether anything is forgotten. */
let runningTimers = 0;
let armedDeadlines = 0;

export function deadlineCounts(): { readonly timers: number; readonly armed: number } {
  return { timers: runningTimers, armed: armedDeadlines };
}

/** All deadlines of one thread. A deadline fires at its time or up to 10 ms later. */
export class Deadlines {
  readonly #lists = new Map<number, DeadlineList>();
  readonly #scaled = new Map<ScaledTimer, Map<number, DeadlineList>>();
  #scale: (kind: ScaledTimer, durationMs: number) => number = (_, durationMs) => durationMs;
  readonly #nowMs: () => number;

  /** `nowMs`: monotonic milliseconds. */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** The list for timeouts of this length: keep it where the length is configured. `durationMs` > 0. */
  list(durationMs: number): DeadlineList {
    let list = this.#lists.get(durationMs);
    if (list === undefined) {
      list = new DeadlineList(durationMs, this.#nowMs, (empty) => {
        if (this.#lists.get(empty.durationMs) === empty) this.#lists.delete(empty.durationMs);
      });
      this.#lists.set(durationMs, list);
    }
    return list;
  }

  /** A list whose timeouts may become shorter than configured. It stays: there are as many as configured durations. */
  scaled(kind: ScaledTimer, durationMs: number): DeadlineList {
    let lists = this.#scaled.get(kind);
    if (lists === undefined) {
      lists = new Map();
      this.#scaled.set(kind, lists);
    }
    let list = lists.get(durationMs);
    if (list === undefined) {
      list = new DeadlineList(durationMs, this.#nowMs, () => {});
      list.rescale(this.#scale(kind, durationMs));
      lists.set(durationMs, list);
    }
    return list;
  }

  /** `scale`: how long a timeout of this kind takes now, by how long it is configured to. */
  rescale(scale: (kind: ScaledTimer, durationMs: number) => number): void {
    this.#scale = scale;
    for (const [kind, lists] of this.#scaled) {
      for (const [durationMs, list] of lists) list.rescale(scale(kind, durationMs));
    }
  }
}

export class DeadlineList {
  readonly durationMs: number;
  /** As long as `durationMs`, unless it is scaled. */
  #currentMs: number;
  readonly #nowMs: () => number;
  readonly #onEmpty: (list: DeadlineList) => void;
  #first: Deadline | undefined = undefined;
  #last: Deadline | undefined = undefined;
  #timer: NodeJS.Timeout | undefined = undefined;
  /** What is due is told: what is armed meanwhile comes after what is there already. */
  #isExpiring = false;

  constructor(durationMs: number, nowMs: () => number, onEmpty: (list: DeadlineList) => void) {
    this.durationMs = durationMs;
    this.#currentMs = durationMs;
    this.#nowMs = nowMs;
    this.#onEmpty = onEmpty;
  }

  /** Arms, or arms anew from now. */
  arm(deadline: Deadline, nowMs = this.#nowMs()): void {
    if (deadline.list !== undefined) deadline.list.remove(deadline);
    armedDeadlines++;
    deadline.armedMs = nowMs;
    deadline.list = this;
    deadline.previous = this.#last;
    if (this.#last === undefined) this.#first = deadline;
    else this.#last.next = deadline;
    this.#last = deadline;
    if (this.#timer === undefined && !this.#isExpiring) this.#start(this.#currentMs);
  }

  /** What is armed, and what will be, takes this long from when it was armed. */
  rescale(currentMs: number): void {
    if (currentMs === this.#currentMs) return;
    this.#currentMs = currentMs;
    if (this.#timer === undefined || this.#first === undefined) return;
    clearTimeout(this.#timer);
    runningTimers--;
    this.#start(this.#first.armedMs + currentMs - this.#nowMs());
  }

  remove(deadline: Deadline): void {
    armedDeadlines--;
    const { previous, next } = deadline;
    if (previous === undefined) this.#first = next;
    else previous.next = next;
    if (next === undefined) this.#last = previous;
    else next.previous = previous;
    deadline.previous = undefined;
    deadline.next = undefined;
    deadline.list = undefined;
  }

  #start(delayMs: number): void {
    runningTimers++;
    // Longer than setTimeout can count: it wakes early and finds nothing due.
    this.#timer = setTimeout(() => this.#expire(), Math.min(Math.max(1, Math.ceil(delayMs)), 2 ** 31 - 1)).unref();
  }

  #expire(): void {
    runningTimers--;
    this.#timer = undefined;
    const nowMs = this.#nowMs();
    this.#isExpiring = true;
    try {
      while (this.#first !== undefined && this.#first.armedMs + this.#currentMs <= nowMs + 0.5) {
        const due = this.#first;
        this.remove(due);
        due.onExpire();
      }
    } finally {
      this.#isExpiring = false;
    }
    if (this.#first === undefined) this.#onEmpty(this);
    else this.#start(this.#first.armedMs + this.#currentMs - nowMs);
  }
}
