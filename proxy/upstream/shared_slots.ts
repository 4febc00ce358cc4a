/**
 * Slots in memory that all threads share, by key. One table of fixed size; a slot belongs to one key while any thread
 * uses it:
 *
 *   free ──claim (compare-and-swap on the key)──► used, references = threads ──last one lets go──► free
 *
 * Each thread notes what it holds in a row of its own, so that the control thread can let go for a thread that died.
 */
import { xxHash64OfText } from '../load_balancers/xx_hash64.ts';

/** How far a look-up goes past the slot that the hash names. */
const MAX_PROBES = 256;

/** Handed to every thread. */
export interface SlotMemory {
  readonly slots: number;
  /** Two words of key per slot; 0 in the first: free. */
  readonly keys: SharedArrayBuffer;
  readonly references: SharedArrayBuffer;
}

export function createSlotMemory(slots: number): SlotMemory {
  return { slots, keys: new SharedArrayBuffer(slots * 8), references: new SharedArrayBuffer(slots * 4) };
}

/** What a thread holds, by slot. */
export function createSlotRow({ slots }: SlotMemory): SharedArrayBuffer {
  return new SharedArrayBuffer(slots * 4);
}

/** For a thread that died. Called by the control thread, once per row. */
export function forgetSlots(memory: SlotMemory, row: SharedArrayBuffer): void {
  const held = new Int32Array(row);
  const keys = new Int32Array(memory.keys);
  const references = new Int32Array(memory.references);
  for (let slot = 0; slot < memory.slots; slot++) {
    const count = held[slot] as number;
    if (count !== 0 && Atomics.sub(references, slot, count) === count) Atomics.store(keys, slot * 2, 0);
  }
}

/** Slots in use, for tests and the admin. */
export function usedSlotsOf({ slots, keys }: SlotMemory): number {
  const words = new Int32Array(keys);
  let used = 0;
  for (let slot = 0; slot < slots; slot++) if (Atomics.load(words, slot * 2) !== 0) used++;
  return used;
}

export class SharedSlots {
  readonly #slots: number;
  readonly #keys: Int32Array;
  readonly #references: Int32Array;
  readonly #row: Int32Array;

  constructor(memory: SlotMemory, row: SharedArrayBuffer) {
    this.#slots = memory.slots;
    this.#keys = new Int32Array(memory.keys);
    this.#references = new Int32Array(memory.references);
    this.#row = new Int32Array(row);
  }

  /** @returns the key's slot, referenced; −1 when there is none near its place. Once per key and thread. */
  claim(key: string): number {
    const { high, low } = xxHash64OfText(key);
    const first = high | 1; // 0 means free.
    const start = low % this.#slots;
    for (;;) {
      let free = -1;
      for (let probe = 0; probe < MAX_PROBES; probe++) {
        const slot = (start + probe) % this.#slots;
        const found = Atomics.load(this.#keys, slot * 2);
        if (found === (first | 0) && Atomics.load(this.#keys, slot * 2 + 1) === (low | 0)) return this.#take(slot);
        if (found !== 0) continue;
        free = slot;
        break;
      }
      if (free < 0) return -1;
      if (Atomics.compareExchange(this.#keys, free * 2, 0, first | 0) !== 0) continue;
      Atomics.store(this.#keys, free * 2 + 1, low | 0);
      return this.#take(free);
    }
  }

  release(slot: number): void {
    this.#row[slot] = 0;
    if (Atomics.sub(this.#references, slot, 1) === 1) Atomics.store(this.#keys, slot * 2, 0);
  }

  #take(slot: number): number {
    Atomics.add(this.#references, slot, 1);
    this.#row[slot] = 1;
    return slot;
  }
}
