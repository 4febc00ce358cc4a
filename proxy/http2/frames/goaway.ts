/** GOAWAY (RFC 9113 §6.8). */
import { FRAME_HEADER_BYTES, FrameType } from '../constants.ts';
import type { Output } from '../output.ts';
import { writeFrameHeader, writeUint32 } from './frame_header.ts';

/** Last stream and error code; what follows them is for people. */
export const GOAWAY_BYTES = 8;

export function writeGoAway(out: Output, lastStreamId: number, errorCode: number, reason: string): void {
  const length = GOAWAY_BYTES + reason.length;
  const bytes = out.reserve(FRAME_HEADER_BYTES + length);
  let at = writeFrameHeader(bytes, out.length, length, FrameType.GOAWAY, 0, 0);
  at = writeUint32(bytes, writeUint32(bytes, at, lastStreamId), errorCode);
  bytes.latin1Write(reason, at);
  out.length = at + reason.length;
}
