/**
 * Encodes header blocks (RFC 7541). What comes twice in a row with the same value is put into the table, what never
 * repeats (request ids, paths with numbers) is not, so that it evicts nothing; secrets that could be guessed never are.
 */
import { huffmanEncode, huffmanLength } from './huffman.ts';
import { isSecret } from './secret_names.ts';
import { STATIC_ENTRIES, staticNames } from './static_table.ts';

const ENTRY_OVERHEAD = 32;
/** More than what a peer allows is not used: it would only be memory. */
const MAX_TABLE_BYTES = 4096;
/** A field's own bytes at most, beside its texts: three integers of up to 5 bytes. */
const FIELD_OVERHEAD = 16;
/** Shorter secrets could be guessed by watching what shrinks (RFC 7541 §7.1.3). */
const MIN_INDEXED_SECRET = 20;

interface KnownName {
  /** 0: not in the static table. */
  readonly staticIndex: number;
  /** Of the entries from `staticIndex` on. */
  readonly staticValues: readonly string[];
  /** Number of the newest entry with this name; −1: none. */
  newest: number;
  /** Entries with this name. */
  entries: number;
  /** The value that came last and was not put into the table. */
  lastValue: string | undefined;
  readonly secret: boolean;
  /**
   * Values of the newest entries and their numbers, newest last. No Map: looking up a text that was just decoded makes
   * V8 intern it, which costs more than all else that a request id needs.
   */
  readonly values: string[];
  readonly numbers: number[];
}

/** Entries of one name that are compared with a value; older ones only lend their name. */
const MAX_VALUES = 64;
const NO_VALUES: readonly string[] = [];

/** Fields of a block whose places are remembered. */
const MAX_REMEMBERED = 24;

const STATUS_INDEX: Readonly<Record<number, number>> = { 200: 8, 204: 9, 206: 10, 304: 11, 400: 12, 404: 13, 500: 14 };

export class HpackEncoder {
  #limit = MAX_TABLE_BYTES;
  #tableBytes = 0;
  /** The table's size is to be announced: the smallest it was since the last block, then what it is (§4.2). −1: no. */
  #announceLow = -1;
  readonly #known = new Map<string, KnownName>();
  /** Entries by number − `#dropped`. */
  #names: string[] = [];
  #values: string[] = [];
  #dropped = 0;
  #first = 0;
  #at = 0;
  #place = 0;
  /** The fields of the last block that were one entry each, by their place: the next block is mostly the same. */
  readonly #lastNames: string[] = [];
  readonly #lastValues: string[] = [];
  readonly #lastNumbers: number[] = [];

  get tableBytes(): number {
    return this.#tableBytes;
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  setTableLimit(bytes: number): void {
    const limit = Math.min(bytes, MAX_TABLE_BYTES);
    if (limit === this.#limit) return;
    this.#limit = limit;
    this.#announceLow = this.#announceLow < 0 ? limit : Math.min(this.#announceLow, limit);
    this.#evict(0);
  }

  /** Upper bound of what `fields` take, pseudo-headers not counted. */
  static bound(fields: readonly string[]): number {
    let bytes = 0;
    for (let i = 0; i < fields.length; i += 2) {
      bytes += (fields[i] as string).length + (fields[i + 1] as string).length + FIELD_OVERHEAD;
    }
    return bytes;
  }

  /** Begins a block at `at`. @returns where the first field goes. */
  start(out: Buffer, at: number): number {
    this.#place = 0;
    if (this.#announceLow < 0) return at;
    this.#at = at;
    if (this.#announceLow < this.#limit) this.#integer(out, 0x20, 0x1f, this.#announceLow);
    this.#integer(out, 0x20, 0x1f, this.#limit);
    this.#announceLow = -1;
    return this.#at;
  }

  status(status: number, out: Buffer, at: number): number {
    const index = STATUS_INDEX[status];
    if (index !== undefined) {
      out[at] = 0x80 | index;
      return at + 1;
    }
    return this.field(':status', String(status), out, at);
  }

  /** Writes one field at `at`; there is room for its texts and FIELD_OVERHEAD. @returns the position behind it. */
  field(name: string, value: string, out: Buffer, at: number): number {
    const place = this.#place++;
    const last = this.#lastNumbers[place];
    if (last !== undefined && this.#lastValues[place] === value && this.#lastNames[place] === name) {
      // Its entry may have gone since.
      if (last >= this.#dropped + this.#first) {
        const index = this.#index(last);
        if (index < 0x7f) {
          out[at] = 0x80 | index;
          return at + 1;
        }
      }
    }
    return this.#field(name, value, out, at, place);
  }

  #field(name: string, value: string, out: Buffer, at: number, place: number): number {
    let known = this.#known.get(name);
    if (known === undefined) {
      const inStatic = staticNames.get(name);
      known = {
        staticIndex: inStatic?.index ?? 0,
        staticValues: inStatic?.values ?? NO_VALUES,
        newest: -1,
        entries: 0,
        lastValue: undefined,
        secret: isSecret(name),
        values: [],
        numbers: [],
      };
      // Names of our own making up come and go with their entries: a peer cannot grow the map.
      if (inStatic !== undefined) this.#known.set(name, known);
    }
    this.#at = at;
    const newest = lastPlaceOf(known.values, value);
    if (newest >= 0) {
      const number = known.numbers[newest] as number;
      this.#integer(out, 0x80, 0x7f, this.#index(number));
      if (place < MAX_REMEMBERED) {
        for (let i = this.#lastNumbers.length; i < place; i++) this.#remember(i, '', '', -1);
        this.#remember(place, name, value, number);
      }
      return this.#at;
    }
    const inStatic = lastPlaceOf(known.staticValues, value);
    if (inStatic >= 0) {
      out[at] = 0x80 | (known.staticIndex + inStatic);
      return at + 1;
    }
    const nameIndex = known.staticIndex > 0 ? known.staticIndex : known.newest >= 0 ? this.#index(known.newest) : 0;
    if (known.secret && value.length < MIN_INDEXED_SECRET) {
      this.#integer(out, 0x10, 0x0f, nameIndex);
      if (nameIndex === 0) this.#text(out, name, true);
      this.#text(out, value, false);
      return this.#at;
    }
    // A name without an index is put in at once: the next value then costs its own bytes only.
    const insert = nameIndex === 0 || known.lastValue === value;
    if (insert) this.#integer(out, 0x40, 0x3f, nameIndex);
    else {
      this.#integer(out, 0x00, 0x0f, nameIndex);
      known.lastValue = value;
    }
    if (nameIndex === 0) this.#text(out, name, true);
    this.#text(out, value, insert);
    if (insert) this.#insert(known, name, value);
    return this.#at;
  }

  #remember(place: number, name: string, value: string, number: number): void {
    this.#lastNames[place] = name;
    this.#lastValues[place] = value;
    this.#lastNumbers[place] = number;
  }

  #index(number: number): number {
    return STATIC_ENTRIES + this.#dropped + this.#names.length - number;
  }

  #insert(known: KnownName, name: string, value: string): void {
    known.lastValue = undefined;
    const size = name.length + value.length + ENTRY_OVERHEAD;
    this.#evict(size);
    if (size > this.#limit) return;
    const number = this.#dropped + this.#names.length;
    this.#names.push(name);
    this.#values.push(value);
    this.#tableBytes += size;
    // The eviction may have dropped the name's last entry, and the name with it.
    if (known.staticIndex === 0) this.#known.set(name, known);
    known.newest = number;
    known.entries++;
    if (known.values.length === MAX_VALUES) {
      known.values.shift();
      known.numbers.shift();
    }
    known.values.push(value);
    known.numbers.push(number);
  }

  #evict(wanted: number): void {
    while (this.#tableBytes > 0 && this.#tableBytes + wanted > this.#limit) {
      const first = this.#first++;
      const name = this.#names[first] as string;
      const value = this.#values[first] as string;
      this.#tableBytes -= name.length + value.length + ENTRY_OVERHEAD;
      const number = this.#dropped + first;
      const known = this.#known.get(name);
      if (known !== undefined) {
        known.entries--;
        if (known.numbers[0] === number) {
          known.values.shift();
          known.numbers.shift();
        }
        if (known.entries === 0) {
          known.newest = -1;
          if (known.staticIndex === 0) this.#known.delete(name);
        }
      }
      this.#names[first] = '';
      this.#values[first] = '';
    }
    if (this.#first > 64 && this.#first * 2 > this.#names.length) {
      this.#names = this.#names.slice(this.#first);
      this.#values = this.#values.slice(this.#first);
      this.#dropped += this.#first;
      this.#first = 0;
    }
  }

  #integer(out: Buffer, pattern: number, mask: number, value: number): void {
    if (value < mask) {
      out[this.#at++] = pattern | value;
      return;
    }
    out[this.#at++] = pattern | mask;
    let rest = value - mask;
    while (rest >= 0x80) {
      out[this.#at++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    out[this.#at++] = rest;
  }

  /** `compress`: by Huffman where that is shorter; what is sent once is not worth the work. */
  #text(out: Buffer, text: string, compress: boolean): void {
    const { length } = text;
    if (compress) {
      const packed = huffmanLength(text);
      if (packed < length) {
        this.#integer(out, 0x80, 0x7f, packed);
        this.#at = huffmanEncode(text, out, this.#at);
        return;
      }
    }
    this.#integer(out, 0x00, 0x7f, length);
    const at = this.#at;
    if (length > 24) out.latin1Write(text, at);
    else for (let i = 0; i < length; i++) out[at + i] = text.charCodeAt(i);
    this.#at = at + length;
  }
}

/** Faster than the array's own for a handful of texts. −1: not there. */
function lastPlaceOf(values: readonly string[], value: string): number {
  let place = values.length - 1;
  while (place >= 0 && values[place] !== value) place--;
  return place;
}
