/** google.protobuf.FieldMask on JSON: keeps the fields that are named, through Any as through any message. */
import type { Json } from '../../config/resources.ts';

/** undefined: a path goes through a list before its end, which a mask cannot. */
export function trim(message: Json, paths: readonly string[]): Json | undefined {
  const kept: Record<string, unknown> = {};
  for (const path of paths) {
    if (!keep(message, path.split('.'), kept)) return undefined;
  }
  return kept;
}

function keep(from: Json, path: readonly string[], into: Record<string, unknown>): boolean {
  const [field = '', ...rest] = path;
  if (!Object.hasOwn(from, field)) return true;
  const value = from[field];
  if (rest.length === 0) {
    into[field] = value;
    return true;
  }
  if (value === null || typeof value !== 'object' || Array.isArray(value)) return false;
  const inner = value as Json;
  const known = into[field];
  const target: Record<string, unknown> =
    known !== null && typeof known === 'object' && !Array.isArray(known)
      ? (known as Record<string, unknown>)
      : // The type of an Any is no field of it: without it nobody could read the rest.
        Object.hasOwn(inner, '@type')
        ? { '@type': inner['@type'] }
        : {};
  into[field] = target;
  return keep(inner, rest, target);
}
