/** Token buckets that all threads draw from: in shared memory, by key. Envoy: envoy.type.v3.TokenBucket. */
import {
  createSlotMemory,
  createSlotRow,
  forgetSlots,
  SharedSlots,
  type SlotMemory,
} from '../upstream/shared_slots.ts';

/** Buckets at a time; beyond, a thread has one of its own. */
const BUCKET_SLOTS = 16_384;
/** Tokens, and when the bucket was last filled. */
const PER_SLOT = 2;

export interface TokenBucketConfig {
  readonly maxTokens: number;
  /** Default 1. */
  readonly tokensPerFill: number;
  readonly fillIntervalMs: number;
}

export interface BucketMemory {
  readonly slots: SlotMemory;
  readonly values: SharedArrayBuffer;
}

export function createBucketMemory(): BucketMemory {
  return { slots: createSlotMemory(BUCKET_SLOTS), values: new SharedArrayBuffer(BUCKET_SLOTS * PER_SLOT * 4) };
}

export function createBucketRow({ slots }: BucketMemory): SharedArrayBuffer {
  return createSlotRow(slots);
}

export function forgetBuckets(memory: BucketMemory, row: SharedArrayBuffer): void {
  forgetSlots(memory.slots, row);
}

/** Reading it costs more than the clock. */
const ORIGIN_MS = performance.timeOrigin;

/** Milliseconds that all threads count alike, as they fit into 32 bits: only differences mean anything. */
function sharedNowMs(): number {
  return ((ORIGIN_MS + performance.now()) % 4_294_967_296) | 0;
}

export class TokenBuckets {
  readonly #slots: SharedSlots;
  readonly #values: Int32Array;
  readonly #open = new Map<string, TokenBucket>();

  constructor(memory: BucketMemory, row: SharedArrayBuffer) {
    this.#slots = new SharedSlots(memory.slots, row);
    this.#values = new Int32Array(memory.values);
  }

  /** The same key gives the same bucket, on every thread and across versions of a configuration that keep it. */
  open(key: string, config: TokenBucketConfig): TokenBucket {
    const full = `${key} ${config.maxTokens} ${config.tokensPerFill} ${config.fillIntervalMs}`;
    let bucket = this.#open.get(full);
    if (bucket === undefined) {
      const slot = this.#slots.claim(full, (fresh) => begin(this.#values, fresh, config));
      bucket = slot < 0 ? ownBucket(config) : new TokenBucket(this.#values, slot, config);
      this.#open.set(full, bucket);
    }
    return bucket;
  }
}

function begin(values: Int32Array, slot: number, { maxTokens }: TokenBucketConfig): void {
  values[slot * PER_SLOT] = maxTokens;
  values[slot * PER_SLOT + 1] = sharedNowMs();
}

/** One that nobody shares. */
export function ownBucket(config: TokenBucketConfig): TokenBucket {
  const values = new Int32Array(PER_SLOT);
  begin(values, 0, config);
  return new TokenBucket(values, 0, config);
}

export class TokenBucket {
  readonly config: TokenBucketConfig;
  readonly #values: Int32Array;
  readonly #at: number;

  constructor(values: Int32Array, slot: number, config: TokenBucketConfig) {
    this.config = config;
    this.#values = values;
    this.#at = slot * PER_SLOT;
  }

  get remaining(): number {
    return Math.max(0, Atomics.load(this.#values, this.#at));
  }

  /** Until the next fill. */
  get untilFillMs(): number {
    const sinceMs = (sharedNowMs() - Atomics.load(this.#values, this.#at + 1)) | 0;
    return Math.max(0, this.config.fillIntervalMs - sinceMs);
  }

  /** Takes a token. Exact over all threads: no two get the last one. */
  take(): boolean {
    this.#fill();
    if (Atomics.sub(this.#values, this.#at, 1) > 0) return true;
    Atomics.add(this.#values, this.#at, 1);
    return false;
  }

  #fill(): void {
    const { maxTokens, tokensPerFill, fillIntervalMs } = this.config;
    const last = Atomics.load(this.#values, this.#at + 1);
    const fills = Math.floor(((sharedNowMs() - last) | 0) / fillIntervalMs);
    if (fills <= 0) return;
    const next = (last + fills * fillIntervalMs) | 0;
    // One thread fills for this time.
    if (Atomics.compareExchange(this.#values, this.#at + 1, last, next) !== last) return;
    for (;;) {
      const tokens = Atomics.load(this.#values, this.#at);
      const filled = Math.min(maxTokens, tokens + fills * tokensPerFill);
      if (Atomics.compareExchange(this.#values, this.#at, tokens, filled) === tokens) return;
    }
  }
}
