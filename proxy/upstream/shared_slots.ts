/**
 * Slots in memory that all threads share, by key. One table of fixed size; a slot belongs to one key while any thread
 * uses it. Key, state and the number of its threads are one word, so that each step is one compare-and-swap:
 *
 *   free ──first thread──► tentative ──alone with this key──► used, n threads ──last one lets go──► free
 *                              └── another slot has the key: withdrawn, that one is taken ──► free
 *
 * Only the tentative step keeps two threads from giving one key two slots while others are freed around them. Each
 * thread notes what it holds in a row of its own, so that the control thread can let go for a thread that died.
 */
import { xxHash64OfText } from '../load_balancers/xx_hash64.ts';

/** How far a look-up goes past the slot that the hash names. */
const MAX_PROBES = 256;
/** Looks at another thread's tentative slot, of a microsecond each, before it counts as dead. */
const MAX_LOOKS = 1000;
/** Attempts before another thread's tentative step is waited for: the system has stopped it there. */
const QUICK_ATTEMPTS = 256;
/** Attempts with a sleep of a millisecond before each; then it is not waited for, and whoever comes counts for himself. */
const SLOW_ATTEMPTS = 50;

/** A word: 47 bits of key, one that says tentative, 16 bits of threads. 0: free. */
const REFERENCES = 0xffffn;
const TENTATIVE = 0x1_0000n;
const KEY = ~(REFERENCES | TENTATIVE);

/** Handed to every thread. */
export interface SlotMemory {
  readonly slots: number;
  readonly words: SharedArrayBuffer;
}

export function createSlotMemory(slots: number): SlotMemory {
  return { slots, words: new SharedArrayBuffer(slots * 8) };
}

/** What a thread holds, by slot. */
export function createSlotRow({ slots }: SlotMemory): SharedArrayBuffer {
  return new SharedArrayBuffer(slots * 4);
}

/** For a thread that died. Called by the control thread, once per row. */
export function forgetSlots(memory: SlotMemory, row: SharedArrayBuffer): void {
  const held = new Int32Array(row);
  const words = new BigInt64Array(memory.words);
  for (let slot = 0; slot < memory.slots; slot++) if (held[slot] !== 0) letGo(words, slot);
}

/** Slots in use, for tests and the admin. */
export function usedSlotsOf({ words }: SlotMemory): number {
  let used = 0;
  for (const word of new BigInt64Array(words)) if (word !== 0n) used++;
  return used;
}

/** How many slots have this key for good: never more than one. For tests. */
export function slotsWithKey({ words }: SlotMemory, key: string): number {
  const wanted = keyBits(key);
  let count = 0;
  for (const word of new BigInt64Array(words)) if ((word & KEY) === wanted && (word & TENTATIVE) === 0n) count++;
  return count;
}

export class SharedSlots {
  readonly #slots: number;
  readonly #words: BigInt64Array;
  readonly #row: Int32Array;

  constructor(memory: SlotMemory, row: SharedArrayBuffer) {
    this.#slots = memory.slots;
    this.#words = new BigInt64Array(memory.words);
    this.#row = new Int32Array(row);
  }

  /**
   * Once per key and thread. `onFresh`: nobody had this key; called before another thread can take the slot.
   * @returns the key's slot, referenced; −1 when there is none near its place.
   */
  claim(key: string, onFresh?: (slot: number) => void): number {
    const bits = keyBits(key);
    const start = xxHash64OfText(key).low % this.#slots;
    for (let attempt = 0; attempt < QUICK_ATTEMPTS + SLOW_ATTEMPTS; attempt++) {
      const known = this.#find(bits, start, -1);
      if (known >= 0) {
        if (this.#take(known, bits)) return known;
        // Asleep, it gives the core to the one that it waits for. Once per key: a bucket of one's own would be worse.
        if (attempt >= QUICK_ATTEMPTS) Atomics.wait(this.#words, known, bits | TENTATIVE | 1n, 1);
        continue;
      }
      const free = this.#firstFree(start);
      if (free < 0) return -1;
      if (Atomics.compareExchange(this.#words, free, 0n, bits | TENTATIVE | 1n) !== 0n) continue;
      this.#row[free] = 1;
      onFresh?.(free);
      if (this.#isAlone(bits, start, free)) {
        Atomics.store(this.#words, free, bits | 1n);
        return free;
      }
      this.release(free);
    }
    return -1;
  }

  release(slot: number): void {
    letGo(this.#words, slot, this.#row);
  }

  /** Fails when the last thread has let go meanwhile, or the slot is tentative. */
  #take(slot: number, bits: bigint): boolean {
    const word = Atomics.load(this.#words, slot);
    if ((word & ~REFERENCES) !== bits) return false;
    if (Atomics.compareExchange(this.#words, slot, word, word + 1n) !== word) return false;
    this.#row[slot] = 1;
    return true;
  }

  /** Of two tentative slots the one nearer to the start wins; one for good always does. */
  #isAlone(bits: bigint, start: number, mine: number): boolean {
    for (let look = 0; look < MAX_LOOKS; look++) {
      const other = this.#find(bits, start, mine);
      if (other < 0) return true;
      const word = Atomics.load(this.#words, other);
      if ((word & KEY) !== bits) continue;
      if ((word & TENTATIVE) === 0n || this.#distance(start, other) < this.#distance(start, mine)) return false;
    }
    return true;
  }

  #distance(start: number, slot: number): number {
    return (slot - start + this.#slots) % this.#slots;
  }

  /** All places are looked at: a free one in between says nothing, its owner has gone. */
  #find(bits: bigint, start: number, except: number): number {
    for (let probe = 0; probe < Math.min(MAX_PROBES, this.#slots); probe++) {
      const slot = (start + probe) % this.#slots;
      if (slot !== except && (Atomics.load(this.#words, slot) & KEY) === bits) return slot;
    }
    return -1;
  }

  #firstFree(start: number): number {
    for (let probe = 0; probe < Math.min(MAX_PROBES, this.#slots); probe++) {
      const slot = (start + probe) % this.#slots;
      if (Atomics.load(this.#words, slot) === 0n) return slot;
    }
    return -1;
  }
}

/**
 * A thread is only ever ended at a function's entry or at the end of a loop's turn: between the exchange and the note
 * in the row stands neither, so that both are done or none.
 */
function letGo(words: BigInt64Array, slot: number, row: Int32Array | undefined = undefined): void {
  for (;;) {
    const word = Atomics.load(words, slot);
    const next = (word & REFERENCES) === 1n ? 0n : word - 1n;
    if (Atomics.compareExchange(words, slot, word, next) === word) {
      if (row !== undefined) row[slot] = 0;
      return;
    }
  }
}

/** Two keys with the same 47 bits share a slot: one in 10^5 tables of 32,768. Never 0. */
function keyBits(key: string): bigint {
  const { high, low } = xxHash64OfText(key);
  const hash = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  return BigInt.asIntN(64, (hash | (1n << 17n)) & BigInt.asUintN(64, KEY));
}
