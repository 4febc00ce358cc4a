/** Files read on the control thread, and read again when they change: links that are swapped, files written in steps. */
import { type FSWatcher, readFileSync, statSync, watch } from 'node:fs';
import { dirname } from 'node:path';

export interface WatchedFilesOptions {
  /** Some of these have changed, been made or gone. */
  onChange(paths: ReadonlySet<string>): void;
  /** Default 100 (FILE_DEBOUNCE_DURATION). */
  readonly debounceMs?: number;
}

/** Where the system does not tell (network file systems, folders that are swapped): look. */
const POLL_MS = 1000;

export class WatchedFiles {
  readonly #options: WatchedFilesOptions;
  /** By path: what told its last state. */
  readonly #stamps = new Map<string, string>();
  readonly #watchers = new Map<string, FSWatcher>();
  #poll: NodeJS.Timeout | undefined = undefined;
  #debounce: NodeJS.Timeout | undefined = undefined;

  constructor(options: WatchedFilesOptions) {
    this.#options = options;
  }

  /** Watches from now on. @returns undefined where it cannot be read. */
  add(path: string): Buffer | undefined {
    this.#stamps.set(path, stampOf(path));
    this.#watchFolder(dirname(path));
    this.#poll ??= setInterval(() => this.#look(), POLL_MS).unref();
    return read(path);
  }

  remove(path: string): void {
    this.#stamps.delete(path);
    const folder = dirname(path);
    if ([...this.#stamps.keys()].some((other) => dirname(other) === folder)) return;
    this.#watchers.get(folder)?.close();
    this.#watchers.delete(folder);
  }

  close(): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
    clearInterval(this.#poll);
    clearTimeout(this.#debounce);
    this.#stamps.clear();
  }

  #watchFolder(folder: string): void {
    if (this.#watchers.has(folder)) return;
    try {
      const watcher = watch(folder, () => this.#soon());
      watcher.unref();
      watcher.on('error', () => {
        watcher.close();
        this.#watchers.delete(folder);
      });
      this.#watchers.set(folder, watcher);
    } catch {
      // The poll sees it.
    }
  }

  /** Something happened nearby: certificate and key are rarely written at once. */
  #soon(): void {
    clearTimeout(this.#debounce);
    this.#debounce = setTimeout(() => this.#look(), this.#options.debounceMs ?? 100).unref();
  }

  #look(): void {
    const changed = new Set<string>();
    for (const [path, before] of this.#stamps) {
      const now = stampOf(path);
      if (now === before) continue;
      this.#stamps.set(path, now);
      changed.add(path);
    }
    if (changed.size > 0) this.#options.onChange(changed);
  }
}

function stampOf(path: string): string {
  const found = statSync(path, { throwIfNoEntry: false, bigint: true });
  return found === undefined ? '' : `${found.ino} ${found.size} ${found.mtimeNs}`;
}

export function read(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch {
    return undefined;
  }
}
