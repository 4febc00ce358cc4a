/** Decodes header blocks (RFC 7541 §6). One decoder a connection and direction: its table lives as long. */
import { Kind, kindOfField, kindOfName } from './field_kind.ts';
import { huffmanDecode } from './huffman.ts';
import { isSecret } from './secret_names.ts';
import { STATIC_ENTRIES, staticFields } from './static_table.ts';
import { findText, offerText } from './text_cache.ts';

/** Of an entry, beside its texts (RFC 7541 §4.1). */
const ENTRY_OVERHEAD = 32;

const staticKinds = new Uint8Array(STATIC_ENTRIES + 1);
for (let index = 1; index <= STATIC_ENTRIES; index++)
  staticKinds[index] = kindOfName(staticFields[2 * index] as string);

/** What a block held. One object a thread: read it before the next block is decoded. */
export class DecodedBlock {
  /** Alternating name and value. */
  readonly texts: string[] = [];
  /** A Kind for each field. */
  readonly kinds: number[] = [];
  /** Fields in the block, those beyond the limits included. */
  count = 0;
  /** Sum of names, values and 32 a field (RFC 9113 §6.5.2). */
  listBytes = 0;
  /** Beyond a limit: the fields are not all here. */
  overflow: 'bytes' | 'count' | undefined = undefined;

  /** Fields that are here. */
  #stored = 0;

  reset(): void {
    this.#stored = 0;
    this.count = 0;
    this.listBytes = 0;
    this.overflow = undefined;
  }

  /** One more field, as far as the limits allow. */
  add(limits: DecodeLimits, name: string, value: string, kind: number): void {
    this.count++;
    this.listBytes += name.length + value.length + ENTRY_OVERHEAD;
    if (this.overflow !== undefined) return;
    if (this.listBytes > limits.maxListBytes) this.overflow = 'bytes';
    else if (this.count > limits.maxCount) this.overflow = 'count';
    else {
      const at = this.#stored++;
      this.texts[2 * at] = name;
      this.texts[2 * at + 1] = value;
      this.kinds[at] = kind;
    }
  }

  /** Drops what is left of a longer block: one by one, since setting `length` costs more than decoding a field. */
  end(): void {
    while (this.kinds.length > this.#stored) {
      this.kinds.pop();
      this.texts.pop();
      this.texts.pop();
    }
  }
}

export interface DecodeLimits {
  readonly maxListBytes: number;
  readonly maxCount: number;
}

export class HpackDecoder {
  /** What our SETTINGS allow. */
  readonly #maxTableBytes: number;
  #tableLimit: number;
  #tableBytes = 0;
  /** Newest last; `#first` is where the oldest stands: entries are dropped from the front, and the rest moved now and then. */
  #names: string[] = [];
  #values: string[] = [];
  #kinds: number[] = [];
  #first = 0;
  #at = 0;
  #failed = false;

  constructor(maxTableBytes: number) {
    this.#maxTableBytes = maxTableBytes;
    this.#tableLimit = maxTableBytes;
  }

  /** Bytes of the dynamic table, as RFC 7541 §4.1 counts. */
  get tableBytes(): number {
    return this.#tableBytes;
  }

  /** Decodes `bytes[from, end)`. @returns false: malformed, which ends the connection (COMPRESSION_ERROR). */
  decode(bytes: Buffer, from: number, end: number, limits: DecodeLimits, into: DecodedBlock): boolean {
    into.reset();
    const decoded = this.#fields(bytes, from, end, limits, into);
    into.end();
    return decoded;
  }

  #fields(bytes: Buffer, from: number, end: number, limits: DecodeLimits, into: DecodedBlock): boolean {
    this.#at = from;
    this.#failed = false;
    let mayResize = true;
    while (this.#at < end) {
      const byte = bytes[this.#at] as number;
      if (byte >= 0x80) {
        const index = this.#integer(bytes, end, 0x7f);
        if (!this.#indexed(index, limits, into)) return false;
      } else if (byte >= 0x40) {
        if (!this.#literal(bytes, end, 0x3f, true, limits, into)) return false;
      } else if (byte >= 0x20) {
        const size = this.#integer(bytes, end, 0x1f);
        // Only before the first field of a block (§4.2).
        if (!mayResize || this.#failed || size > this.#maxTableBytes) return false;
        this.#tableLimit = size;
        this.#evict(0);
        continue;
      } else if (!this.#literal(bytes, end, 0x0f, false, limits, into)) return false;
      mayResize = false;
    }
    return !this.#failed;
  }

  #indexed(index: number, limits: DecodeLimits, into: DecodedBlock): boolean {
    if (this.#failed || index === 0) return false;
    if (index <= STATIC_ENTRIES) {
      into.add(
        limits,
        staticFields[2 * index] as string,
        staticFields[2 * index + 1] as string,
        staticKinds[index] as number,
      );
      return true;
    }
    const position = this.#position(index);
    if (position < 0) return false;
    into.add(
      limits,
      this.#names[position] as string,
      this.#values[position] as string,
      this.#kinds[position] as number,
    );
    return true;
  }

  #literal(
    bytes: Buffer,
    end: number,
    mask: number,
    insert: boolean,
    limits: DecodeLimits,
    into: DecodedBlock,
  ): boolean {
    const index = this.#integer(bytes, end, mask);
    if (this.#failed) return false;
    let name: string;
    let nameKind: number;
    if (index === 0) {
      name = this.#text(bytes, end, true);
      nameKind = kindOfName(name);
    } else if (index <= STATIC_ENTRIES) {
      name = staticFields[2 * index] as string;
      nameKind = staticKinds[index] as number;
    } else {
      const position = this.#position(index);
      if (position < 0) return false;
      name = this.#names[position] as string;
      nameKind = this.#kinds[position] as number;
      // The entry's own value may have been the bad part.
      if (nameKind === Kind.badValue) nameKind = kindOfName(name);
    }
    if (this.#failed) return false;
    const value = this.#text(bytes, end, !isSecret(name));
    if (this.#failed) return false;
    const kind = kindOfField(nameKind, value);
    into.add(limits, name, value, kind);
    if (insert) this.#insert(name, value, kind);
    return true;
  }

  /** −1: no such entry. */
  #position(index: number): number {
    const position = this.#names.length - (index - STATIC_ENTRIES);
    return position < this.#first ? -1 : position;
  }

  #insert(name: string, value: string, kind: number): void {
    const size = name.length + value.length + ENTRY_OVERHEAD;
    this.#evict(size);
    // Larger than the table: it only empties it (§4.4).
    if (size > this.#tableLimit) return;
    this.#names.push(name);
    this.#values.push(value);
    this.#kinds.push(kind);
    this.#tableBytes += size;
  }

  #evict(wanted: number): void {
    while (this.#tableBytes > 0 && this.#tableBytes + wanted > this.#tableLimit) {
      const first = this.#first++;
      this.#tableBytes -=
        (this.#names[first] as string).length + (this.#values[first] as string).length + ENTRY_OVERHEAD;
      this.#names[first] = '';
      this.#values[first] = '';
    }
    if (this.#first > 64 && this.#first * 2 > this.#names.length) {
      this.#names = this.#names.slice(this.#first);
      this.#values = this.#values.slice(this.#first);
      this.#kinds = this.#kinds.slice(this.#first);
      this.#first = 0;
    }
  }

  /** RFC 7541 §5.1; up to 2^28, more is no index, length or size that anyone means. */
  #integer(bytes: Buffer, end: number, mask: number): number {
    let value = (bytes[this.#at++] as number) & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.#at >= end) break;
      const byte = bytes[this.#at++] as number;
      value += (byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
    this.#failed = true;
    return 0;
  }

  /** `shared`: may be found among what other connections sent. */
  #text(bytes: Buffer, end: number, shared: boolean): string {
    if (this.#at >= end) {
      this.#failed = true;
      return '';
    }
    const huffman = (bytes[this.#at] as number) >= 0x80;
    const length = this.#integer(bytes, end, 0x7f);
    const from = this.#at;
    const to = from + length;
    if (this.#failed || to > end) {
      this.#failed = true;
      return '';
    }
    this.#at = to;
    if (shared) {
      const known = findText(bytes, from, to, huffman);
      if (known !== undefined) return known;
    }
    const text = huffman ? huffmanDecode(bytes, from, to) : bytes.latin1Slice(from, to);
    if (text === undefined) {
      this.#failed = true;
      return '';
    }
    if (shared) offerText(bytes, from, to, huffman, text);
    return text;
  }
}
