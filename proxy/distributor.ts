/** Brings what is to be served to all data threads: one update after the other, whatever piled up meanwhile together. */
import type { ResourceKey, ResourceType } from '../config/resources.ts';
import { keyOf } from './configuration_state.ts';
import { makeUpdate, packResources, type Update } from './distribution.ts';
import type { HeldResource } from './held_resource.ts';

/** One round: what changed, each resource once, in the order in which it is to be applied. */
export interface Batch {
  readonly changed: readonly HeldResource[];
  readonly removed: readonly ResourceKey[];
}

export interface DistributorOptions {
  /** Before threads hear of it (sockets are opened). @returns what is to be left out. */
  prepare(batch: Batch): Promise<ReadonlySet<HeldResource>>;
  send(update: Update): Promise<void>;
  /** All threads have it. */
  distributed(batch: Batch): Promise<void>;
  failed(error: Error): void;
}

/** What names comes after what it names. */
const ORDER: readonly ResourceType[] = ['endpoint', 'secret', 'extension', 'cluster', 'route', 'scope', 'listener'];
/** A thread applies this many in one task: about 1 ms. */
const MAX_ENTRIES = 300;

export class Distributor {
  readonly #options: DistributorOptions;
  #pending = new Map<string, HeldResource | ResourceKey>();
  #queue: Promise<void> = Promise.resolve();
  #isScheduled = false;
  #epoch = 0;

  constructor(options: DistributorOptions) {
    this.#options = options;
  }

  serve(resource: HeldResource): void {
    this.#pending.set(keyOf(resource), resource);
    this.#schedule();
  }

  drop({ type, name }: ResourceKey): void {
    this.#pending.set(keyOf({ type, name }), { type, name });
    this.#schedule();
  }

  /** Between two rounds, with nothing under way: for a thread that is to be brought up. */
  between<T>(run: () => Promise<T> | T): Promise<T> {
    const result = this.#queue.then(run);
    this.#queue = result.then(
      () => {},
      () => {},
    );
    return result;
  }

  /** An update of all that is given and packed: what is not is still on its way. */
  snapshot(resources: Iterable<HeldResource>): Update {
    return makeUpdate(++this.#epoch, inOrder([...resources].filter(({ packed }) => packed !== undefined)), []);
  }

  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#queue = this.#queue
      .then(() => this.#round())
      .catch((error: Error) => {
        this.#options.failed(error);
      });
  }

  async #round(): Promise<void> {
    this.#isScheduled = false;
    const all = [...this.#pending.values()];
    this.#pending = new Map();
    const changed = inOrder(all.filter((item): item is HeldResource => 'version' in item));
    const removed = all.filter((item) => !('version' in item));
    const left = await this.#options.prepare({ changed, removed });
    const served = left.size === 0 ? changed : changed.filter((resource) => !left.has(resource));
    await packResources(served);
    for (let start = 0; start === 0 || start < served.length; start += MAX_ENTRIES) {
      const isLast = start + MAX_ENTRIES >= served.length;
      const part = served.slice(start, start + MAX_ENTRIES);
      await this.#options.send(makeUpdate(++this.#epoch, part, isLast ? removed : []));
    }
    await this.#options.distributed({ changed: served, removed });
  }
}

/** By type; those of one type as they came. */
function inOrder(resources: readonly HeldResource[]): HeldResource[] {
  const byType = new Map<ResourceType, HeldResource[]>(ORDER.map((type) => [type, []]));
  for (const resource of resources) byType.get(resource.type)?.push(resource);
  return [...byType.values()].flat();
}
