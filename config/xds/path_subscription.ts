/** Resources of one type out of a file with a DiscoveryResponse in YAML or JSON, read again when it changes. */
import { type FSWatcher, readFileSync, watch } from 'node:fs';
import { dirname } from 'node:path';
import { ConfigError } from '../../proxy/config_error.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { FILE_CHANGES, mayConcern, QuietTime } from '../quiet_time.ts';
import { parseDocuments } from '../yaml_documents.ts';
import { encodeMessage, type Push, type PushedResource } from './discovery_messages.ts';
import type { XdsType } from './resource_types.ts';

export interface PathEvents {
  onPush(push: Push, names: ReadonlySet<string>): Promise<unknown>;
  onUnreadable(reason: string): void;
}

export class PathSubscription {
  readonly #path: string;
  readonly #type: XdsType;
  readonly #events: PathEvents;
  readonly #names = new Set<string>();
  #watcher: FSWatcher | undefined = undefined;
  readonly #quiet = new QuietTime({ ...FILE_CHANGES, act: () => void this.#read() });
  #first: NodeJS.Immediate | undefined = undefined;
  #lastText: string | undefined = undefined;
  #isStopped = false;

  constructor(path: string, type: XdsType, events: PathEvents) {
    this.#path = path;
    this.#type = type;
    this.#events = events;
  }

  subscribeAll(): void {
    this.#watch();
    this.#readAtOnce();
  }

  subscribe(name: string): void {
    this.#names.add(name);
    this.#lastText = undefined;
    this.#watch();
    this.#readAtOnce();
  }

  unsubscribe(name: string): void {
    this.#names.delete(name);
  }

  stop(): void {
    this.#isStopped = true;
    clearImmediate(this.#first);
    this.#quiet.stop();
    this.#watcher?.close();
  }

  #watch(): void {
    if (this.#watcher !== undefined) return;
    try {
      // The folder: Kubernetes swaps links, and an editor replaces the file.
      this.#watcher = watch(dirname(this.#path), (event, name) => {
        if (mayConcern(event, name, [this.#path])) this.#quiet.poke();
      });
      this.#watcher.on('error', () => {});
      this.#watcher.unref();
    } catch (error) {
      this.#events.onUnreadable(`Cannot watch ${this.#path}: ${(error as Error).message}`);
    }
  }

  /** Once for all the names that are subscribed to together. */
  #readAtOnce(): void {
    if (this.#isStopped) return;
    clearImmediate(this.#first);
    this.#first = setImmediate(() => void this.#read());
  }

  async #read(): Promise<void> {
    try {
      const text = readFileSync(this.#path, 'utf8');
      if (text === this.#lastText) return;
      this.#lastText = text;
      await this.#events.onPush(this.#parse(text), this.#names);
    } catch (error) {
      const { message } = error as Error;
      if (!(error instanceof ConfigError) && !('code' in (error as object))) throw error;
      this.#events.onUnreadable(`Cannot use ${this.#path}: ${message}`);
    }
  }

  #parse(text: string): Push {
    const fields = new Fields(parseDocuments(text, this.#path)[0]?.json ?? {});
    const resources = fields.messages('resources').map((resource): PushedResource => {
      const typeUrl = resource.requiredString('@type');
      const { '@type': _, ...json } = resource.json;
      const name = resource.string('name') ?? resource.string('cluster_name') ?? '';
      if (typeUrl !== this.#type.url) return { name, version: '', typeUrl, bytes: Buffer.alloc(0) };
      try {
        return { name, version: '', typeUrl, bytes: encodeMessage(this.#type.message, json) };
      } catch (error) {
        throw new ConfigError(resource.path, (error as Error).message, { cause: error });
      }
    });
    const version = fields.string('version_info') ?? '';
    return { typeUrl: this.#type.url, version, nonce: '', resources, removed: [], controlPlane: '', isComplete: true };
  }
}
