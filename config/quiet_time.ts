/** Acts once after a burst of events: when it is over, or when it has gone on for long enough. */
import { basename } from 'node:path';

export interface QuietTimeOptions {
  /** Without an event for so long, the burst is over. */
  readonly quietMs: number;
  /** From the first event on: a burst that never ends must not put the act off for ever. */
  readonly longestMs: number;
  readonly act: () => void;
}

/** For files: editors write in several steps, Kubernetes swaps links; and a log may stand in the same folder. */
export const FILE_CHANGES = { quietMs: 60, longestMs: 500 } as const;

/**
 * Whether an event of a folder's watcher may concern one of `paths`. Names that come and go may be folders and links; a
 * file that is only written to counts when it is one of them, a log beside them does not. `isRead`: of other names.
 */
export function mayConcern(
  event: string,
  name: string | null,
  paths: readonly string[],
  isRead: (name: string) => boolean = () => false,
): boolean {
  return event !== 'change' || name === null || isRead(name) || paths.some((path) => basename(path) === name);
}

export class QuietTime {
  readonly #options: QuietTimeOptions;
  #timer: NodeJS.Timeout | undefined = undefined;
  #latestMs: number | undefined = undefined;

  constructor(options: QuietTimeOptions) {
    this.#options = options;
  }

  /** An event: acts soon, keeping no process alive for it. */
  poke(): void {
    const { quietMs, longestMs, act } = this.#options;
    const nowMs = performance.now();
    this.#latestMs ??= nowMs + longestMs;
    clearTimeout(this.#timer);
    const waitMs = Math.max(0, Math.min(quietMs, this.#latestMs - nowMs));
    this.#timer = setTimeout(() => {
      this.#latestMs = undefined;
      act();
    }, waitMs).unref();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#latestMs = undefined;
  }
}
