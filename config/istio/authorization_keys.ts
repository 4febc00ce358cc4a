/** The attributes that a rule's conditions may ask for. Source: istio.io "Authorization Policy Conditions". */

export type ConditionKind =
  | 'request.headers'
  | 'source.ip'
  | 'remote.ip'
  | 'source.namespace'
  | 'source.principal'
  | 'source.serviceAccount'
  | 'source.trustDomain'
  | 'request.auth.principal'
  | 'request.auth.audiences'
  | 'request.auth.presenter'
  | 'request.auth.claims'
  | 'destination.ip'
  | 'destination.port'
  | 'connection.sni'
  | 'experimental';

export interface ConditionKey {
  readonly kind: ConditionKind;
  /** What stands in brackets: a header, the steps to a claim, a metadata key. */
  readonly names: readonly string[];
  /** Of `experimental.envoy.filters.a.b[c]`: `envoy.filters.a.b`. */
  readonly filter: string;
}

const PLAIN: readonly ConditionKind[] = [
  'source.ip',
  'remote.ip',
  'source.namespace',
  'source.principal',
  'source.serviceAccount',
  'source.trustDomain',
  'request.auth.principal',
  'request.auth.audiences',
  'request.auth.presenter',
  'destination.ip',
  'destination.port',
  'connection.sni',
];

/** undefined: no attribute of Istio's. */
export function conditionKey(key: string): ConditionKey | undefined {
  const plain = PLAIN.find((kind) => kind === key);
  if (plain !== undefined) return { kind: plain, names: [], filter: '' };
  const names = [...key.matchAll(/\[([^[\]]+)\]/g)].map((found) => found[1] as string);
  const bracket = key.indexOf('[');
  if (bracket < 0 || names.length === 0) return undefined;
  const before = key.slice(0, bracket);
  // Nothing but brackets after the first one.
  if (key.slice(bracket) !== names.map((name) => `[${name}]`).join('')) return undefined;
  if (before === 'request.headers' && names.length === 1) return { kind: 'request.headers', names, filter: '' };
  if (before === 'request.auth.claims') return { kind: 'request.auth.claims', names, filter: '' };
  if (before.startsWith('experimental.') && names.length === 1) {
    return { kind: 'experimental', names, filter: before.slice('experimental.'.length) };
  }
  return undefined;
}
