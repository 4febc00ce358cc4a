/** Reads protobuf messages by hand: data threads do without the descriptors. Source: protobuf.dev "Encoding". */

/** One field of a message: length-delimited contents, or the place of another wire type's value. */
export interface ProtoField {
  readonly number: number;
  readonly wire: number;
  readonly body: Buffer;
}

/** Picks the length-delimited fields of a number. */
export function isMessage(number: number): (field: ProtoField) => boolean {
  return (field) => field.number === number && field.wire === 2;
}

/**
 * Of a field of wire type 0, up to its ten bytes: what is negative is a number above 2^63, never 0. 0 where there is no field.
 */
export function integerOf(field: ProtoField | undefined): number {
  if (field === undefined) return 0;
  let value = 0;
  let scale = 1;
  for (const byte of field.body) {
    value += (byte & 0x7f) * scale;
    scale *= 128;
  }
  return value;
}

/** undefined: this is no message. A peer wrote it: nothing is trusted but the lengths that fit. */
export function readFields(bytes: Buffer): ProtoField[] | undefined {
  const fields: ProtoField[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = readVarint(bytes, at);
    if (tag === undefined) return undefined;
    const wire = tag.value & 7;
    const number = Math.floor(tag.value / 8);
    let start = tag.end;
    let end: number;
    if (wire === 0) {
      const value = readVarint(bytes, start);
      if (value === undefined) return undefined;
      end = value.end;
    } else if (wire === 1) end = start + 8;
    else if (wire === 5) end = start + 4;
    else if (wire === 2) {
      const length = readVarint(bytes, start);
      if (length === undefined) return undefined;
      start = length.end;
      end = start + length.value;
    } else return undefined;
    if (end > bytes.length || number === 0) return undefined;
    fields.push({ number, wire, body: bytes.subarray(start, end) });
    at = end;
  }
  return fields;
}

/** undefined: it has no end, or is above 2^42. */
export function readVarint(bytes: Buffer, at: number): { readonly value: number; readonly end: number } | undefined {
  let value = 0;
  let scale = 1;
  for (let i = at; i < bytes.length && i < at + 6; i++) {
    const byte = bytes[i] as number;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return { value, end: i + 1 };
    scale *= 128;
  }
  return undefined;
}
