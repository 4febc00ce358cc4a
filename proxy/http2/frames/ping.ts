/** PING (RFC 9113 §6.7). */
import { FRAME_HEADER_BYTES, Flag, FrameType } from '../constants.ts';
import type { Output } from '../output.ts';
import { readUint32, writeFrameHeader, writeUint32 } from './frame_header.ts';

export const PING_BYTES = 8;

/** Answers with the eight bytes at `from`. */
export function writePingAck(out: Output, bytes: Buffer, from: number): void {
  writePing(out, readUint32(bytes, from), readUint32(bytes, from + 4), true);
}

export function writePing(out: Output, high: number, low: number, ack = false): void {
  const bytes = out.reserve(FRAME_HEADER_BYTES + PING_BYTES);
  const at = writeFrameHeader(bytes, out.length, PING_BYTES, FrameType.PING, ack ? Flag.ACK : 0, 0);
  out.length = writeUint32(bytes, writeUint32(bytes, at, high), low);
}
