/** Resources from files: read, compiled, watched. A bad change leaves the whole last good state. */
import { type FSWatcher, statSync, watch } from 'node:fs';
import { ConfigError } from '../proxy/config_error.ts';
import {
  classify,
  expandPaths,
  type InputFile,
  type Inputs,
  isConfigurationName,
  readFiles,
  watchedFolders,
} from './inputs.ts';
import { FILE_CHANGES, mayConcern, QuietTime } from './quiet_time.ts';
import type { ConfigSink, ConfigSource, Resource } from './resources.ts';
import { type DocumentCache, parseDocuments } from './yaml_documents.ts';

export interface FileSourceOptions {
  /** Files, folders, `-`. */
  readonly paths: readonly string[];
  /** Read after the files: `--config-yaml`. */
  readonly inline?: readonly InputFile[];
  /** A file with MeshConfig, before which a ConfigMap's gives way. */
  readonly meshPath?: string | undefined;
  /** What is between documents and resources: the Istio compiler, the bootstrap reader. @throws {ConfigError} */
  compile(inputs: Inputs): readonly Resource[] | Promise<readonly Resource[]>;
  readonly watch: boolean;
}

/** Where the system does not tell (network file systems, a folder that was replaced): look. */
const POLL_MS = 1000;

export class FileSource implements ConfigSource {
  readonly #options: FileSourceOptions;
  readonly #watchers = new Map<string, FSWatcher>();
  #cache: DocumentCache = new Map();
  #sink: ConfigSink | undefined = undefined;
  #prepared: readonly Resource[] | undefined = undefined;
  readonly #quiet = new QuietTime({ ...FILE_CHANGES, act: () => void this.#readNext() });
  #poll: NodeJS.Timeout | undefined = undefined;
  #lastTexts = '';
  #lastComplaint = '';
  #lastStamp = '';
  #stdin: string | undefined = undefined;
  #reading: Promise<boolean> = Promise.resolve(true);

  constructor(options: FileSourceOptions) {
    this.#options = options;
  }

  /** Reads and compiles before anything is started. @throws {ConfigError} when there is nothing to start with. */
  async prepare(): Promise<readonly Resource[]> {
    const resources = await this.#compile();
    this.#prepared = resources ?? [];
    return this.#prepared;
  }

  start(on: ConfigSink): void {
    this.#sink = on;
    if (this.#prepared === undefined) void this.reload();
    else on.update({ upserts: this.#prepared, removed: [], full: true, atomic: true });
    this.#prepared = undefined;
    if (this.#options.watch) this.#startWatching();
  }

  stop(): void {
    for (const watcher of this.#watchers.values()) watcher.close();
    this.#watchers.clear();
    this.#quiet.stop();
    clearInterval(this.#poll);
  }

  /** Reads again now (SIGHUP). @returns whether what stands there is served. */
  reload(): Promise<boolean> {
    this.#lastComplaint = '';
    return this.#readNext();
  }

  /** Compiles again what stands there: something else that it depends on has changed. */
  recompile(): Promise<boolean> {
    this.#lastTexts = '';
    return this.#readNext();
  }

  #readNext(): Promise<boolean> {
    this.#reading = this.#reading.then(() => this.#read());
    return this.#reading;
  }

  async #read(): Promise<boolean> {
    try {
      const upserts = await this.#compile();
      this.#lastComplaint = '';
      if (upserts === undefined) return true;
      const result = this.#sink?.update({ upserts, removed: [], full: true, atomic: true });
      return result === undefined || result.rejected.length === 0;
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error;
      this.#lastTexts = '';
      const complaint = configSentence(error);
      // Told of the same change twice (by the system and by looking): said once.
      if (complaint !== this.#lastComplaint) this.#sink?.unreadable([complaint]);
      this.#lastComplaint = complaint;
      return false;
    }
  }

  /** @returns undefined when the texts are those of last time. */
  async #compile(): Promise<readonly Resource[] | undefined> {
    const { paths, inline = [], meshPath } = this.#options;
    const files = [...readFiles(paths, this.#stdin), ...inline];
    const mesh = meshPath === undefined ? undefined : (readFiles([meshPath])[0] as InputFile);
    this.#stdin ??= files.find(({ name }) => name === '<stdin>')?.text;
    const texts = [...files, ...(mesh === undefined ? [] : [mesh])]
      .map(({ name, text }) => `${name}\0${text}`)
      .join('\0');
    if (texts === this.#lastTexts) return undefined;
    const cache: DocumentCache = new Map(this.#cache);
    const inputs = classify(files, cache);
    const meshJson = mesh === undefined ? undefined : parseDocuments(mesh.text, mesh.name)[0]?.json;
    const upserts = await this.#options.compile({ ...inputs, mesh: meshJson ?? inputs.mesh });
    this.#lastTexts = texts;
    this.#cache = cache.size > 2 * inputs.objects.length + 100 ? new Map() : cache;
    return upserts;
  }

  #startWatching(): void {
    this.#watchFolders();
    this.#lastStamp = this.#stamp();
    this.#poll = setInterval(() => {
      const stamp = this.#stamp();
      if (stamp === this.#lastStamp) return;
      this.#lastStamp = stamp;
      this.#watchFolders();
      this.#quiet.poke();
    }, POLL_MS).unref();
  }

  /** One watcher a folder: what node watches recursively it reads whole, and beside a file may lie anything. */
  #watchFolders(): void {
    const { paths, meshPath } = this.#options;
    const wanted = new Set(watchedFolders(meshPath === undefined ? paths : [...paths, meshPath]));
    for (const [folder, watcher] of this.#watchers) {
      if (wanted.has(folder)) continue;
      watcher.close();
      this.#watchers.delete(folder);
    }
    for (const folder of wanted) {
      if (this.#watchers.has(folder)) continue;
      try {
        const watcher = watch(folder, (event, name) => this.#onEvent(event, name));
        watcher.on('error', () => {
          watcher.close();
          this.#watchers.delete(folder);
        });
        this.#watchers.set(folder, watcher);
      } catch {
        // The poll sees it.
      }
    }
  }

  #onEvent(event: string, name: string | null): void {
    const { paths, meshPath = '-' } = this.#options;
    if (mayConcern(event, name, [...paths, meshPath], isConfigurationName)) this.#quiet.poke();
  }

  /** Size and time of every file: changes when one does. */
  #stamp(): string {
    try {
      const { paths, meshPath } = this.#options;
      return expandPaths(meshPath === undefined ? paths : [...paths, meshPath])
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
export function configSentence(error: ConfigError): string {
  return error.origin === undefined || error.message.includes(error.origin)
    ? error.message
    : `${error.origin}: ${error.message}`;
}
