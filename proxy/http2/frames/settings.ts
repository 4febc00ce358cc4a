/** SETTINGS (RFC 9113 §6.5). */
import {
  DEFAULT_FRAME_BYTES,
  ErrorCode,
  FRAME_HEADER_BYTES,
  Flag,
  FrameType,
  MAX_WINDOW_BYTES,
  Setting,
} from '../constants.ts';
import type { Output } from '../output.ts';
import { readUint32, writeFrameHeader, writeUint32 } from './frame_header.ts';

export const SETTING_BYTES = 6;
/** The largest frame that a peer may offer to take. */
const MAX_FRAME_BYTES = 16_777_215;

/** Calls `apply` for each setting. @returns an error code; 0: all are in range. */
export function readSettings(
  bytes: Buffer,
  from: number,
  end: number,
  apply: (id: number, value: number) => void,
): number {
  for (let at = from; at < end; at += SETTING_BYTES) {
    const id = ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
    const value = readUint32(bytes, at + 2);
    if (id === Setting.ENABLE_PUSH || id === Setting.ENABLE_CONNECT_PROTOCOL) {
      if (value > 1) return ErrorCode.PROTOCOL_ERROR;
    } else if (id === Setting.INITIAL_WINDOW_SIZE) {
      if (value > MAX_WINDOW_BYTES) return ErrorCode.FLOW_CONTROL_ERROR;
    } else if (id === Setting.MAX_FRAME_SIZE) {
      if (value < DEFAULT_FRAME_BYTES || value > MAX_FRAME_BYTES) return ErrorCode.PROTOCOL_ERROR;
    }
    apply(id, value);
  }
  return 0;
}

/** `settings`: id and value alternating. */
export function writeSettings(out: Output, settings: readonly number[]): void {
  const length = (settings.length / 2) * SETTING_BYTES;
  const bytes = out.reserve(FRAME_HEADER_BYTES + length);
  let at = writeFrameHeader(bytes, out.length, length, FrameType.SETTINGS, 0, 0);
  for (let i = 0; i < settings.length; i += 2) {
    bytes[at] = 0;
    bytes[at + 1] = settings[i] as number;
    at = writeUint32(bytes, at + 2, settings[i + 1] as number);
  }
  out.length = at;
}

export function writeSettingsAck(out: Output): void {
  const bytes = out.reserve(FRAME_HEADER_BYTES);
  out.length = writeFrameHeader(bytes, out.length, 0, FrameType.SETTINGS, Flag.ACK, 0);
}
