/** DATA (RFC 9113 §6.1), and the padding that HEADERS and PUSH_PROMISE share with it. */
import { Flag, FrameType } from '../constants.ts';
import { writeFrameHeader } from './frame_header.ts';

/** Where a payload lies within the bytes. One object a thread: read it before the next frame is looked at. */
export const payload = { from: 0, end: 0 };

/** Takes padding off `[from, end)` into `payload`. @returns false: more padding than payload. */
export function unpad(bytes: Uint8Array, from: number, end: number, flags: number): boolean {
  payload.from = from;
  payload.end = end;
  if ((flags & Flag.PADDED) === 0) return true;
  if (from >= end) return false;
  payload.from = from + 1;
  payload.end = end - (bytes[from] as number);
  return payload.end >= payload.from;
}

/** Writes the frame with `chunk[from, end)`. @returns the position behind it. */
export function writeData(
  out: Buffer,
  at: number,
  streamId: number,
  chunk: Buffer,
  from: number,
  end: number,
  endStream: boolean,
): number {
  const to = writeFrameHeader(out, at, end - from, FrameType.DATA, endStream ? Flag.END_STREAM : 0, streamId);
  const length = end - from;
  if (length > 32) chunk.copy(out, to, from, end);
  else for (let i = 0; i < length; i++) out[to + i] = chunk[from + i] as number;
  return to + length;
}
