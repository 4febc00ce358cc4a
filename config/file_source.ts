/** Resources from files: read, compiled, watched. A bad change leaves the whole last good state. */
import { type FSWatcher, statSync, watch } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { ConfigError } from '../proxy/config_error.ts';
import { classify, expandPaths, type Inputs, readFiles } from './inputs.ts';
import type { ConfigSource, Resource, ResourceChange, UpdateResult } from './resources.ts';
import type { DocumentCache } from './yaml_documents.ts';

export interface FileSourceOptions {
  readonly paths: readonly string[];
  /** What is between documents and resources: the Istio compiler, the bootstrap reader. @throws {ConfigError} */
  compile(inputs: Inputs): readonly Resource[] | Promise<readonly Resource[]>;
  /** After every reading: the complaints ([] if none) and what was found. */
  onRead?(result: FileReadResult): void;
  readonly watch: boolean;
}

export interface FileReadResult {
  readonly errors: readonly string[];
  readonly inputs: Inputs | undefined;
}

/** Editors write in several steps, Kubernetes swaps links: wait until it is quiet. */
const DEBOUNCE_MS = 60;
/** Where the system does not tell (network file systems, a folder that was replaced): look. */
const POLL_MS = 1000;

export class FileSource implements ConfigSource {
  readonly #options: FileSourceOptions;
  readonly #watchers: FSWatcher[] = [];
  #cache: DocumentCache = new Map();
  #update: ((change: ResourceChange) => UpdateResult) | undefined = undefined;
  #debounce: NodeJS.Timeout | undefined = undefined;
  #poll: NodeJS.Timeout | undefined = undefined;
  #lastTexts = '';
  #lastStamp = '';
  #stdin: string | undefined = undefined;
  #reading: Promise<boolean> = Promise.resolve(true);

  constructor(options: FileSourceOptions) {
    this.#options = options;
  }

  start(on: { update(change: ResourceChange): UpdateResult }): void {
    this.#update = (change) => on.update(change);
    void this.reload();
    if (this.#options.watch) this.#startWatching();
  }

  stop(): void {
    for (const watcher of this.#watchers.splice(0)) watcher.close();
    clearTimeout(this.#debounce);
    clearInterval(this.#poll);
  }

  /** Reads again now (SIGHUP). @returns whether what stands there is served. */
  reload(): Promise<boolean> {
    this.#reading = this.#reading.then(() => this.#read());
    return this.#reading;
  }

  async #read(): Promise<boolean> {
    try {
      const files = readFiles(this.#options.paths, this.#stdin);
      const stdin = files.find(({ name }) => name === '<stdin>');
      if (stdin !== undefined) this.#stdin = stdin.text;
      const texts = files.map(({ name, text }) => `${name}\0${text}`).join('\0');
      if (texts === this.#lastTexts) return true;
      const cache: DocumentCache = new Map(this.#cache);
      const inputs = classify(files, cache);
      const upserts = await this.#options.compile(inputs);
      this.#lastTexts = texts;
      this.#cache = cache.size > 2 * inputs.objects.length + 100 ? new Map() : cache;
      this.#options.onRead?.({ errors: [], inputs });
      const result = this.#update?.({ upserts, removed: [], full: true, atomic: true });
      return result === undefined || result.rejected.length === 0;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      this.#lastTexts = '';
      this.#options.onRead?.({ errors: [sentence(error)], inputs: undefined });
      return false;
    }
  }

  #startWatching(): void {
    const folders = new Set<string>();
    for (const path of this.#options.paths) {
      if (path === '-') continue;
      const folder = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true ? path : dirname(path);
      folders.add(resolve(folder));
    }
    for (const folder of folders) {
      try {
        const watcher = watch(folder, { recursive: true }, () => this.#changed());
        watcher.on('error', () => watcher.close());
        this.#watchers.push(watcher);
      } catch {
        // The poll below sees it.
      }
    }
    this.#lastStamp = this.#stamp();
    this.#poll = setInterval(() => {
      const stamp = this.#stamp();
      if (stamp === this.#lastStamp) return;
      this.#lastStamp = stamp;
      this.#changed();
    }, POLL_MS).unref();
  }

  #changed(): void {
    clearTimeout(this.#debounce);
    this.#debounce = setTimeout(() => void this.reload(), DEBOUNCE_MS).unref();
  }

  /** Size and time of every file: changes when one does. */
  #stamp(): string {
    try {
      return expandPaths(this.#options.paths)
        .map((path) => {
          if (path === '-') return path;
          const { mtimeMs, size, ino } = statSync(path);
          return `${path} ${mtimeMs} ${size} ${ino}`;
        })
        .join('\n');
    } catch {
      return 'unreadable';
    }
  }
}

/** The complaint with its place in front, once. */
function sentence(error: ConfigError): string {
  return error.origin === undefined || error.message.includes(error.origin)
    ? error.message
    : `${error.origin}: ${error.message}`;
}
