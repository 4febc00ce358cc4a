/**
 * A thread's own statistics: numbers in shared memory that only this thread writes, with no atomics. Slots are handed
 * out here and made known by name; the control thread adds up what it reads. The memory outlives the thread.
 */
import type { Counter, Gauge, Histogram, Labels, Statistics } from './statistics.ts';

export type SeriesKind = 'counter' | 'gauge' | 'histogram';

/** What the control thread must know of a thread's slab. */
export type SlabMessage =
  | { readonly kind: 'chunk'; readonly index: number; readonly memory: SharedArrayBuffer }
  | { readonly kind: 'series'; readonly series: SeriesDescription }
  /** Its slots are free for another series a while later; `last` is what stood in them. */
  | { readonly kind: 'gone'; readonly series: SeriesDescription; readonly last: readonly number[] };

export interface SeriesDescription {
  readonly type: SeriesKind;
  readonly name: string;
  readonly labels: Labels | undefined;
  /** Of a histogram: upper bounds. Its slots: one per bound, one for what is above, sum, count. */
  readonly bounds: readonly number[] | undefined;
  readonly chunk: number;
  readonly slot: number;
}

export const CHUNK_SLOTS = 4096;
/** Envoy's default histogram buckets, in milliseconds. */
export const DEFAULT_BOUNDS: readonly number[] = [
  0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10_000, 30_000, 60_000, 300_000, 600_000, 1_800_000,
  3_600_000,
];
/** Label sets of one metric; beyond, they share a series that says so: peers choose label values. */
export const MAX_LABEL_SETS = 10_000;
/** How often a thread looks for series that stand still; freed slots are given out a sweep later. */
export const EXPIRY_SWEEP_MS = 30_000;
/** A labelled series that stood still for this long is dropped. */
export const EXPIRY_MS = 15 * 60_000;
const OVERFLOW: Labels = { overflow: 'true' };
/** Counts label sets that found no room of their own. */
export const OVERFLOW_COUNTER = 'server.stats_label_sets_overflowed';

/** Which series are made at all, and with which buckets: stats_config. */
export interface SeriesRules {
  accepts(name: string): boolean;
  bounds(name: string): readonly number[] | undefined;
}

type Handle = SlotCounter | SlotGauge | SlotHistogram;

/** Series of one label set: the text of the labels, a kilobyte with Istio's, is kept once for all of them. */
interface LabelSet {
  readonly text: string;
  readonly labels: Labels;
  readonly byName: Map<string, Handle>;
}

/** What is remembered of a labelled series, to see whether it stands still. */
interface Labelled {
  readonly set: LabelSet;
  readonly description: SeriesDescription;
  readonly slab: Float64Array;
  readonly width: number;
  lastTotal: number;
  changedMs: number;
}

interface FreeSlot {
  readonly slab: Float64Array;
  readonly chunk: number;
  readonly slot: number;
  readonly width: number;
}

export class SlabStatistics implements Statistics {
  readonly #publish: (message: SlabMessage) => void;
  readonly #rules: SeriesRules | undefined;
  readonly #known = new Map<string, Handle>();
  readonly #sets = new Map<string, LabelSet>();
  /** Metrics of one label set are asked for one after the other, with the same object. */
  #lastSet: LabelSet | undefined = undefined;
  /** By metric name: how many label sets it has. */
  readonly #setCounts = new Map<string, number>();
  readonly #labelled = new Set<Labelled>();
  /** By width. Those freed in the last sweep wait for the next one: a scrape may still be reading them. */
  readonly #free = new Map<number, FreeSlot[]>();
  #freed: FreeSlot[] = [];
  #chunk: Float64Array;
  #chunkIndex = -1;
  #nextSlot = CHUNK_SLOTS;
  #nowMs = 0;
  /** Where series go that stats_matcher keeps out: written, never read. */
  #nowhere: Float64Array | undefined = undefined;
  expirations = 0;

  constructor(publish: (message: SlabMessage) => void, rules?: SeriesRules) {
    this.#publish = publish;
    this.#rules = rules;
    this.#chunk = new Float64Array(0);
  }

  counter(name: string, labels?: Labels): Counter {
    return this.#series('counter', name, labels, undefined, 1) as SlotCounter;
  }

  gauge(name: string, labels?: Labels): Gauge {
    return this.#series('gauge', name, labels, undefined, 1) as SlotGauge;
  }

  histogram(name: string, labels?: Labels, given: readonly number[] = DEFAULT_BOUNDS): Histogram {
    const bounds = this.#rules?.bounds(name) ?? given;
    return this.#series('histogram', name, labels, bounds, bounds.length + 3) as SlotHistogram;
  }

  /** Drops labelled series that have not changed for `idleMs`. `nowMs`: any clock that goes forward. */
  expire(nowMs: number, idleMs = EXPIRY_MS): void {
    this.#nowMs = nowMs;
    for (const { slab, slot, width, chunk } of this.#freed) {
      slab.fill(0, slot, slot + width);
      const list = this.#free.get(width) ?? [];
      list.push({ slab, slot, width, chunk });
      this.#free.set(width, list);
    }
    this.#freed = [];
    for (const item of this.#labelled) {
      const { description, slab, width } = item;
      const total = slab[description.slot + width - 1] as number;
      if (total !== item.lastTotal) {
        item.lastTotal = total;
        item.changedMs = nowMs;
      } else if (nowMs - item.changedMs >= idleMs && !(description.type === 'gauge' && total !== 0)) this.#drop(item);
    }
  }

  #drop(item: Labelled): void {
    const { description, slab, width, set } = item;
    const { name, chunk, slot } = description;
    this.#labelled.delete(item);
    set.byName.delete(name);
    if (set.byName.size === 0) this.#sets.delete(set.text);
    if (this.#lastSet === set) this.#lastSet = undefined;
    this.#setCounts.set(name, (this.#setCounts.get(name) ?? 1) - 1);
    this.#freed.push({ slab, slot, width, chunk });
    this.#publish({ kind: 'gone', series: description, last: [...slab.subarray(slot, slot + width)] });
    this.expirations++;
  }

  #series(
    type: SeriesKind,
    name: string,
    labels: Labels | undefined,
    bounds: readonly number[] | undefined,
    width: number,
  ): Handle {
    let set = labels === undefined ? undefined : this.#labelSet(labels);
    const known = (set?.byName ?? this.#known).get(name);
    if (known !== undefined) return known;
    if (this.#rules?.accepts(name) === false) {
      this.#nowhere ??= new Float64Array(4);
      return handle(type, this.#nowhere, 0, bounds === undefined ? undefined : []);
    }
    if (set !== undefined) {
      const sets = this.#setCounts.get(name) ?? 0;
      if (sets < MAX_LABEL_SETS) this.#setCounts.set(name, sets + 1);
      else {
        this.counter(OVERFLOW_COUNTER).inc();
        if (set.byName.size === 0) this.#sets.delete(set.text);
        set = this.#labelSet(OVERFLOW);
        const overflow = set.byName.get(name);
        if (overflow !== undefined) return overflow;
      }
    }
    const place = this.#free.get(width)?.pop() ?? this.#newSlots(width);
    const { slab, chunk, slot } = place;
    const description: SeriesDescription = { type, name, labels: set?.labels, bounds, chunk, slot };
    this.#publish({ kind: 'series', series: description });
    if (set !== undefined && set.labels !== OVERFLOW) {
      this.#labelled.add({ set, description, slab, width, lastTotal: 0, changedMs: this.#nowMs });
    }
    const made = handle(type, slab, slot, bounds);
    (set?.byName ?? this.#known).set(name, made);
    return made;
  }

  #labelSet(labels: Labels): LabelSet {
    if (this.#lastSet?.labels === labels) return this.#lastSet;
    const text = labelText(labels);
    let set = this.#sets.get(text);
    if (set === undefined) {
      set = { text, labels, byName: new Map() };
      this.#sets.set(text, set);
    }
    this.#lastSet = set;
    return set;
  }

  #newSlots(width: number): FreeSlot {
    if (this.#nextSlot + width > CHUNK_SLOTS) this.#newChunk();
    const slot = this.#nextSlot;
    this.#nextSlot += width;
    return { slab: this.#chunk, chunk: this.#chunkIndex, slot, width };
  }

  #newChunk(): void {
    const memory = new SharedArrayBuffer(CHUNK_SLOTS * 8);
    this.#chunk = new Float64Array(memory);
    this.#chunkIndex++;
    this.#nextSlot = 0;
    this.#publish({ kind: 'chunk', index: this.#chunkIndex, memory });
  }
}

function handle(type: SeriesKind, slab: Float64Array, slot: number, bounds: readonly number[] | undefined): Handle {
  if (bounds !== undefined) return new SlotHistogram(slab, slot, bounds);
  return type === 'counter' ? new SlotCounter(slab, slot) : new SlotGauge(slab, slot);
}

/** What tells label sets apart. */
export function labelText(labels: Labels): string {
  let text = '';
  for (const label in labels) text += `\0${label}\0${labels[label]}`;
  return text;
}

class SlotCounter implements Counter {
  readonly #slab: Float64Array;
  readonly #slot: number;

  constructor(slab: Float64Array, slot: number) {
    this.#slab = slab;
    this.#slot = slot;
  }

  inc(): void {
    (this.#slab[this.#slot] as number)++;
  }

  add(count: number): void {
    this.#slab[this.#slot] = (this.#slab[this.#slot] as number) + count;
  }
}

class SlotGauge implements Gauge {
  readonly #slab: Float64Array;
  readonly #slot: number;

  constructor(slab: Float64Array, slot: number) {
    this.#slab = slab;
    this.#slot = slot;
  }

  inc(): void {
    (this.#slab[this.#slot] as number)++;
  }

  dec(): void {
    (this.#slab[this.#slot] as number)--;
  }

  set(value: number): void {
    this.#slab[this.#slot] = value;
  }
}

class SlotHistogram implements Histogram {
  readonly #slab: Float64Array;
  readonly #slot: number;
  readonly #bounds: readonly number[];

  constructor(slab: Float64Array, slot: number, bounds: readonly number[]) {
    this.#slab = slab;
    this.#slot = slot;
    this.#bounds = bounds;
  }

  record(value: number): void {
    const bounds = this.#bounds;
    const slab = this.#slab;
    const slot = this.#slot;
    let bucket = 0;
    while (bucket < bounds.length && value > (bounds[bucket] as number)) bucket++;
    (slab[slot + bucket] as number)++;
    slab[slot + bounds.length + 1] = (slab[slot + bounds.length + 1] as number) + value;
    (slab[slot + bounds.length + 2] as number)++;
  }
}
