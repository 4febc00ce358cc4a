/**
 * What all threads saw of each host, in memory that they share: failures in a row (counted with atomics, so that every
 * thread's word counts), and each thread's own counts of successes, which the control thread adds up.
 */
import { createSlotMemory, createSlotRow, forgetSlots, SharedSlots, type SlotMemory } from './shared_slots.ts';

/** (cluster, host) pairs that can be watched at a time; beyond, a host is not ejected. */
const REPORT_SLOTS = 65_536;
/** Failures in a row: 5xx, gateway failures, local failures. */
const STREAKS = 3;
/** Counts of one thread: of answers (all, good), of local events (all, good). */
const RATES = 4;

export interface ReportMemory {
  readonly slots: SlotMemory;
  readonly streaks: SharedArrayBuffer;
}

/** Of one thread. */
export interface ReportRow {
  readonly held: SharedArrayBuffer;
  readonly rates: SharedArrayBuffer;
}

export function createReportMemory(): ReportMemory {
  return { slots: createSlotMemory(REPORT_SLOTS), streaks: new SharedArrayBuffer(REPORT_SLOTS * STREAKS * 4) };
}

export function createReportRow(memory: ReportMemory): ReportRow {
  return { held: createSlotRow(memory.slots), rates: new SharedArrayBuffer(REPORT_SLOTS * RATES * 4) };
}

export function forgetReports(memory: ReportMemory, row: ReportRow): void {
  forgetSlots(memory.slots, row.held);
}

/** Indexes of a host's streaks. */
export const STREAK = { all5xx: 0, gateway: 1, local: 2 } as const;

/** One host's slot, as a thread writes it and the control thread reads it. */
export class HostReport {
  readonly slot: number;
  readonly #streaks: Int32Array;
  readonly #rates: Int32Array;

  constructor(slot: number, streaks: Int32Array, rates: Int32Array) {
    this.slot = slot;
    this.#streaks = streaks;
    this.#rates = rates;
  }

  /** @returns how many there are in a row now, this one included. */
  failed(streak: number): number {
    return Atomics.add(this.#streaks, this.slot * STREAKS + streak, 1) + 1;
  }

  /** The row has ended. Cheap where there was none. */
  succeeded(streak: number): void {
    const index = this.slot * STREAKS + streak;
    if (Atomics.load(this.#streaks, index) !== 0) Atomics.store(this.#streaks, index, 0);
  }

  /** Into this thread's own row. */
  count(local: boolean, good: boolean): void {
    const index = this.slot * RATES + (local ? 2 : 0);
    (this.#rates[index] as number)++;
    if (good) (this.#rates[index + 1] as number)++;
  }
}

/** A thread's way to the slots. */
export class HostReports {
  readonly #slots: SharedSlots;
  readonly #streaks: Int32Array;
  readonly #rates: Int32Array;
  readonly #open = new Map<string, { readonly report: HostReport; users: number }>();

  constructor(memory: ReportMemory, row: ReportRow) {
    this.#slots = new SharedSlots(memory.slots, row.held);
    this.#streaks = new Int32Array(memory.streaks);
    this.#rates = new Int32Array(row.rates);
  }

  /** undefined: there is no room. Every `open` wants its `close`. */
  open(cluster: string, address: string): HostReport | undefined {
    const key = `${cluster} ${address}`;
    const known = this.#open.get(key);
    if (known !== undefined) {
      known.users++;
      return known.report;
    }
    const slot = this.#slots.claim(key, (fresh) => this.#streaks.fill(0, fresh * STREAKS, (fresh + 1) * STREAKS));
    if (slot < 0) return undefined;
    this.#rates.fill(0, slot * RATES, (slot + 1) * RATES);
    const report = new HostReport(slot, this.#streaks, this.#rates);
    this.#open.set(key, { report, users: 1 });
    return report;
  }

  close(cluster: string, address: string): void {
    const key = `${cluster} ${address}`;
    const known = this.#open.get(key);
    if (known === undefined || --known.users > 0) return;
    this.#open.delete(key);
    this.#slots.release(known.report.slot);
  }
}

/** Views of rows: thousands of hosts are looked at in one interval. */
const rateViews = new WeakMap<SharedArrayBuffer, Int32Array>();

function ratesOf({ rates }: ReportRow): Int32Array {
  let view = rateViews.get(rates);
  if (view === undefined) {
    view = new Int32Array(rates);
    rateViews.set(rates, view);
  }
  return view;
}

/** Sums over the rows of living threads: [all, good] of answers or of local events, since the slot was taken. */
export function rateOf(rows: readonly ReportRow[], slot: number, local: boolean): readonly [number, number] {
  let all = 0;
  let good = 0;
  for (const row of rows) {
    const rates = ratesOf(row);
    const index = slot * RATES + (local ? 2 : 0);
    all += rates[index] as number;
    good += rates[index + 1] as number;
  }
  return [all, good];
}

/** Forgets failures in a row: the host comes back with a clean sheet. */
export function clearStreaks(memory: ReportMemory, slot: number): void {
  const streaks = new Int32Array(memory.streaks, slot * STREAKS * 4, STREAKS);
  for (let i = 0; i < STREAKS; i++) Atomics.store(streaks, i, 0);
}
