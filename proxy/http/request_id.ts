/** Request ids: version 4 UUIDs that tell requests apart, and are no secrets. */

const HEX: readonly string[] = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'));

/**
 * A UUID (RFC 9562 §5.4) of four draws. A third of what crypto.randomUUID costs, on every request; Envoy too draws
 * request ids from a generator that is not cryptographic.
 */
export function randomRequestId(random: () => number): string {
  const a = (random() * 0x1_0000_0000) >>> 0;
  const b = (random() * 0x1_0000_0000) >>> 0;
  const c = (random() * 0x1_0000_0000) >>> 0;
  const d = (random() * 0x1_0000_0000) >>> 0;
  return (
    `${HEX[a >>> 24]}${HEX[(a >>> 16) & 255]}${HEX[(a >>> 8) & 255]}${HEX[a & 255]}-` +
    `${HEX[b >>> 24]}${HEX[(b >>> 16) & 255]}-${HEX[((b >>> 8) & 15) | 64]}${HEX[b & 255]}-` +
    `${HEX[((c >>> 24) & 63) | 128]}${HEX[(c >>> 16) & 255]}-${HEX[(c >>> 8) & 255]}${HEX[c & 255]}` +
    `${HEX[d >>> 24]}${HEX[(d >>> 16) & 255]}${HEX[(d >>> 8) & 255]}${HEX[d & 255]}`
  );
}
