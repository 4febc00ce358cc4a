/** CONTINUATION (RFC 9113 §6.10): the rest of a header block that one frame does not hold. */
import { DEFAULT_FRAME_BYTES, FRAME_HEADER_BYTES, Flag, FrameType } from '../constants.ts';
import type { Output } from '../output.ts';
import { framesOf } from './headers.ts';
import { writeFrameHeader } from './frame_header.ts';

/** Writes `block` as HEADERS and as many CONTINUATION frames as it needs. */
export function writeLongBlock(out: Output, streamId: number, block: Buffer, endStream: boolean): void {
  const frames = framesOf(block.length);
  for (let i = 0; i < frames; i++) {
    const piece = block.subarray(i * DEFAULT_FRAME_BYTES, (i + 1) * DEFAULT_FRAME_BYTES);
    let flags = i === 0 && endStream ? Flag.END_STREAM : 0;
    if (i === frames - 1) flags |= Flag.END_HEADERS;
    const bytes = out.reserve(FRAME_HEADER_BYTES + piece.length);
    const type = i === 0 ? FrameType.HEADERS : FrameType.CONTINUATION;
    const at = writeFrameHeader(bytes, out.length, piece.length, type, flags, streamId);
    piece.copy(bytes, at);
    out.length = at + piece.length;
  }
}
