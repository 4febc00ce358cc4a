/**
 * xxHash64 over two 32-bit halves, without BigInt (which allocates). Halves are local variables and signed between the
 * steps: V8 keeps those in registers (four times as fast as halves in the module's scope).
 * Source: the xxHash specification, XXH64; Envoy's HashUtil::xxHash64.
 */

/** The result of the last call, as two uint32: read both before the next call. */
export const hash = { high: 0, low: 0 };

// The five primes, as signed halves.
const P1H = 0x9e3779b1 | 0;
const P1L = 0x85ebca87 | 0;
const P2H = 0xc2b2ae3d | 0;
const P2L = 0x27d4eb4f | 0;
const P3H = 0x165667b1 | 0;
const P3L = 0x9e3779f9 | 0;
const P4H = 0x85ebca77 | 0;
const P4L = 0xc2b2ae63 | 0;
const P5H = 0x27d4eb2f | 0;
const P5L = 0x165667c5 | 0;

/** Where what is hashed stands, so that it can be read word by word; grows with the longest. */
let scratch = Buffer.from(new ArrayBuffer(1024));
/** Little-endian, as all machines that Node 26 runs on. */
let words = new Int32Array(scratch.buffer);

function reserve(length: number): void {
  if (length <= scratch.length) return;
  scratch = Buffer.from(new ArrayBuffer(2 ** Math.ceil(Math.log2(length))));
  words = new Int32Array(scratch.buffer);
}

/** Hashes the bytes; `seed` < 2^32. Sets and returns `hash`. */
export function xxHash64(bytes: Uint8Array, seed = 0): typeof hash {
  reserve(bytes.length);
  scratch.set(bytes);
  return hashScratch(bytes.length, seed);
}

/** The text's UTF-8 bytes. */
export function xxHash64OfText(text: string, seed = 0): typeof hash {
  reserve(text.length * 3);
  return hashScratch(scratch.write(text), seed);
}

/** The hashes of `text_0`, `text_1` and so on: `begin`, then `next` for each. */
export class NumberedHashes {
  #prefix = 0;
  #number = 0;

  begin(text: string): void {
    reserve(text.length * 3 + 12);
    this.#prefix = scratch.write(text);
    scratch[this.#prefix++] = 0x5f;
    this.#number = 0;
  }

  /** Nothing else may be hashed between `begin` and the last `next`. */
  next(): typeof hash {
    let number = this.#number++;
    let end = this.#prefix + 1;
    for (let power = 10; number >= power; power *= 10) end++;
    for (let at = end - 1; at >= this.#prefix; at--) {
      scratch[at] = 0x30 + (number % 10);
      number = (number / 10) | 0;
    }
    return hashScratch(end, 0);
  }
}

/** High half of the 64-bit product of two unsigned halves, given and returned as signed; no step leaves 32 bits. */
function mulHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = (Math.imul(a1, b0) + (Math.imul(a0, b0) >>> 16)) | 0;
  const other = (Math.imul(a0, b1) + (middle & 0xffff)) | 0;
  return (Math.imul(a1, b1) + (middle >>> 16) + (other >>> 16)) | 0;
}

/** High half of (ah, al) · (bh, bl); the low one is Math.imul(al, bl). */
function productHigh(ah: number, al: number, bh: number, bl: number): number {
  return (mulHigh(al, bl) + Math.imul(ah, bl) + Math.imul(al, bh)) | 0;
}

/** High half of (ah, al) + (bh, bl), whose low one is `low`. */
function sumHigh(ah: number, bh: number, bl: number, low: number): number {
  return (ah + bh + (low >>> 0 < bl >>> 0 ? 1 : 0)) | 0;
}

/** Of the running lane. */
let laneHigh = 0;
let laneLow = 0;

/** lane = rotl(lane + input · P2, 31) · P1 */
function round(accHigh: number, accLow: number, inputHigh: number, inputLow: number): void {
  const timesHigh = productHigh(inputHigh, inputLow, P2H, P2L);
  const timesLow = Math.imul(inputLow, P2L);
  const low = (timesLow + accLow) | 0;
  const high = sumHigh(timesHigh, accHigh, accLow, low);
  const turnedHigh = (high << 31) | (low >>> 1);
  const turnedLow = (low << 31) | (high >>> 1);
  laneHigh = productHigh(turnedHigh, turnedLow, P1H, P1L);
  laneLow = Math.imul(turnedLow, P1L);
}

function hashScratch(length: number, seed: number): typeof hash {
  let at = 0;
  let low = (P5L + seed) | 0;
  let high = sumHigh(P5H, 0, seed, low);
  if (length >= 32) {
    at = hashStripes(length, seed);
    high = laneHigh;
    low = laneLow;
  }
  low = (low + length) | 0;
  high = sumHigh(high, 0, length, low);
  for (; at + 8 <= length; at += 8) {
    const inputLow = words[at >> 2] as number;
    const inputHigh = words[(at >> 2) + 1] as number;
    // round(0, input), in place: this is where short keys are.
    const timesHigh = productHigh(inputHigh, inputLow, P2H, P2L);
    const timesLow = Math.imul(inputLow, P2L);
    const turnedHigh = (timesHigh << 31) | (timesLow >>> 1);
    const turnedLow = (timesLow << 31) | (timesHigh >>> 1);
    high ^= productHigh(turnedHigh, turnedLow, P1H, P1L);
    low ^= Math.imul(turnedLow, P1L);
    const nextHigh = (high << 27) | (low >>> 5);
    const nextLow = (low << 27) | (high >>> 5);
    low = (Math.imul(nextLow, P1L) + P4L) | 0;
    high = sumHigh(productHigh(nextHigh, nextLow, P1H, P1L), P4H, P4L, low);
  }
  if (at + 4 <= length) {
    const input = words[at >> 2] as number;
    high ^= productHigh(0, input, P1H, P1L);
    low ^= Math.imul(input, P1L);
    const nextHigh = (high << 23) | (low >>> 9);
    const nextLow = (low << 23) | (high >>> 9);
    low = (Math.imul(nextLow, P2L) + P3L) | 0;
    high = sumHigh(productHigh(nextHigh, nextLow, P2H, P2L), P3H, P3L, low);
    at += 4;
  }
  for (; at < length; at++) {
    const input = scratch[at] as number;
    high ^= productHigh(0, input, P5H, P5L);
    low ^= Math.imul(input, P5L);
    const nextHigh = (high << 11) | (low >>> 21);
    const nextLow = (low << 11) | (high >>> 21);
    high = productHigh(nextHigh, nextLow, P1H, P1L);
    low = Math.imul(nextLow, P1L);
  }
  // Avalanche: shifts of 33, 29, 32.
  low ^= high >>> 1;
  high = productHigh(high, low, P2H, P2L);
  low = Math.imul(low, P2L);
  low ^= (low >>> 29) | (high << 3);
  high ^= high >>> 29;
  high = productHigh(high, low, P3H, P3L);
  low = Math.imul(low, P3L);
  hash.high = high >>> 0;
  hash.low = (low ^ high) >>> 0;
  return hash;
}

const highs = new Int32Array(4);
const lows = new Int32Array(4);

/** The four lanes over 32-byte stripes, merged into the running lane. @returns how far it read. */
function hashStripes(length: number, seed: number): number {
  // seed + P1 + P2, seed + P2, seed, seed − P1.
  const startLows = [(P1L + P2L) | 0, P2L, 0, -P1L | 0];
  const startHighs = [sumHigh(P1H, P2H, P2L, (P1L + P2L) | 0), P2H, 0, sumHigh(~P1H, 0, 1, (~P1L + 1) | 0)];
  for (let lane = 0; lane < 4; lane++) {
    const low = ((startLows[lane] as number) + seed) | 0;
    lows[lane] = low;
    highs[lane] = sumHigh(startHighs[lane] as number, 0, seed, low);
  }
  let at = 0;
  for (; at + 32 <= length; at += 32) {
    for (let lane = 0; lane < 4; lane++) {
      const place = (at >> 2) + lane * 2;
      round(highs[lane] as number, lows[lane] as number, words[place + 1] as number, words[place] as number);
      highs[lane] = laneHigh;
      lows[lane] = laneLow;
    }
  }
  let high = 0;
  let low = 0;
  for (const [lane, bits] of [1, 7, 12, 18].entries()) {
    const laneL = lows[lane] as number;
    const laneH = highs[lane] as number;
    const turnedLow = (laneL << bits) | (laneH >>> (32 - bits));
    low = (low + turnedLow) | 0;
    high = sumHigh(high, (laneH << bits) | (laneL >>> (32 - bits)), turnedLow, low);
  }
  for (let lane = 0; lane < 4; lane++) {
    round(0, 0, highs[lane] as number, lows[lane] as number);
    const mixedHigh = high ^ laneHigh;
    const mixedLow = low ^ laneLow;
    low = (Math.imul(mixedLow, P1L) + P4L) | 0;
    high = sumHigh(productHigh(mixedHigh, mixedLow, P1H, P1L), P4H, P4L, low);
  }
  laneHigh = high;
  laneLow = low;
  return at;
}
