/** Protobuf JSON in camelCase with the protos' own field names, as resources have them. */

/** Keys of maps (policies, filter metadata) are data: they have no capital behind a small letter, or stand below these. */
const MAPS = new Set(['policies', 'filterMetadata', 'providers']);

export function snakeCase(value: unknown, keysAreData = false): unknown {
  if (Array.isArray(value)) return value.map((item) => snakeCase(item));
  if (value === null || typeof value !== 'object') return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      keysAreData || name.startsWith('@') ? name : name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      snakeCase(item, MAPS.has(name)),
    ]),
  );
}
