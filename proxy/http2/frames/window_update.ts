/** WINDOW_UPDATE (RFC 9113 §6.9). */
import { FRAME_HEADER_BYTES, FrameType } from '../constants.ts';
import type { Output } from '../output.ts';
import { writeFrameHeader, writeUint32 } from './frame_header.ts';

export const WINDOW_UPDATE_BYTES = 4;

/** Stream 0: the connection's. `increment` ≥ 1. */
export function writeWindowUpdate(out: Output, streamId: number, increment: number): void {
  const bytes = out.reserve(FRAME_HEADER_BYTES + WINDOW_UPDATE_BYTES);
  const at = writeFrameHeader(bytes, out.length, WINDOW_UPDATE_BYTES, FrameType.WINDOW_UPDATE, 0, streamId);
  out.length = writeUint32(bytes, at, increment);
}
