/** The control thread's view of all statistics: adds up the slabs of all threads, dead ones included. */
import {
  CHUNK_SLOTS,
  EXPIRY_MS,
  type SeriesDescription,
  type SeriesKind,
  type SeriesRules,
  seriesKey,
  type SlabMessage,
  SlabStatistics,
} from './slab.ts';
import type { Labels, Statistics } from './statistics.ts';

export interface SeriesValue {
  readonly type: SeriesKind;
  readonly name: string;
  readonly labels: Labels | undefined;
  /** Counters and gauges; of a histogram its count. */
  readonly value: number;
  readonly histogram: HistogramValue | undefined;
  /** Kept as long as the series is: for what a reader has worked out about its name. */
  readonly notes: SeriesNotes;
}

export interface HistogramValue {
  readonly bounds: readonly number[];
  /** Per bucket, not cumulative; one more than bounds. */
  readonly buckets: readonly number[];
  readonly sum: number;
  readonly count: number;
}

export interface SeriesNotes {
  /** Metric name and `a="b",c="d"` of the Prometheus format. */
  prometheus?: { readonly name: string; readonly labels: string };
  /** Name and labels as /stats prints them. */
  shown?: string;
}

/** A thread's memory: gauges of a dead one count no more, counters for ever. */
interface Slab {
  readonly chunks: Float64Array[];
  readonly series: Set<Series>;
}

interface Place {
  readonly slab: Slab;
  readonly chunk: number;
  readonly slot: number;
}

interface Series {
  readonly key: string;
  readonly description: SeriesDescription;
  readonly same: boolean;
  readonly notes: SeriesNotes;
  places: Place[];
  /** What threads counted that have died or have dropped the series. */
  carried: Float64Array | undefined;
  /** What counters and histograms had when they were last reset. */
  base: Float64Array | undefined;
  /** Since when no thread counts in it; 0: some do. */
  orphanMs: number;
}

/** Gauges of what every thread knows alike: the hosts of a cluster are not more because more threads see them. */
const SAME_ON_ALL_THREADS =
  /\.(?:membership_(?:total|healthy|degraded|excluded)|max_host_weight|circuit_breakers\..*(?:_open|remaining_\w+))$/;

export class Aggregate {
  readonly #series = new Map<string, Series>();
  /** The control thread's own. */
  readonly own: Statistics;

  constructor(rules?: SeriesRules) {
    this.own = new SlabStatistics(this.addSlab().message, rules);
  }

  /** For a new thread. `died`: its gauges are zero from then on, its counts are kept. */
  addSlab(): { message: (message: SlabMessage) => void; died: () => void } {
    const slab: Slab = { chunks: [], series: new Set() };
    return { message: (message) => this.#receive(slab, message), died: () => this.#bury(slab) };
  }

  get seriesCount(): number {
    return this.#series.size;
  }

  /** All series, in the order in which they were made known. Series may come and go between two steps. */
  *values(): Generator<SeriesValue> {
    for (const series of this.#series.values()) yield this.#value(series);
  }

  /** One series' value; 0 where it is not known. */
  value(name: string, labels?: Labels): number {
    const series = this.#series.get(seriesKey(name, labels));
    return series === undefined ? 0 : this.#value(series).value;
  }

  /** Envoy's /reset_counters. */
  resetCounters(): void {
    for (const series of this.#series.values()) {
      if (series.description.type !== 'gauge') series.base = this.#sum(series);
    }
  }

  /** Labelled series in which no thread has counted for `idleMs` go. */
  expire(nowMs: number, idleMs = EXPIRY_MS): void {
    for (const series of this.#series.values()) {
      if (series.places.length > 0 || series.description.labels === undefined) series.orphanMs = 0;
      else if (series.orphanMs === 0) series.orphanMs = nowMs;
      else if (nowMs - series.orphanMs >= idleMs) this.#series.delete(series.key);
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
    if (message.kind === 'gone') {
      if (series !== undefined) this.#leave(series, slab, message.last);
      if (series !== undefined && series.places.length === 0) this.#series.delete(key);
      return;
    }
    if (series === undefined) {
      const same = SAME_ON_ALL_THREADS.test(description.name);
      series = { key, description, same, notes: {}, places: [], carried: undefined, base: undefined, orphanMs: 0 };
      this.#series.set(key, series);
    }
    series.places.push({ slab, chunk: description.chunk, slot: description.slot });
    slab.series.add(series);
  }

  #leave(series: Series, slab: Slab, last: ArrayLike<number>): void {
    if (!slab.series.delete(series)) return;
    series.places = series.places.filter((place) => place.slab !== slab);
    if (series.description.type === 'gauge') return;
    series.carried ??= new Float64Array(last.length);
    const { carried } = series;
    for (let i = 0; i < carried.length; i++) carried[i] = (carried[i] as number) + (last[i] ?? 0);
  }

  #bury(slab: Slab): void {
    for (const series of slab.series) {
      const place = series.places.find((item) => item.slab === slab);
      const numbers = place === undefined ? undefined : slab.chunks[place.chunk];
      if (place === undefined || numbers === undefined) continue;
      this.#leave(series, slab, numbers.slice(place.slot, place.slot + widthOf(series.description)));
    }
    slab.chunks.length = 0;
  }

  #sum({ description, places, carried, same }: Series): Float64Array {
    const width = widthOf(description);
    const sum = new Float64Array(width);
    if (carried !== undefined) sum.set(carried);
    for (const { slab, chunk, slot } of places) {
      const numbers = slab.chunks[chunk];
      if (numbers === undefined || slot + width > CHUNK_SLOTS) continue;
      if (same) sum[0] = Math.max(sum[0] as number, numbers[slot] as number);
      else for (let i = 0; i < width; i++) sum[i] = (sum[i] as number) + (numbers[slot + i] as number);
    }
    return sum;
  }

  #value(series: Series): SeriesValue {
    const { notes } = series;
    const { type, name, labels, bounds } = series.description;
    const sum = this.#sum(series);
    const { base } = series;
    if (base !== undefined) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) - (base[i] as number);
    if (bounds === undefined) return { type, name, labels, value: sum[0] as number, histogram: undefined, notes };
    const count = sum[bounds.length + 2] as number;
    const buckets = [...sum.subarray(0, bounds.length + 1)];
    const histogram = { bounds, buckets, sum: sum[bounds.length + 1] as number, count };
    return { type, name, labels, value: count, histogram, notes };
  }
}

function widthOf({ bounds }: SeriesDescription): number {
  return bounds === undefined ? 1 : bounds.length + 3;
}
