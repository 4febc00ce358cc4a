/**
 * Ends the streams that hold most memory. What they hold falls into eight classes, each twice the one before; the more
 * pressure, the more classes go, the heaviest first.
 * Source: Envoy docs "Reset streams", source/common/buffer/watermark_buffer.cc resetAccountsGivenPressure.
 */

/** A stream, by what it keeps of its request and response. */
export interface HeldMemory {
  readonly heldBytes: number;
  /** Answers 503 (OM) where nothing was answered, else resets. */
  shed(): void;
}

const CLASSES = 8;
/** The others are for the next time: ending streams costs something too. */
const MOST_AT_A_TIME = 50;

/** `fromPower`: the lightest class begins at 2^fromPower bytes. `level`: above 0, up to 1. @returns how many were ended. */
export function shedHeavy(streams: readonly HeldMemory[], fromPower: number, level: number): number {
  const cleared = Math.min(CLASSES, Math.floor(level * CLASSES) + 1);
  const fromBytes = 2 ** (fromPower + CLASSES - cleared);
  const heavy = streams
    .map((stream) => ({ stream, bytes: stream.heldBytes }))
    .filter(({ bytes }) => bytes >= fromBytes)
    .sort((a, b) => b.bytes - a.bytes)
    .slice(0, MOST_AT_A_TIME);
  for (const { stream } of heavy) stream.shed();
  return heavy.length;
}
