/** RST_STREAM (RFC 9113 §6.4). */
import { FRAME_HEADER_BYTES, FrameType } from '../constants.ts';
import type { Output } from '../output.ts';
import { writeFrameHeader, writeUint32 } from './frame_header.ts';

export const RST_STREAM_BYTES = 4;

export function writeRstStream(out: Output, streamId: number, errorCode: number): void {
  const bytes = out.reserve(FRAME_HEADER_BYTES + RST_STREAM_BYTES);
  const at = writeFrameHeader(bytes, out.length, RST_STREAM_BYTES, FrameType.RST_STREAM, 0, streamId);
  out.length = writeUint32(bytes, at, errorCode);
}
