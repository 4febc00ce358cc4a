/**
 * Texts that came before, by their bytes on the wire: peers that use no dynamic table (nginx) send the same few in every
 * block, and decoding one costs several times what finding it does. One table a thread, of fixed size.
 */

const SLOTS = 512;
/** Longer ones are rarely sent twice. */
const MAX_BYTES = 48;

/** The hash that came last to each slot: a text is kept when it comes a second time, so that what is unique costs nothing. */
const candidates = new Int32Array(SLOTS);
/** Of each slot: the length with the Huffman bit above it; 0: nothing is kept. */
const lengths = new Uint8Array(SLOTS);
const kept = new Uint8Array(SLOTS * MAX_BYTES);
const texts: string[] = new Array(SLOTS).fill('');
const HUFFMAN_BIT = 0x40;

/** The slot of the last `find` that answered undefined, for `offer`; −1: none. */
let missed = -1;

/** The text of `bytes[from, end)`; undefined: decode it, and `offer` what it was. */
export function findText(bytes: Uint8Array, from: number, end: number, huffman: boolean): string | undefined {
  const length = end - from;
  missed = -1;
  if (length > MAX_BYTES) return undefined;
  let hash = huffman ? length | HUFFMAN_BIT : length;
  for (let i = from; i < end; i++) hash = (Math.imul(hash, 31) + (bytes[i] as number)) | 0;
  const slot = (hash ^ (hash >>> 13)) & (SLOTS - 1);
  if (lengths[slot] === (huffman ? length | HUFFMAN_BIT : length)) {
    const at = slot * MAX_BYTES - from;
    let i = from;
    while (i < end && kept[at + i] === bytes[i]) i++;
    if (i === end) return texts[slot];
  }
  if (candidates[slot] === hash) missed = slot;
  else candidates[slot] = hash;
  return undefined;
}

/** What `bytes[from, end)` was, which `findText` has just not found. */
export function offerText(bytes: Uint8Array, from: number, end: number, huffman: boolean, text: string): void {
  const slot = missed;
  if (slot < 0) return;
  const length = end - from;
  for (let i = 0; i < length; i++) kept[slot * MAX_BYTES + i] = bytes[from + i] as number;
  lengths[slot] = huffman ? length | HUFFMAN_BIT : length;
  texts[slot] = text;
}
