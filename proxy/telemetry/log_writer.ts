/**
 * Writes access-log lines of all threads to files and streams, off everybody's way. One write a target is under way at a
 * time; what threads may have outstanding is bounded by them (worker.ts), and beyond it they drop and count.
 */
import { write } from 'node:fs';
import { type LogDescriptor, openLogDescriptor } from './log_descriptor.ts';
import type { Counter, Gauge, Statistics } from './statistics.ts';

/** A pipe that is full is tried again after this long. */
const AGAIN_MS = 10;
/** One complaint a target in this time: a full disk fails every write. */
const COMPLAINT_MS = 60_000;

interface Item {
  readonly bytes: Uint8Array;
  readonly done: () => void;
}

interface Target {
  descriptor: LogDescriptor;
  readonly queue: Item[];
  writing: boolean;
  /** Logs rotate: to be opened anew before the next write. */
  stale: boolean;
}

export class LogWriter {
  readonly #targets = new Map<string, Target>();
  readonly #onError: (path: string, error: Error) => void;
  readonly #idle: (() => void)[] = [];
  readonly #complainedMs = new Map<string, number>();
  readonly #statistics: LogWriterStatistics;

  constructor(statistics: Statistics, onError: (path: string, error: Error) => void) {
    this.#statistics = new LogWriterStatistics(statistics);
    this.#onError = onError;
  }

  /** `done` is called when the lines are written, or lost for good. */
  write(path: string, bytes: Uint8Array, done: () => void): void {
    const target = this.#target(path);
    if (target === undefined) {
      this.#statistics.failed.inc();
      return done();
    }
    this.#statistics.buffered.inc();
    this.#statistics.taken.inc();
    target.queue.push({ bytes, done });
    if (!target.writing) this.#next(path, target);
  }

  /** Opens files anew, for log rotation (SIGUSR2, /reopen_logs). */
  reopen(): void {
    for (const [path, target] of this.#targets) {
      if (!target.descriptor.isFile) continue;
      if (target.writing) target.stale = true;
      else this.#reopen(path, target);
    }
    this.#complainedMs.clear();
  }

  /** Resolves when nothing is left to write, or after `limitMs`: nobody may be reading. @returns what was lost, in batches. */
  async drain(limitMs = 2000): Promise<number> {
    if (this.#quiet) return 0;
    let timer: NodeJS.Timeout | undefined;
    await Promise.race([
      new Promise<void>((resolve) => this.#idle.push(resolve)),
      new Promise<void>((resolve) => {
        timer = setTimeout(resolve, limitMs);
      }),
    ]);
    clearTimeout(timer);
    let lost = 0;
    for (const { queue, writing } of this.#targets.values()) lost += queue.length + (writing ? 1 : 0);
    return lost;
  }

  get #quiet(): boolean {
    for (const { writing } of this.#targets.values()) if (writing) return false;
    return true;
  }

  #target(path: string): Target | undefined {
    const known = this.#targets.get(path);
    if (known !== undefined) return known;
    try {
      const target: Target = { descriptor: openLogDescriptor(path), queue: [], writing: false, stale: false };
      this.#targets.set(path, target);
      return target;
    } catch (error) {
      this.#complain(path, error as Error);
      return undefined;
    }
  }

  #reopen(path: string, target: Target): void {
    target.stale = false;
    try {
      const fresh = openLogDescriptor(path);
      target.descriptor.close();
      target.descriptor = fresh;
    } catch (error) {
      // The old file goes on.
      this.#statistics.reopenFailed.inc();
      this.#complain(path, error as Error);
    }
  }

  #next(path: string, target: Target): void {
    if (target.stale) this.#reopen(path, target);
    const item = target.queue.shift();
    if (item === undefined) {
      target.writing = false;
      if (this.#quiet) for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    target.writing = true;
    this.#writeAll(path, target, item.bytes, () => {
      this.#statistics.buffered.dec();
      item.done();
      this.#next(path, target);
    });
  }

  #writeAll(path: string, target: Target, bytes: Uint8Array, done: () => void): void {
    write(target.descriptor.fd, bytes, 0, bytes.length, null, (error, written) => {
      if (error !== null && error.code === 'EAGAIN') {
        // A pipe whose reader is slow: threads drop and count once their share is used up.
        setTimeout(() => this.#writeAll(path, target, bytes, done), AGAIN_MS).unref();
      } else if (error !== null) {
        this.#statistics.failed.inc();
        if (error.code !== 'EPIPE') this.#complain(path, error);
        done();
      } else if (written < bytes.length) this.#writeAll(path, target, bytes.subarray(written), done);
      else {
        this.#statistics.completed.inc();
        done();
      }
    });
  }

  #complain(path: string, error: Error): void {
    const nowMs = performance.now();
    const lastMs = this.#complainedMs.get(path);
    if (lastMs !== undefined && nowMs - lastMs < COMPLAINT_MS) return;
    this.#complainedMs.set(path, nowMs);
    this.#onError(path, error);
  }
}

/** Envoy's names: `filesystem.…`; batches, not lines. */
class LogWriterStatistics {
  readonly completed: Counter;
  readonly failed: Counter;
  readonly reopenFailed: Counter;
  readonly buffered: Gauge;
  /** Handed over to be written. */
  readonly taken: Counter;

  constructor(statistics: Statistics) {
    this.completed = statistics.counter('filesystem.write_completed');
    this.failed = statistics.counter('filesystem.write_failed');
    this.reopenFailed = statistics.counter('filesystem.reopen_failed');
    this.taken = statistics.counter('filesystem.write_buffered');
    this.buffered = statistics.gauge('filesystem.write_total_buffered');
  }
}
