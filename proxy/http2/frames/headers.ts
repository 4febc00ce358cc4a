/** HEADERS and what carries on with it (RFC 9113 §6.2). */
import { DEFAULT_FRAME_BYTES, Flag, FrameType } from '../constants.ts';
import { payload, unpad } from './data.ts';
import { writeFrameHeader } from './frame_header.ts';
import { dependsOn } from './priority.ts';

/** Takes padding and priority off, into `payload`. @returns what is wrong, or undefined. */
export function readHeaders(
  bytes: Buffer,
  from: number,
  end: number,
  flags: number,
  streamId: number,
): 'padding' | 'size' | 'itself' | undefined {
  if (!unpad(bytes, from, end, flags)) return 'padding';
  if ((flags & Flag.PRIORITY) === 0) return undefined;
  if (payload.end - payload.from < 5) return 'size';
  const itself = dependsOn(bytes, payload.from) === streamId;
  payload.from += 5;
  return itself ? 'itself' : undefined;
}

/** Completes a block that was written behind a place for the frame's header at `at`. `end`: behind the block. */
export function closeHeaders(out: Buffer, at: number, end: number, streamId: number, endStream: boolean): void {
  const flags = Flag.END_HEADERS | (endStream ? Flag.END_STREAM : 0);
  writeFrameHeader(out, at, end - at - 9, FrameType.HEADERS, flags, streamId);
}

/** Frames that a block of this length takes. */
export function framesOf(blockBytes: number): number {
  return Math.max(1, Math.ceil(blockBytes / DEFAULT_FRAME_BYTES));
}
