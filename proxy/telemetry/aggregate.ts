/** The control thread's view of all statistics: adds up the slabs of all threads, dead ones included. */
import {
  CHUNK_SLOTS,
  type SeriesDescription,
  type SeriesKind,
  seriesKey,
  type SlabMessage,
  SlabStatistics,
} from './slab.ts';
import type { Labels, Statistics } from './statistics.ts';

export interface SeriesValue {
  readonly type: SeriesKind;
  readonly name: string;
  readonly labels: Labels | undefined;
  /** Counters and gauges. */
  readonly value: number;
  readonly histogram: HistogramValue | undefined;
}

export interface HistogramValue {
  readonly bounds: readonly number[];
  /** Per bucket, not cumulative; one more than bounds. */
  readonly buckets: readonly number[];
  readonly sum: number;
  readonly count: number;
}

/** A thread's memory: gauges of a dead one count no more, counters for ever. */
interface Slab {
  readonly chunks: Float64Array[];
  alive: boolean;
}

interface Series {
  readonly description: SeriesDescription;
  readonly places: { readonly slab: Slab; readonly chunk: number; readonly slot: number }[];
}

/** Gauges of what every thread knows alike: the hosts of a cluster are not more because more threads see them. */
const SAME_ON_ALL_THREADS = /\.membership_(?:total|healthy|degraded|excluded)$/;

export class Aggregate {
  readonly #series = new Map<string, Series>();
  readonly #slabs = new Map<number, Slab>();
  /** What counters and histograms had when they were last reset. */
  readonly #base = new Map<string, Float64Array>();
  #nextSlab = 0;
  /** The control thread's own. */
  readonly own: Statistics;

  constructor() {
    const receive = this.addSlab();
    this.own = new SlabStatistics(receive.message);
  }

  /** For a new thread. `died`: its gauges are zero from then on. */
  addSlab(): { message: (message: SlabMessage) => void; died: () => void } {
    const slab: Slab = { chunks: [], alive: true };
    this.#slabs.set(this.#nextSlab++, slab);
    return {
      message: (message) => this.#receive(slab, message),
      died: () => {
        slab.alive = false;
      },
    };
  }

  get seriesCount(): number {
    return this.#series.size;
  }

  /** All series, in the order in which they were made known. */
  *values(): Generator<SeriesValue> {
    for (const [key, series] of this.#series) yield this.#value(key, series);
  }

  /** One series' value; 0 where it is not known. */
  value(name: string, labels?: Labels): number {
    const key = seriesKey(name, labels);
    const series = this.#series.get(key);
    return series === undefined ? 0 : this.#value(key, series).value;
  }

  /** Envoy's /reset_counters. */
  resetCounters(): void {
    for (const [key, series] of this.#series) {
      if (series.description.type === 'gauge') continue;
      this.#base.set(key, this.#sum(series));
    }
  }

  #receive(slab: Slab, message: SlabMessage): void {
    if (message.kind === 'chunk') {
      slab.chunks[message.index] = new Float64Array(message.memory);
      return;
    }
    const { series: description } = message;
    const key = seriesKey(description.name, description.labels);
    let series = this.#series.get(key);
    if (series === undefined) {
      series = { description, places: [] };
      this.#series.set(key, series);
    }
    series.places.push({ slab, chunk: description.chunk, slot: description.slot });
  }

  #sum({ description, places }: Series): Float64Array {
    const width = description.bounds === undefined ? 1 : description.bounds.length + 3;
    const sum = new Float64Array(width);
    const same = SAME_ON_ALL_THREADS.test(description.name);
    for (const { slab, chunk, slot } of places) {
      if (description.type === 'gauge' && !slab.alive) continue;
      const numbers = slab.chunks[chunk];
      if (numbers === undefined || slot + width > CHUNK_SLOTS) continue;
      if (same) sum[0] = Math.max(sum[0] as number, numbers[slot] as number);
      else for (let i = 0; i < width; i++) sum[i] = (sum[i] as number) + (numbers[slot + i] as number);
    }
    return sum;
  }

  #value(key: string, series: Series): SeriesValue {
    const { type, name, labels, bounds } = series.description;
    const sum = this.#sum(series);
    const base = this.#base.get(key);
    if (base !== undefined) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) - (base[i] as number);
    if (bounds === undefined) return { type, name, labels, value: sum[0] as number, histogram: undefined };
    const count = sum[bounds.length + 2] as number;
    const buckets = [...sum.subarray(0, bounds.length + 1)];
    return {
      type,
      name,
      labels,
      value: count,
      histogram: { bounds, buckets, sum: sum[bounds.length + 1] as number, count },
    };
  }
}
