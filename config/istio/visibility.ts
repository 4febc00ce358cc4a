/** exportTo: which namespaces see an object. */
import type { Visibility } from './model.ts';

const EVERYBODY: Visibility = new Set(['*']);
const NOBODY: Visibility = new Set();

/**
 * `.` is the object's own namespace, `~` nobody, `*` (even among others) everybody; an empty list is the mesh's
 * default.
 */
export function visibility(
  exportTo: readonly string[] | undefined,
  namespace: string,
  meshDefault: readonly string[],
): Visibility {
  const list = exportTo === undefined || exportTo.length === 0 ? meshDefault : exportTo;
  if (list.includes('*')) return EVERYBODY;
  if (list.includes('~')) return NOBODY;
  return new Set(list.map((name) => (name === '.' ? namespace : name)));
}

export function isVisible(to: Visibility, namespace: string): boolean {
  return to.has('*') || to.has(namespace);
}
