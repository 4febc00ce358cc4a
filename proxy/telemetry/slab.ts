/**
 * A thread's own statistics: numbers in shared memory that only this thread writes, with no atomics. Slots are handed
 * out here and made known by name; the control thread adds up what it reads. The memory outlives the thread.
 */
import type { Counter, Gauge, Histogram, Labels, Statistics } from './statistics.ts';

export type SeriesKind = 'counter' | 'gauge' | 'histogram';

/** What the control thread must know of a thread's slab. */
export type SlabMessage =
  | { readonly kind: 'chunk'; readonly index: number; readonly memory: SharedArrayBuffer }
  | { readonly kind: 'series'; readonly series: SeriesDescription };

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
const OVERFLOW: Labels = { overflow: 'true' };

export class SlabStatistics implements Statistics {
  readonly #publish: (message: SlabMessage) => void;
  readonly #known = new Map<string, SlotCounter | SlotGauge | SlotHistogram>();
  readonly #labelSets = new Map<string, number>();
  #chunk: Float64Array;
  #chunkIndex = -1;
  #nextSlot = CHUNK_SLOTS;

  constructor(publish: (message: SlabMessage) => void) {
    this.#publish = publish;
    this.#chunk = new Float64Array(0);
  }

  counter(name: string, labels?: Labels): Counter {
    return this.#series('counter', name, labels, undefined, 1) as SlotCounter;
  }

  gauge(name: string, labels?: Labels): Gauge {
    return this.#series('gauge', name, labels, undefined, 1) as SlotGauge;
  }

  histogram(name: string, labels?: Labels, bounds: readonly number[] = DEFAULT_BOUNDS): Histogram {
    return this.#series('histogram', name, labels, bounds, bounds.length + 3) as SlotHistogram;
  }

  #series(
    type: SeriesKind,
    name: string,
    given: Labels | undefined,
    bounds: readonly number[] | undefined,
    slots: number,
  ): SlotCounter | SlotGauge | SlotHistogram {
    let labels = given;
    let key = seriesKey(name, labels);
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    if (labels !== undefined) {
      const sets = this.#labelSets.get(name) ?? 0;
      if (sets >= MAX_LABEL_SETS) {
        labels = OVERFLOW;
        key = seriesKey(name, labels);
        const overflow = this.#known.get(key);
        if (overflow !== undefined) return overflow;
      } else this.#labelSets.set(name, sets + 1);
    }
    if (this.#nextSlot + slots > CHUNK_SLOTS) this.#newChunk();
    const slot = this.#nextSlot;
    this.#nextSlot += slots;
    this.#publish({ kind: 'series', series: { type, name, labels, bounds, chunk: this.#chunkIndex, slot } });
    const made =
      bounds !== undefined
        ? new SlotHistogram(this.#chunk, slot, bounds)
        : type === 'counter'
          ? new SlotCounter(this.#chunk, slot)
          : new SlotGauge(this.#chunk, slot);
    this.#known.set(key, made);
    return made;
  }

  #newChunk(): void {
    const memory = new SharedArrayBuffer(CHUNK_SLOTS * 8);
    this.#chunk = new Float64Array(memory);
    this.#chunkIndex++;
    this.#nextSlot = 0;
    this.#publish({ kind: 'chunk', index: this.#chunkIndex, memory });
  }
}

export function seriesKey(name: string, labels: Labels | undefined): string {
  if (labels === undefined) return name;
  let key = name;
  for (const label in labels) key += `\0${label}\0${labels[label]}`;
  return key;
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
