/** PRIORITY (RFC 9113 §6.3): deprecated, checked and otherwise ignored. */
import { readUint31 } from './frame_header.ts';

export const PRIORITY_BYTES = 5;

/** The stream that a priority names. */
export function dependsOn(bytes: Uint8Array, from: number): number {
  return readUint31(bytes, from);
}
