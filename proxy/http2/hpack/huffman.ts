/**
 * The Huffman code of HPACK (RFC 7541 §5.2, Appendix B). The code is canonical: lengths alone give it. Decoding goes by
 * half bytes through a table of states; the shortest code has 5 bits, so half a byte ends at most one symbol.
 */

/** Bits of each symbol's code, 0 to 255; the end-of-string symbol has 30. */
const LENGTHS = [
  13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28,
  28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
  13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6,
  5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23,
  22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22,
  23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26,
  20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27,
  27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27,
  27, 27, 27, 26, 30,
];
const END_OF_STRING = 256;

const CODES = canonicalCodes();

function canonicalCodes(): Uint32Array {
  const codes = new Uint32Array(257);
  const order = Array.from(LENGTHS, (_, symbol) => symbol).sort(
    (a, b) => (LENGTHS[a] as number) - (LENGTHS[b] as number) || a - b,
  );
  let code = 0;
  let bits = LENGTHS[order[0] as number] as number;
  for (const symbol of order) {
    const length = LENGTHS[symbol] as number;
    code <<= length - bits;
    bits = length;
    codes[symbol] = code++;
  }
  return codes;
}

/** A step of the decoder: bits 0–7 next state; what half a byte brings. */
const EMITS = 0x100;
/** The string may end here: less than a byte since the last symbol, all ones. */
const MAY_END = 0x200;
const FAILS = 0x400;
const SYMBOL_SHIFT = 16;

/** `STEPS[state << 4 | halfByte]`; state 0 is the tree's root. */
const STEPS = makeSteps();

interface TreeNode {
  state: number;
  /** −1: an inner node. */
  symbol: number;
  readonly depth: number;
  readonly onesOnly: boolean;
  readonly children: (TreeNode | undefined)[];
}

function makeSteps(): Uint32Array {
  const inner: TreeNode[] = [];
  const node = (depth: number, onesOnly: boolean): TreeNode => ({
    state: 0,
    symbol: -1,
    depth,
    onesOnly,
    children: [],
  });
  const root = node(0, true);
  for (let symbol = 0; symbol <= END_OF_STRING; symbol++) {
    let at = root;
    for (let bit = (LENGTHS[symbol] as number) - 1; bit >= 0; bit--) {
      const digit = ((CODES[symbol] as number) >>> bit) & 1;
      at.children[digit] ??= node(at.depth + 1, at.onesOnly && digit === 1);
      at = at.children[digit];
    }
    at.symbol = symbol;
  }
  const number = (at: TreeNode): void => {
    if (at.symbol >= 0) return;
    at.state = inner.length;
    inner.push(at);
    for (const child of at.children) if (child !== undefined) number(child);
  };
  number(root);
  const steps = new Uint32Array(inner.length << 4);
  for (const from of inner) {
    for (let half = 0; half < 16; half++) steps[(from.state << 4) | half] = stepFrom(from, half, root);
  }
  return steps;
}

function stepFrom(from: TreeNode, half: number, root: TreeNode): number {
  let at = from;
  let step = 0;
  for (let bit = 3; bit >= 0; bit--) {
    const next = at.children[(half >>> bit) & 1];
    if (next === undefined || next.symbol === END_OF_STRING) return FAILS;
    at = next;
    if (at.symbol >= 0) {
      step |= EMITS | (at.symbol << SYMBOL_SHIFT);
      at = root;
    }
  }
  if (at.onesOnly && at.depth < 8) step |= MAY_END;
  return step | at.state;
}

let scratch: Buffer = Buffer.allocUnsafeSlow(4096);

/** Decodes `bytes[from, end)` into latin1 text; undefined: not a Huffman string. The shortest code makes 8 symbols of 5 bytes. */
export function huffmanDecode(bytes: Uint8Array, from: number, end: number): string | undefined {
  const worst = ((end - from) * 8) / 5 + 1;
  if (worst > scratch.length) scratch = Buffer.allocUnsafeSlow(2 * Math.ceil(worst));
  const out = scratch;
  let length = 0;
  let step = MAY_END;
  for (let i = from; i < end; i++) {
    const byte = bytes[i] as number;
    step = STEPS[((step & 0xff) << 4) | (byte >>> 4)] as number;
    if ((step & FAILS) !== 0) return undefined;
    if ((step & EMITS) !== 0) out[length++] = step >>> SYMBOL_SHIFT;
    step = STEPS[((step & 0xff) << 4) | (byte & 15)] as number;
    if ((step & FAILS) !== 0) return undefined;
    if ((step & EMITS) !== 0) out[length++] = step >>> SYMBOL_SHIFT;
  }
  if ((step & MAY_END) === 0) return undefined;
  return out.latin1Slice(0, length);
}

/** Bytes that `text` (latin1) takes when encoded. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += LENGTHS[text.charCodeAt(i) & 0xff] as number;
  return (bits + 7) >>> 3;
}

/** Writes `text` (latin1) at `at`. @returns the position behind it. */
export function huffmanEncode(text: string, out: Uint8Array, at: number): number {
  let pending = 0;
  let bits = 0;
  let to = at;
  for (let i = 0; i < text.length; i++) {
    const symbol = text.charCodeAt(i) & 0xff;
    const length = LENGTHS[symbol] as number;
    const code = CODES[symbol] as number;
    // At most 7 bits wait, a code has at most 30: two steps keep it within 32.
    if (length > 24) {
      pending = (pending << (length - 16)) | (code >>> 16);
      bits += length - 16;
      while (bits >= 8) {
        bits -= 8;
        out[to++] = pending >>> bits;
      }
      pending = ((pending & 0xff) << 16) | (code & 0xffff);
      bits += 16;
    } else {
      pending = (pending << length) | code;
      bits += length;
    }
    while (bits >= 8) {
      bits -= 8;
      out[to++] = pending >>> bits;
    }
    pending &= 0xff;
  }
  // What is left of the last byte is filled with ones: the beginning of the end-of-string symbol.
  if (bits > 0) out[to++] = (pending << (8 - bits)) | (0xff >>> bits);
  return to;
}
