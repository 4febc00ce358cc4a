/**
 * xxHash64 over two unsigned 32-bit halves, without BigInt (which allocates).
 * Source: the xxHash specification, XXH64; Envoy's HashUtil::xxHash64.
 */

/** The result of the last call, as two uint32: read both before the next call. */
export const hash = { high: 0, low: 0 };

/** Accumulator of the running calculation. */
let hi = 0;
let lo = 0;

const P1H = 0x9e3779b1;
const P1L = 0x85ebca87;
const P2H = 0xc2b2ae3d;
const P2L = 0x27d4eb4f;
const P3H = 0x165667b1;
const P3L = 0x9e3779f9;
const P4H = 0x85ebca77;
const P4L = 0xc2b2ae63;
const P5H = 0x27d4eb2f;
const P5L = 0x165667c5;

/** High half of the 64-bit product of two uint32. */
function mulHigh(a: number, b: number): number {
  const a0 = a & 0xffff;
  const a1 = a >>> 16;
  const b0 = b & 0xffff;
  const b1 = b >>> 16;
  const middle = a1 * b0 + ((a0 * b0) >>> 16);
  const carry = a0 * b1 + (middle & 0xffff);
  return (a1 * b1 + (middle - (middle & 0xffff)) / 0x10000 + (carry - (carry & 0xffff)) / 0x10000) >>> 0;
}

function multiply(bh: number, bl: number): void {
  const high = (mulHigh(lo, bl) + Math.imul(hi, bl) + Math.imul(lo, bh)) >>> 0;
  lo = Math.imul(lo, bl) >>> 0;
  hi = high;
}

function add(bh: number, bl: number): void {
  const sum = lo + bl;
  lo = sum >>> 0;
  hi = (hi + bh + (sum > 0xffffffff ? 1 : 0)) >>> 0;
}

/** 0 < bits < 32 */
function rotateLeft(bits: number): void {
  const high = ((hi << bits) | (lo >>> (32 - bits))) >>> 0;
  lo = ((lo << bits) | (hi >>> (32 - bits))) >>> 0;
  hi = high;
}

/** acc = rotl(acc + input * P2, 31) * P1 */
function round(inputHigh: number, inputLow: number): void {
  const accHigh = hi;
  const accLow = lo;
  hi = inputHigh;
  lo = inputLow;
  multiply(P2H, P2L);
  add(accHigh, accLow);
  rotateLeft(31);
  multiply(P1H, P1L);
}

/** Hashes the bytes; `seed` < 2^32. Sets and returns `hash`. */
export function xxHash64(bytes: Uint8Array, seed = 0): typeof hash {
  const { length } = bytes;
  const word = (at: number): number =>
    ((bytes[at] as number) |
      ((bytes[at + 1] as number) << 8) |
      ((bytes[at + 2] as number) << 16) |
      ((bytes[at + 3] as number) << 24)) >>>
    0;
  let at = 0;
  if (length >= 32) at = hashStripes(length, seed, word);
  else {
    hi = P5H;
    lo = P5L;
    add(0, seed);
  }
  add(0, length);
  for (; at + 8 <= length; at += 8) {
    const accHigh = hi;
    const accLow = lo;
    hi = 0;
    lo = 0;
    round(word(at + 4), word(at));
    hi = (hi ^ accHigh) >>> 0;
    lo = (lo ^ accLow) >>> 0;
    rotateLeft(27);
    multiply(P1H, P1L);
    add(P4H, P4L);
  }
  if (at + 4 <= length) {
    const accHigh = hi;
    const accLow = lo;
    hi = 0;
    lo = word(at);
    multiply(P1H, P1L);
    hi = (hi ^ accHigh) >>> 0;
    lo = (lo ^ accLow) >>> 0;
    rotateLeft(23);
    multiply(P2H, P2L);
    add(P3H, P3L);
    at += 4;
  }
  for (; at < length; at++) {
    const accHigh = hi;
    const accLow = lo;
    hi = 0;
    lo = bytes[at] as number;
    multiply(P5H, P5L);
    hi = (hi ^ accHigh) >>> 0;
    lo = (lo ^ accLow) >>> 0;
    rotateLeft(11);
    multiply(P1H, P1L);
  }
  // Avalanche: shifts of 33, 29, 32.
  lo = (lo ^ (hi >>> 1)) >>> 0;
  multiply(P2H, P2L);
  const shiftedLow = ((lo >>> 29) | (hi << 3)) >>> 0;
  const shiftedHigh = hi >>> 29;
  hi = (hi ^ shiftedHigh) >>> 0;
  lo = (lo ^ shiftedLow) >>> 0;
  multiply(P3H, P3L);
  lo = (lo ^ hi) >>> 0;
  hash.high = hi;
  hash.low = lo;
  return hash;
}

/** The text's UTF-8 bytes. */
export function xxHash64OfText(text: string, seed = 0): typeof hash {
  return xxHash64(Buffer.from(text), seed);
}

/** The four lanes over 32-byte stripes, merged into hi/lo. @returns how far it read. */
function hashStripes(length: number, seed: number, word: (at: number) => number): number {
  const highs = new Uint32Array(4);
  const lows = new Uint32Array(4);
  const start = (lane: number, high: number, low: number): void => {
    hi = high;
    lo = low;
    add(0, seed);
    highs[lane] = hi;
    lows[lane] = lo;
  };
  hi = P1H;
  lo = P1L;
  add(P2H, P2L);
  start(0, hi, lo);
  start(1, P2H, P2L);
  start(2, 0, 0);
  // seed - P1
  hi = ~P1H >>> 0;
  lo = ~P1L >>> 0;
  add(0, 1);
  start(3, hi, lo);
  let at = 0;
  for (; at + 32 <= length; at += 32) {
    for (let lane = 0; lane < 4; lane++) {
      hi = highs[lane] as number;
      lo = lows[lane] as number;
      round(word(at + lane * 8 + 4), word(at + lane * 8));
      highs[lane] = hi;
      lows[lane] = lo;
    }
  }
  let sumHigh = 0;
  let sumLow = 0;
  for (const [lane, bits] of [1, 7, 12, 18].entries()) {
    hi = highs[lane] as number;
    lo = lows[lane] as number;
    rotateLeft(bits);
    add(sumHigh, sumLow);
    sumHigh = hi;
    sumLow = lo;
  }
  for (let lane = 0; lane < 4; lane++) {
    hi = 0;
    lo = 0;
    round(highs[lane] as number, lows[lane] as number);
    hi = (hi ^ sumHigh) >>> 0;
    lo = (lo ^ sumLow) >>> 0;
    multiply(P1H, P1L);
    add(P4H, P4L);
    sumHigh = hi;
    sumLow = lo;
  }
  return at;
}
