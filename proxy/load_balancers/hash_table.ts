/**
 * The tables of consistent hashing, as Envoy makes them entry for entry (ring_hash_lb.cc, maglev_lb.cc), so that both
 * can serve one mesh. Typed arrays in memory that threads can share; entries are indices of the hosts that the table was
 * made of, in the order in which they were given.
 */
import { hash, NumberedHashes, xxHash64OfText } from './xx_hash64.ts';

/** What a table is made of: the same specification gives the same table. */
export interface HashTableSpec {
  readonly kind: 'maglev' | 'ring';
  /** maglev: the table's size, a prime below 2^23. ring: the least number of points. */
  readonly size: number;
  /** ring: the greatest number of points. */
  readonly maximum: number;
  /** What hosts are known by. At least one. */
  readonly keys: readonly string[];
  /** Of the hosts, ≥ 1. */
  readonly weights: readonly number[];
}

/** maglev: an owner an entry. ring: all high halves of the points' hashes, then all low ones, then their owners. */
export type HashTable = Uint32Array<SharedArrayBuffer>;

export function buildHashTable(spec: HashTableSpec): HashTable {
  return spec.kind === 'maglev' ? buildMaglev(spec) : buildRing(spec);
}

/** (high · 2^32 + low) mod `divisor`, exactly: divisor is below 2^23, so every step stays below 2^53. */
export function remainder(high: number, low: number, divisor: number): number {
  return ((high % divisor) * (4294967296 % divisor) + (low % divisor)) % divisor;
}

/** The place of the first point whose hash is not less than the key; behind the last one the ring begins again. */
export function firstAtOrAfter(ring: HashTable, high: number, low: number): number {
  const points = ring.length / 3;
  let from = 0;
  let to = points;
  while (from < to) {
    const middle = (from + to) >> 1;
    const pointHigh = ring[middle] as number;
    if (pointHigh < high || (pointHigh === high && (ring[points + middle] as number) < low)) from = middle + 1;
    else to = middle;
  }
  return from === points ? 0 : from;
}

/** How much work it is, in points or entries. */
export function costOf({ kind, size, maximum, weights }: HashTableSpec): number {
  if (kind === 'maglev') return Math.ceil(size / 8) + weights.length * 5;
  const { scale } = ringScale(weights, size, maximum);
  return Math.ceil(scale);
}

/** The host with the least weight gets a whole number of points, the others in proportion. */
function ringScale(weights: readonly number[], size: number, maximum: number): { total: number; scale: number } {
  const total = sum(weights);
  const least = weights.reduce((min, weight) => Math.min(min, weight / total), Infinity);
  return { total, scale: Math.min(Math.ceil(least * size) / least, maximum) };
}

function shared(words: number): HashTable {
  return new Uint32Array(new SharedArrayBuffer(words * 4));
}

const FREE = 0xffffffff;

function buildMaglev({ size, keys, weights }: HashTableSpec): HashTable {
  const total = sum(weights);
  const maximum = greatest(weights) / total;
  // In the order of their keys: the table does not depend on the order in which hosts were found.
  const order = keys.map((_, index) => index).sort((a, b) => ((keys[a] as string) < (keys[b] as string) ? -1 : 1));
  const count = order.length;
  /** Where each host tries next. */
  const places = new Uint32Array(count);
  const skips = new Uint32Array(count);
  const targets = new Float64Array(count);
  const shares = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const index = order[i] as number;
    xxHash64OfText(keys[index] as string, 0);
    places[i] = remainder(hash.high, hash.low, size);
    xxHash64OfText(keys[index] as string, 1);
    skips[i] = remainder(hash.high, hash.low, size - 1) + 1;
    shares[i] = (weights[index] as number) / total;
  }
  const table = shared(size).fill(FREE);
  let filled = 0;
  for (let iteration = 1; filled < size; iteration++) {
    for (let i = 0; i < count && filled < size; i++) {
      // Hosts with less than the greatest weight are passed over until their turn has come.
      if (iteration * (shares[i] as number) < (targets[i] as number)) continue;
      (targets[i] as number) += maximum;
      const skip = skips[i] as number;
      let place = places[i] as number;
      while (table[place] !== FREE) {
        place += skip;
        if (place >= size) place -= size;
      }
      table[place] = order[i] as number;
      place += skip;
      places[i] = place >= size ? place - size : place;
      filled++;
    }
  }
  return table;
}

function buildRing({ size, maximum, keys, weights }: HashTableSpec): HashTable {
  const { total, scale } = ringScale(weights, size, maximum);
  let target = 0;
  const ends = weights.map((weight) => {
    target += scale * (weight / total);
    return Math.ceil(target);
  });
  const points = ends.at(-1) as number;
  const highs = new Uint32Array(points);
  const lows = new Uint32Array(points);
  const owners = new Uint32Array(points);
  const hashes = new NumberedHashes();
  let at = 0;
  keys.forEach((key, owner) => {
    hashes.begin(key);
    for (const end = ends[owner] as number; at < end; at++) {
      hashes.next();
      highs[at] = hash.high;
      lows[at] = hash.low;
      owners[at] = owner;
    }
  });
  return sorted(highs, lows, owners);
}

/**
 * Hashes are spread evenly: one pass puts each point into the part of the ring that is its, where next to nothing is
 * left to sort.
 */
function sorted(highs: Uint32Array, lows: Uint32Array, owners: Uint32Array): HashTable {
  const points = highs.length;
  const bits = Math.max(1, Math.ceil(Math.log2(points)));
  const shift = 32 - bits;
  const starts = new Uint32Array(2 ** bits + 1);
  for (let i = 0; i < points; i++) (starts[((highs[i] as number) >>> shift) + 1] as number)++;
  for (let part = 1; part < starts.length; part++) (starts[part] as number) += starts[part - 1] as number;
  const ring = shared(points * 3);
  for (let i = 0; i < points; i++) {
    const high = highs[i] as number;
    const low = lows[i] as number;
    const part = high >>> shift;
    const first = starts[part] as number;
    let place = first;
    // Behind what its part already has, and past what is greater.
    while (
      place > 0 &&
      isGreater(ring, points, place - 1, high, low) &&
      (ring[place - 1] as number) >>> shift === part
    ) {
      ring[place] = ring[place - 1] as number;
      ring[points + place] = ring[points + place - 1] as number;
      ring[2 * points + place] = ring[2 * points + place - 1] as number;
      place--;
    }
    ring[place] = high;
    ring[points + place] = low;
    ring[2 * points + place] = owners[i] as number;
    starts[part] = first + 1;
  }
  return ring;
}

function isGreater(ring: HashTable, points: number, place: number, high: number, low: number): boolean {
  const other = ring[place] as number;
  return other > high || (other === high && (ring[points + place] as number) > low);
}

function sum(numbers: readonly number[]): number {
  let total = 0;
  for (const number of numbers) total += number;
  return total;
}

function greatest(numbers: readonly number[]): number {
  let most = 0;
  for (const number of numbers) most = Math.max(most, number);
  return most;
}
