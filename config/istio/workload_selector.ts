/** Which policies hold for a workload: its namespace's and the root namespace's, by labels. */
import type { KubeObject } from '../kube_object.ts';
import type { Client } from './context.ts';
import { type At, fail, list, looseText, mapOf, message, type Read, text, within } from './shape.ts';

export const WORKLOAD_SELECTOR = message({ matchLabels: mapOf(looseText) });

export const TARGET_REF = message({ group: text, kind: text, name: text, namespace: text });
export const TARGET_REFS = list(TARGET_REF);

/** What every security policy says of where it holds. */
export interface PolicyScope {
  readonly selector?: Read<typeof WORKLOAD_SELECTOR>;
  readonly targetRef?: Read<typeof TARGET_REF>;
  readonly targetRefs?: Read<typeof TARGET_REFS>;
  readonly at: At;
}

/** @throws {ConfigError} when it says where it holds in two ways, or points at what it cannot. */
export function checkScope(scope: PolicyScope): void {
  const ways = [scope.selector, scope.targetRef, scope.targetRefs].filter((way) => way !== undefined);
  if (ways.length > 1) fail(scope.at, 'only one of selector, targetRef and targetRefs can be set');
  const refs = [...(scope.targetRef === undefined ? [] : [scope.targetRef]), ...(scope.targetRefs ?? [])];
  for (const ref of refs) {
    if ((ref.name ?? '') === '') fail(within(ref.at, 'name'), 'a name is required');
    if (!/^[A-Z][A-Za-z0-9]*$/.test(ref.kind ?? ''))
      fail(within(ref.at, 'kind'), `a kind is wanted, got "${ref.kind ?? ''}"`);
    if (!/^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$/.test(ref.group ?? '')) {
      fail(within(ref.at, 'group'), `an API group is wanted, got "${ref.group ?? ''}"`);
    }
    if ((ref.namespace ?? '') !== '' && ref.namespace !== scope.at.object.namespace) {
      fail(within(ref.at, 'namespace'), 'a target in another namespace is not supported');
    }
  }
}

/** Policies with targets are for gateways and waypoints, never for a sidecar. */
export function holdsFor(
  object: KubeObject,
  scope: PolicyScope,
  client: Pick<Client, 'namespace' | 'labels'>,
  rootNamespace: string,
): boolean {
  if (scope.targetRef !== undefined || (scope.targetRefs ?? []).length > 0) return false;
  if (object.namespace !== client.namespace && object.namespace !== rootNamespace) return false;
  for (const [name, value] of scope.selector?.matchLabels ?? []) {
    if (client.labels[name] !== value) return false;
  }
  return true;
}

/** Whether it names no workload: it holds for a whole namespace, or the mesh. */
export function isUnselective(scope: PolicyScope): boolean {
  return (scope.selector?.matchLabels?.size ?? 0) === 0;
}
