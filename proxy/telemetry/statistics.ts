/** The contract of statistics: handles are made when configuration is built, and are cheap to touch afterwards. */

export interface Counter {
  inc(): void;
  add(count: number): void;
}
export interface Gauge {
  inc(): void;
  dec(): void;
  set(value: number): void;
}
export interface Histogram {
  record(value: number): void;
}

/** Label names to values; series with the same name and labels are the same series. */
export type Labels = Readonly<Record<string, string>>;

/** Hands out series. The same name and labels give the same slot. Names are Envoy's dotted names (`cluster.x.upstream_rq_total`). */
export interface Statistics {
  /**
   * Series with labels that stand still for long expire, and their slots are given to others. Whoever keeps handles of
   * labelled series drops them when this number has changed. undefined: nothing expires here.
   */
  readonly expirations?: number;
  counter(name: string, labels?: Labels): Counter;
  gauge(name: string, labels?: Labels): Gauge;
  /** `bounds`: upper bounds of the buckets, ascending. Default: Envoy's, in milliseconds. */
  histogram(name: string, labels?: Labels, bounds?: readonly number[]): Histogram;
}
