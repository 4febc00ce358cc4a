/**
 * Circuit breakers in memory that all threads share.
 *
 * One table of fixed size; a slot belongs to one (cluster, priority) while any thread uses it:
 *
 *   free ──claim (compare-and-swap on the key)──► used, references = threads ──last one lets go──► free
 *
 * Totals are changed with atomics, so limits hold exactly. Each thread also keeps its own row of contributions, which
 * the control thread takes off the totals when the thread dies.
 */
import { xxHash64OfText } from '../load_balancers/xx_hash64.ts';
import type { Breaker, BreakerLimits, BreakerResource, CircuitBreakers, Priority } from './circuit_breakers.ts';

/** (cluster, priority) pairs that can be shared; beyond, a thread counts for itself alone. */
export const BREAKER_SLOTS = 32_768;
const RESOURCES: readonly BreakerResource[] = ['connections', 'pending', 'requests', 'retries'];
const PER_SLOT = RESOURCES.length;
/** How far a look-up goes past the slot that the hash names. */
const MAX_PROBES = 256;

/** Handed to every thread. */
export interface BreakerMemory {
  /** Two words of key per slot; 0 in the first: free. */
  readonly keys: SharedArrayBuffer;
  readonly references: SharedArrayBuffer;
  readonly totals: SharedArrayBuffer;
}

/** A thread's own contributions and references, by slot. */
export type BreakerRow = SharedArrayBuffer;

export function createBreakerMemory(): BreakerMemory {
  return {
    keys: new SharedArrayBuffer(BREAKER_SLOTS * 8),
    references: new SharedArrayBuffer(BREAKER_SLOTS * 4),
    totals: new SharedArrayBuffer(BREAKER_SLOTS * PER_SLOT * 4),
  };
}

export function createBreakerRow(): BreakerRow {
  return new SharedArrayBuffer(BREAKER_SLOTS * (PER_SLOT + 1) * 4);
}

/** Takes a dead thread's contributions off. Called by the control thread, once per row. */
export function forgetRow(memory: BreakerMemory, row: BreakerRow): void {
  const own = new Int32Array(row);
  const totals = new Int32Array(memory.totals);
  const references = new Int32Array(memory.references);
  const keys = new Int32Array(memory.keys);
  for (let slot = 0; slot < BREAKER_SLOTS; slot++) {
    for (let i = 0; i < PER_SLOT; i++) {
      const count = own[slot * PER_SLOT + i] as number;
      if (count !== 0) Atomics.sub(totals, slot * PER_SLOT + i, count);
    }
    const held = own[BREAKER_SLOTS * PER_SLOT + slot] as number;
    if (held !== 0 && Atomics.sub(references, slot, held) === held) Atomics.store(keys, slot * 2, 0);
  }
}

/** Slots in use, for tests and the admin. */
export function usedSlots(memory: BreakerMemory): number {
  const keys = new Int32Array(memory.keys);
  let used = 0;
  for (let slot = 0; slot < BREAKER_SLOTS; slot++) if (Atomics.load(keys, slot * 2) !== 0) used++;
  return used;
}

export class SharedBreakers implements CircuitBreakers {
  readonly #keys: Int32Array;
  readonly #references: Int32Array;
  readonly #totals: Int32Array;
  readonly #row: Int32Array;
  readonly #open = new Map<string, { breaker: SlotBreaker; users: number; slot: number }>();

  constructor(memory: BreakerMemory, row: BreakerRow) {
    this.#keys = new Int32Array(memory.keys);
    this.#references = new Int32Array(memory.references);
    this.#totals = new Int32Array(memory.totals);
    this.#row = new Int32Array(row);
  }

  open(cluster: string, priority: Priority, limits: BreakerLimits): Breaker {
    const key = `${priority} ${cluster}`;
    const known = this.#open.get(key);
    if (known !== undefined) {
      known.users++;
      known.breaker.limits = limits;
      return known.breaker;
    }
    const slot = this.#claim(key);
    const breaker =
      slot < 0
        ? new SlotBreaker(new Int32Array(PER_SLOT), new Int32Array(PER_SLOT), 0, limits)
        : new SlotBreaker(this.#totals, this.#row, slot * PER_SLOT, limits);
    this.#open.set(key, { breaker, users: 1, slot });
    return breaker;
  }

  close(cluster: string, priority: Priority): void {
    const key = `${priority} ${cluster}`;
    const known = this.#open.get(key);
    if (known === undefined || --known.users > 0) return;
    this.#open.delete(key);
    if (known.slot < 0) return;
    this.#row[BREAKER_SLOTS * PER_SLOT + known.slot] = 0;
    if (Atomics.sub(this.#references, known.slot, 1) === 1) Atomics.store(this.#keys, known.slot * 2, 0);
  }

  /** @returns the key's slot, referenced; −1 when there is none near its place. */
  #claim(key: string): number {
    const { high, low } = xxHash64OfText(key);
    const first = high | 1; // 0 means free.
    const start = low % BREAKER_SLOTS;
    let free = -1;
    for (let probe = 0; probe < MAX_PROBES; probe++) {
      const slot = (start + probe) % BREAKER_SLOTS;
      const found = Atomics.load(this.#keys, slot * 2);
      if (found === (first | 0) && Atomics.load(this.#keys, slot * 2 + 1) === (low | 0)) return this.#take(slot);
      if (found !== 0) continue;
      free = slot;
      break;
    }
    if (free < 0) return -1;
    if (Atomics.compareExchange(this.#keys, free * 2, 0, first | 0) !== 0) return this.#claim(key);
    Atomics.store(this.#keys, free * 2 + 1, low | 0);
    return this.#take(free);
  }

  #take(slot: number): number {
    Atomics.add(this.#references, slot, 1);
    this.#row[BREAKER_SLOTS * PER_SLOT + slot] = 1;
    return slot;
  }
}

class SlotBreaker implements Breaker {
  limits: BreakerLimits;
  readonly #totals: Int32Array;
  readonly #row: Int32Array;
  readonly #offset: number;

  constructor(totals: Int32Array, row: Int32Array, offset: number, limits: BreakerLimits) {
    this.#totals = totals;
    this.#row = row;
    this.#offset = offset;
    this.limits = limits;
  }

  tryAcquire(resource: BreakerResource): boolean {
    const index = this.#offset + INDEX[resource];
    // Adding first and taking back keeps it exact without a loop: no two can both be the last one.
    if (Atomics.add(this.#totals, index, 1) >= limitOf(this.limits, resource)) {
      Atomics.sub(this.#totals, index, 1);
      return false;
    }
    (this.#row[index] as number)++;
    return true;
  }

  acquire(resource: BreakerResource): void {
    const index = this.#offset + INDEX[resource];
    Atomics.add(this.#totals, index, 1);
    (this.#row[index] as number)++;
  }

  release(resource: BreakerResource): void {
    const index = this.#offset + INDEX[resource];
    Atomics.sub(this.#totals, index, 1);
    (this.#row[index] as number)--;
  }

  count(resource: BreakerResource): number {
    return Atomics.load(this.#totals, this.#offset + INDEX[resource]);
  }
}

const INDEX = { connections: 0, pending: 1, requests: 2, retries: 3 } as const;

function limitOf(limits: BreakerLimits, resource: BreakerResource): number {
  switch (resource) {
    case 'connections':
      return limits.maxConnections;
    case 'pending':
      return limits.maxPendingRequests;
    case 'requests':
      return limits.maxRequests;
    case 'retries':
      return limits.maxRetries;
    default:
      return resource satisfies never;
  }
}
