/** Writes access-log lines of all threads to files and streams, off everybody's way. */
import { closeSync, openSync, write } from 'node:fs';

interface Target {
  readonly fd: number;
  readonly queue: { readonly text: string; readonly done: () => void }[];
  writing: boolean;
}

export class LogWriter {
  readonly #targets = new Map<string, Target>();
  readonly #onError: (path: string, error: Error) => void;
  readonly #idle: (() => void)[] = [];

  constructor(onError: (path: string, error: Error) => void) {
    this.#onError = onError;
  }

  /** `done` is called when the lines are written, or lost for good. */
  write(path: string, text: string, done: () => void): void {
    const target = this.#target(path);
    if (target === undefined) return done();
    target.queue.push({ text, done });
    if (!target.writing) this.#next(path, target);
  }

  /** Opens files anew, for log rotation (SIGUSR2). */
  reopen(): void {
    for (const [path, target] of [...this.#targets]) {
      if (target.fd <= 2 || target.writing) continue;
      closeSync(target.fd);
      this.#targets.delete(path);
    }
  }

  /** Resolves when nothing is left to write. */
  async drain(): Promise<void> {
    if ([...this.#targets.values()].every((target) => !target.writing)) return;
    await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  #target(path: string): Target | undefined {
    let target = this.#targets.get(path);
    if (target === undefined) {
      try {
        const fd = path === '/dev/stdout' ? 1 : path === '/dev/stderr' ? 2 : openSync(path, 'a');
        target = { fd, queue: [], writing: false };
        this.#targets.set(path, target);
      } catch (error) {
        this.#onError(path, error as Error);
      }
    }
    return target;
  }

  #next(path: string, target: Target): void {
    const item = target.queue.shift();
    if (item === undefined) {
      target.writing = false;
      if ([...this.#targets.values()].every((other) => !other.writing))
        for (const resolve of this.#idle.splice(0)) resolve();
      return;
    }
    target.writing = true;
    this.#writeAll(path, target, Buffer.from(item.text), () => {
      item.done();
      this.#next(path, target);
    });
  }

  #writeAll(path: string, target: Target, bytes: Buffer, done: () => void): void {
    write(target.fd, bytes, 0, bytes.length, null, (error, written) => {
      if (error !== null && error.code === 'EAGAIN') {
        // A pipe whose reader is slow: try again; threads drop and count once their share is used up.
        setTimeout(() => this.#writeAll(path, target, bytes, done), 10);
      } else if (error !== null) {
        if (error.code !== 'EPIPE') this.#onError(path, error);
        done();
      } else if (written < bytes.length) this.#writeAll(path, target, bytes.subarray(written), done);
      else done();
    });
  }
}
