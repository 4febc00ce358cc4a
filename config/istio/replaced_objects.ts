/** One object in two files: the one read later is meant, as with `kubectl apply -f` of the same files. */
import { isDeepStrictEqual } from 'node:util';

import type { KubeObject } from '../kube_object.ts';

/**
 * The objects without those that a later one of the same group, kind, namespace and name replaces. A replacement that
 * says the same is nothing to speak of; any other gives a warning with both places.
 */
export function withoutReplaced(objects: readonly KubeObject[], warnings: string[]): readonly KubeObject[] {
  const latest = new Map<string, KubeObject>();
  for (const object of objects) {
    const key = identityOf(object);
    const earlier = latest.get(key);
    if (earlier !== undefined && !isDeepStrictEqual(earlier.json, object.json)) {
      warnings.push(
        `${placeOf(object)}: ${object.kind} "${object.name}" of namespace "${object.namespace}" replaces the one of ` +
          `${placeOf(earlier)}, which was read before it.`,
      );
    }
    // Taken out first: the replacement stands where it was read, not where its forerunner was.
    latest.delete(key);
    latest.set(key, object);
  }
  return latest.size === objects.length ? objects : [...latest.values()];
}

/** Versions of one API group are views of the same object. */
function identityOf({ apiVersion, kind, namespace, name }: KubeObject): string {
  const slash = apiVersion.indexOf('/');
  return `${slash === -1 ? '' : apiVersion.slice(0, slash)}\n${kind}\n${namespace}\n${name}`;
}

function placeOf(object: KubeObject): string {
  return object.source.locate(['metadata', 'name']);
}
