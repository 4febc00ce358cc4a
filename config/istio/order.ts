/** The order in which objects win over each other. */
import type { KubeObject } from '../kube_object.ts';

/** Oldest first; then name and namespace where both have a timestamp, else the order of reading. */
export function byAge(a: KubeObject, b: KubeObject): number {
  if (a.creationMs !== undefined && b.creationMs !== undefined) {
    return (
      a.creationMs - b.creationMs || compare(a.name, b.name) || compare(a.namespace, b.namespace) || a.order - b.order
    );
  }
  return a.order - b.order;
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
