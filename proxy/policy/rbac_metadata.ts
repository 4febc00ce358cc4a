/**
 * What an authorization decision leaves in dynamic metadata, for later filters (CUSTOM in Istio asks ext_authz only
 * where its shadow rules matched) and for access logs. Source: Envoy's RBAC filter documentation, "Dynamic Metadata".
 */
import type { RbacEngine } from './rbac.ts';

const NAMESPACE = 'envoy.filters.http.rbac';
const COMMON = 'envoy.common';

interface WithMetadata {
  dynamicMetadata: Map<string, Record<string, unknown>> | undefined;
}

export interface VerdictMetadata {
  set(info: WithMetadata, allowed: boolean, policy: string | undefined): void;
}

export function shadowMetadata(prefix: string, engine: RbacEngine | undefined, namespace = NAMESPACE): VerdictMetadata {
  return verdictMetadata(`${prefix}shadow_`, engine, namespace);
}

export function enforcedMetadata(
  prefix: string,
  engine: RbacEngine | undefined,
  namespace = NAMESPACE,
): VerdictMetadata {
  return verdictMetadata(`${prefix}enforced_`, engine, namespace);
}

function verdictMetadata(prefix: string, engine: RbacEngine | undefined, namespace: string): VerdictMetadata {
  const idKey = `${prefix}effective_policy_id`;
  const resultKey = `${prefix}engine_result`;
  const logs = engine?.action === 'LOG';
  // One object of each outcome, shared by all requests: never written to, replaced where others add to it.
  const made = new Map<string | undefined, Record<string, unknown>>();
  const outcome = (allowed: boolean, policy: string | undefined): Record<string, unknown> => {
    let fields = made.get(policy);
    if (fields === undefined) {
      const result = { [resultKey]: allowed ? 'allowed' : 'denied' };
      fields = policy === undefined ? result : { [idKey]: policy, ...result };
      made.set(policy, fields);
    }
    return fields;
  };
  return {
    set(info, allowed, policy) {
      info.dynamicMetadata ??= new Map();
      const all = info.dynamicMetadata;
      const before = all.get(namespace);
      const fields = outcome(allowed, policy);
      all.set(namespace, before === undefined ? fields : { ...before, ...fields });
      if (logs) all.set(COMMON, { ...all.get(COMMON), access_log_hint: policy !== undefined });
    },
  };
}
