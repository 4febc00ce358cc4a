/** The control thread's view of all statistics: adds up the slabs of all threads, dead ones included. */
import {
  CHUNK_SLOTS,
  EXPIRY_MS,
  labelText,
  type SeriesDescription,
  type SeriesKind,
  type SeriesRules,
  type SlabMessage,
  SlabStatistics,
} from './slab.ts';
import { Slices } from './slices.ts';
import type { Labels, Statistics } from './statistics.ts';

/** A series, summed up each time it is read: a scrape holds 50,000 of these and never their numbers. */
export interface SeriesView {
  readonly type: SeriesKind;
  readonly name: string;
  readonly labels: Labels | undefined;
  /** Kept as long as the series is: for what a reader has worked out about its name. */
  readonly notes: SeriesNotes;
  /** Of all series with these labels. */
  readonly labelNotes: LabelNotes | undefined;
  read(): Reading;
}

export interface Reading {
  /** Counters and gauges; of a histogram its count. */
  readonly value: number;
  readonly histogram: HistogramValue | undefined;
}

export interface HistogramValue {
  readonly bounds: readonly number[];
  /** Per bucket, not cumulative; one more than bounds. */
  readonly buckets: readonly number[];
  readonly sum: number;
  readonly count: number;
  /** Buckets, sum and count of the last interval between two flushes; undefined: nothing was recorded in it. */
  readonly interval: Float64Array | undefined;
}

export interface SeriesNotes {
  /** Metric name of the Prometheus format, and `a="b",c="d"` of the tags in the name. */
  prometheus?: { readonly name: string; readonly tags: string };
}

export interface LabelNotes {
  /** `a="b",c="d"` of the Prometheus format. */
  prometheus?: string;
  /** As /stats prints them: `.a.b.c.d`. */
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

/** Gauges of what every thread knows alike: the hosts of a cluster are not more because more threads see them. */
const SAME_ON_ALL_THREADS =
  /\.(?:membership_(?:total|healthy|degraded|excluded)|max_host_weight|lb_subsets_active|ssl\.certificate\..*\.expiration_unix_time_seconds|circuit_breakers\..*(?:_open|remaining_\w+))$/;

/** Kept once for all series that have it. */
interface LabelSet {
  readonly text: string;
  readonly labels: Labels;
  readonly notes: LabelNotes;
  readonly byName: Map<string, Series>;
}

class Series implements SeriesView {
  readonly description: SeriesDescription;
  readonly set: LabelSet | undefined;
  /** Every thread says the same: the highest holds. */
  readonly same: boolean;
  readonly notes: SeriesNotes = {};
  places: Place[] = [];
  /** What threads counted that have died or have dropped the series. */
  carried: Float64Array | undefined = undefined;
  /** What counters and histograms had when they were last reset. */
  base: Float64Array | undefined = undefined;
  /** What a histogram had at the last flush, and what had come since the one before. */
  flushed: Float64Array | undefined = undefined;
  interval: Float64Array | undefined = undefined;
  /** Since when no thread counts in it; 0: some do. */
  orphanMs = 0;

  constructor(description: SeriesDescription, set: LabelSet | undefined) {
    // The labels are those of the set: what a thread sent with each series is not kept.
    this.description = { ...description, labels: set?.labels };
    this.set = set;
    this.same = SAME_ON_ALL_THREADS.test(description.name);
  }

  get type(): SeriesKind {
    return this.description.type;
  }

  get name(): string {
    return this.description.name;
  }

  get labels(): Labels | undefined {
    return this.description.labels;
  }

  get labelNotes(): LabelNotes | undefined {
    return this.set?.notes;
  }

  read(): Reading {
    const { bounds } = this.description;
    const sum = this.sum();
    const { base } = this;
    if (base !== undefined) for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) - (base[i] as number);
    if (bounds === undefined) return { value: sum[0] as number, histogram: undefined };
    const count = sum[bounds.length + 2] as number;
    const buckets = [...sum.subarray(0, bounds.length + 1)];
    const { interval } = this;
    return { value: count, histogram: { bounds, buckets, sum: sum[bounds.length + 1] as number, count, interval } };
  }

  /** An interval ends here, another begins. */
  flush(): void {
    const last = widthOf(this.description) - 1;
    const { flushed } = this;
    if (this.#total(last) === (flushed?.[last] ?? 0)) {
      this.interval = undefined;
      return;
    }
    const now = this.sum();
    this.flushed = now;
    this.interval = flushed === undefined ? now : now.map((number, i) => number - (flushed[i] as number));
  }

  /** One number over all threads: most histograms stand still, and are asked for no more. */
  #total(offset: number): number {
    let total = this.carried?.[offset] ?? 0;
    for (const { slab, chunk, slot } of this.places) total += slab.chunks[chunk]?.[slot + offset] ?? 0;
    return total;
  }

  /** Of all threads, resets left aside. */
  sum(): Float64Array {
    const { description, places, carried, same } = this;
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
}

export class Aggregate {
  readonly #series = new Set<Series>();
  readonly #byName = new Map<string, Series>();
  readonly #sets = new Map<string, LabelSet>();
  #flushing = false;
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
  values(): Iterable<SeriesView> {
    return this.#series;
  }

  /** Whether it is known; of series without labels. */
  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /** One series' value; 0 where it is not known. */
  value(name: string, labels?: Labels): number {
    const series = labels === undefined ? this.#byName.get(name) : this.#sets.get(labelText(labels))?.byName.get(name);
    return series === undefined ? 0 : series.read().value;
  }

  /** Ends the interval of all histograms (stats_flush_interval), a slice at a time. @returns false: the last flush is still at it. */
  async flush(): Promise<boolean> {
    if (this.#flushing) return false;
    this.#flushing = true;
    try {
      const slices = new Slices();
      let count = 0;
      for (const series of this.#series) {
        if (series.description.bounds !== undefined) series.flush();
        if ((++count & 63) === 0 && slices.over) await slices.next();
      }
    } finally {
      this.#flushing = false;
    }
    return true;
  }

  /** Envoy's /reset_counters. */
  resetCounters(): void {
    for (const series of this.#series) {
      if (series.description.type !== 'gauge') series.base = series.sum();
    }
  }

  /** Labelled series in which no thread has counted for `idleMs` go. */
  expire(nowMs: number, idleMs = EXPIRY_MS): void {
    for (const series of this.#series) {
      if (series.places.length > 0 || series.description.labels === undefined) series.orphanMs = 0;
      else if (series.orphanMs === 0) series.orphanMs = nowMs;
      else if (nowMs - series.orphanMs >= idleMs) this.#forget(series);
    }
  }

  #receive(slab: Slab, message: SlabMessage): void {
    if (message.kind === 'chunk') {
      slab.chunks[message.index] = new Float64Array(message.memory);
      return;
    }
    const { series: description } = message;
    const { name, labels } = description;
    const set = labels === undefined ? undefined : this.#labelSet(labels);
    let series = (set?.byName ?? this.#byName).get(name);
    if (message.kind === 'gone') {
      if (series === undefined) return;
      this.#leave(series, slab, message.last);
      if (series.places.length === 0) this.#forget(series);
      return;
    }
    if (series === undefined) {
      series = new Series(description, set);
      this.#series.add(series);
      (set?.byName ?? this.#byName).set(name, series);
    }
    series.places.push({ slab, chunk: description.chunk, slot: description.slot });
    slab.series.add(series);
  }

  #labelSet(labels: Labels): LabelSet {
    const text = labelText(labels);
    let set = this.#sets.get(text);
    if (set === undefined) {
      set = { text, labels, notes: {}, byName: new Map() };
      this.#sets.set(text, set);
    }
    return set;
  }

  #forget(series: Series): void {
    const { set, name } = series;
    this.#series.delete(series);
    (set?.byName ?? this.#byName).delete(name);
    if (set?.byName.size === 0) this.#sets.delete(set.text);
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
}

function widthOf({ bounds }: SeriesDescription): number {
  return bounds === undefined ? 1 : bounds.length + 3;
}
