/**
 * Circuit breakers in memory that all threads share: a slot for each (cluster, priority) that any thread uses.
 *
 * Totals are changed with atomics, so limits hold exactly. Each thread also keeps its own row of contributions, which
 * the control thread takes off the totals when the thread dies.
 */
import type {
  Breaker,
  BreakerLimits,
  BreakerResource,
  CircuitBreakers,
  Priority,
  RetryBudget,
} from './circuit_breakers.ts';
import {
  createSlotMemory,
  forgetSlots,
  SharedSlots,
  type SlotMemory,
  slotsWithKey,
  usedSlotsOf,
} from './shared_slots.ts';

/** (cluster, priority) pairs that can be shared; beyond, a thread counts for itself alone. */
export const BREAKER_SLOTS = 32_768;
const RESOURCES: readonly BreakerResource[] = ['connections', 'pending', 'requests', 'retries'];
const PER_SLOT = RESOURCES.length;

/** Handed to every thread. */
export interface BreakerMemory {
  readonly slots: SlotMemory;
  readonly totals: SharedArrayBuffer;
}

/** A thread's own contributions and references, by slot. */
export interface BreakerRow {
  readonly counts: SharedArrayBuffer;
  readonly held: SharedArrayBuffer;
}

export function createBreakerMemory(): BreakerMemory {
  return { slots: createSlotMemory(BREAKER_SLOTS), totals: new SharedArrayBuffer(BREAKER_SLOTS * PER_SLOT * 4) };
}

export function createBreakerRow(): BreakerRow {
  return {
    counts: new SharedArrayBuffer(BREAKER_SLOTS * PER_SLOT * 4),
    held: new SharedArrayBuffer(BREAKER_SLOTS * 4),
  };
}

/** Takes a dead thread's contributions off. Called by the control thread, once per row. */
export function forgetRow(memory: BreakerMemory, row: BreakerRow): void {
  const own = new Int32Array(row.counts);
  const totals = new Int32Array(memory.totals);
  for (let index = 0; index < own.length; index++) {
    const count = own[index] as number;
    if (count !== 0) Atomics.sub(totals, index, count);
  }
  forgetSlots(memory.slots, row.held);
}

/** Slots in use, for tests and the admin. */
export function usedSlots(memory: BreakerMemory): number {
  return usedSlotsOf(memory.slots);
}

/** Whether some thread counts there; for tests. */
export function hasSlot({ slots }: BreakerMemory, cluster: string, priority: Priority): boolean {
  return slotsWithKey(slots, keyOf(cluster, priority)) > 0;
}

function keyOf(cluster: string, priority: Priority): string {
  return `${priority} ${cluster}`;
}

export class SharedBreakers implements CircuitBreakers {
  readonly #slots: SharedSlots;
  readonly #totals: Int32Array;
  readonly #row: Int32Array;
  readonly #open = new Map<string, { breaker: SlotBreaker; users: number; slot: number }>();

  constructor(memory: BreakerMemory, row: BreakerRow) {
    this.#slots = new SharedSlots(memory.slots, row.held);
    this.#totals = new Int32Array(memory.totals);
    this.#row = new Int32Array(row.counts);
  }

  open(cluster: string, priority: Priority, limits: BreakerLimits): Breaker {
    const key = keyOf(cluster, priority);
    const known = this.#open.get(key);
    if (known !== undefined) {
      known.users++;
      known.breaker.onIdle = undefined;
      known.breaker.limits = limits;
      return known.breaker;
    }
    const slot = this.#slots.claim(key);
    const breaker =
      slot < 0
        ? new SlotBreaker(new Int32Array(PER_SLOT), new Int32Array(PER_SLOT), 0, limits)
        : new SlotBreaker(this.#totals, this.#row, slot * PER_SLOT, limits);
    this.#open.set(key, { breaker, users: 1, slot });
    return breaker;
  }

  close(cluster: string, priority: Priority): void {
    const key = keyOf(cluster, priority);
    const known = this.#open.get(key);
    if (known === undefined || known.users === 0 || --known.users > 0) return;
    const { breaker, slot } = known;
    const leave = (): void => {
      this.#open.delete(key);
      breaker.detach();
      if (slot >= 0) this.#slots.release(slot);
    };
    // What is under way keeps the slot: another cluster must not get its counts.
    if (breaker.isIdle) leave();
    else breaker.onIdle = leave;
  }
}

class SlotBreaker implements Breaker {
  limits: BreakerLimits;
  /** Set when the thread has closed it: called when its last request has ended. */
  onIdle: (() => void) | undefined = undefined;
  #totals: Int32Array;
  #row: Int32Array;
  #offset: number;

  constructor(totals: Int32Array, row: Int32Array, offset: number, limits: BreakerLimits) {
    this.#totals = totals;
    this.#row = row;
    this.#offset = offset;
    this.limits = limits;
  }

  tryAcquire(resource: BreakerResource): boolean {
    const index = this.#offset + INDEX[resource];
    const { retryBudget } = this.limits;
    const limit =
      resource === 'retries' && retryBudget !== undefined ? this.#budget(retryBudget) : limitOf(this.limits, resource);
    // Adding first and taking back keeps it exact without a loop: no two can both be the last one.
    if (Atomics.add(this.#totals, index, 1) >= limit) {
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
    if (this.onIdle !== undefined && this.isIdle) this.onIdle();
  }

  /** Nothing of this thread is under way. */
  get isIdle(): boolean {
    for (let i = 0; i < PER_SLOT; i++) if (this.#row[this.#offset + i] !== 0) return false;
    return true;
  }

  /** The slot goes: whoever still holds this breaker counts for himself. */
  detach(): void {
    this.onIdle = undefined;
    this.#totals = new Int32Array(PER_SLOT);
    this.#row = new Int32Array(PER_SLOT);
    this.#offset = 0;
  }

  /** A share of what is under way and waiting, and always a few. Source: Envoy resource_manager_impl.h RetryBudgetImpl. */
  #budget({ percent, minConcurrency }: RetryBudget): number {
    return Math.max(minConcurrency, Math.floor((percent / 100) * (this.count('requests') + this.count('pending'))));
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
