/** Reads DER (X.690 §10) as far as X.509 needs it: tag, length, contents; never beyond the bytes given. */

/** One element. `end` is where the next one starts in the same buffer. */
export interface DerElement {
  readonly tag: number;
  /** Contents; a view of the buffer. */
  readonly body: Buffer;
  readonly end: number;
}

/** Long forms above this are no certificate's. */
const MAX_LENGTH_BYTES = 4;

/** Where the contents of the element at `at` begin; -1: not DER, or cut off. */
export function derStart(bytes: Buffer, at: number): number {
  const tag = bytes[at];
  const length = bytes[at + 1];
  if (tag === undefined || length === undefined || (tag & 0x1f) === 0x1f) return -1;
  if (length < 0x80) return at + 2;
  const count = length & 0x7f;
  return count === 0 || count > MAX_LENGTH_BYTES || at + 2 + count > bytes.length ? -1 : at + 2 + count;
}

/** Where the element at `at` ends, whose contents begin at `start`; it may be beyond the bytes. */
export function derEnd(bytes: Buffer, at: number, start: number): number {
  const count = start - at - 2;
  return start + (count === 0 ? (bytes[at + 1] as number) : bytes.readUIntBE(at + 2, count));
}

/** undefined: not DER, or cut off. */
export function readDer(bytes: Buffer, at = 0): DerElement | undefined {
  const start = derStart(bytes, at);
  if (start < 0) return undefined;
  const end = derEnd(bytes, at, start);
  return end > bytes.length ? undefined : { tag: bytes[at] as number, body: bytes.subarray(start, end), end };
}

/** The elements inside a constructed one; those before what cannot be read. */
export function derChildren(body: Buffer): DerElement[] {
  const children: DerElement[] = [];
  for (let at = 0; at < body.length; ) {
    const child = readDer(body, at);
    if (child === undefined) break;
    children.push(child);
    at = child.end;
  }
  return children;
}

/** Dotted form of an OBJECT IDENTIFIER's contents. */
export function derOid(body: Buffer): string {
  const arcs: number[] = [];
  let value = 0;
  for (const byte of body) {
    value = value * 128 + (byte & 0x7f);
    if ((byte & 0x80) !== 0) continue;
    if (arcs.length === 0) {
      const first = Math.min(2, Math.floor(value / 40));
      arcs.push(first, value - first * 40);
    } else arcs.push(value);
    value = 0;
  }
  return arcs.join('.');
}
