/**
 * What an authorization decision leaves in dynamic metadata, for later filters (CUSTOM in Istio asks ext_authz only
 * where its shadow rules matched) and for access logs. Source: Envoy's RBAC filter documentation, "Dynamic Metadata".
 */
import type { RbacDecider, RbacVerdict } from './rbac.ts';

const NAMESPACE = 'envoy.filters.http.rbac';
const COMMON = 'envoy.common';

interface WithMetadata {
  dynamicMetadata: Map<string, Record<string, unknown>> | undefined;
}

/** Objects that verdicts share: what two of them add up to is made once. */
const shared = new WeakSet<object>();

export interface VerdictMetadata {
  set(info: WithMetadata, verdict: RbacVerdict): void;
}

export function shadowMetadata(
  prefix: string,
  engine: RbacDecider | undefined,
  namespace = NAMESPACE,
): VerdictMetadata {
  return verdictMetadata(`${prefix}shadow_`, engine, namespace);
}

export function enforcedMetadata(
  prefix: string,
  engine: RbacDecider | undefined,
  namespace = NAMESPACE,
): VerdictMetadata {
  return verdictMetadata(`${prefix}enforced_`, engine, namespace);
}

function verdictMetadata(prefix: string, engine: RbacDecider | undefined, namespace: string): VerdictMetadata {
  const idKey = `${prefix}effective_policy_id`;
  const resultKey = `${prefix}engine_result`;
  const logs = engine?.action === 'LOG';
  // One object of each outcome, shared by all requests: never written to, replaced where others add to it.
  const made = new WeakMap<RbacVerdict, Record<string, unknown>>();
  const outcome = (verdict: RbacVerdict): Record<string, unknown> => {
    let fields = made.get(verdict);
    if (fields === undefined) {
      const { allowed, policy } = verdict;
      const result = { [resultKey]: allowed ? 'allowed' : 'denied' };
      fields = policy === undefined ? result : { [idKey]: policy, ...result };
      made.set(verdict, fields);
      shared.add(fields);
    }
    return fields;
  };
  const sums = new WeakMap<object, WeakMap<object, Record<string, unknown>>>();
  const sum = (before: Record<string, unknown>, fields: Record<string, unknown>): Record<string, unknown> => {
    if (!shared.has(before)) return { ...before, ...fields };
    let known = sums.get(before);
    if (known === undefined) {
      known = new WeakMap();
      sums.set(before, known);
    }
    let total = known.get(fields);
    if (total === undefined) {
      total = { ...before, ...fields };
      shared.add(total);
      known.set(fields, total);
    }
    return total;
  };
  return {
    set(info, verdict) {
      info.dynamicMetadata ??= new Map();
      const all = info.dynamicMetadata;
      const before = all.get(namespace);
      const fields = outcome(verdict);
      all.set(namespace, before === undefined ? fields : sum(before, fields));
      if (logs || verdict.logged === true) {
        all.set(COMMON, { ...all.get(COMMON), access_log_hint: verdict.policy !== undefined });
      }
    },
  };
}
