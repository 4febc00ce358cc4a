/** AuthorizationPolicy (security.istio.io): who may do what. Source: istio/api security/v1beta1/authorization_policy.proto. */
import { isIP } from 'node:net';
import type { KubeObject } from '../kube_object.ts';
import { type At, fail, list, message, oneOf, openMessage, type Read, text, within } from './shape.ts';
import { checkScope, TARGET_REF, TARGET_REFS, WORKLOAD_SELECTOR } from './workload_selector.ts';
import { conditionKey } from './authorization_keys.ts';

const STRINGS = list(text);

const SOURCE = message({
  principals: STRINGS,
  notPrincipals: STRINGS,
  requestPrincipals: STRINGS,
  notRequestPrincipals: STRINGS,
  namespaces: STRINGS,
  notNamespaces: STRINGS,
  serviceAccounts: STRINGS,
  notServiceAccounts: STRINGS,
  trustDomains: STRINGS,
  notTrustDomains: STRINGS,
  ipBlocks: STRINGS,
  notIpBlocks: STRINGS,
  remoteIpBlocks: STRINGS,
  notRemoteIpBlocks: STRINGS,
});

const OPERATION = message({
  hosts: STRINGS,
  notHosts: STRINGS,
  ports: list((value, at) => text(typeof value === 'number' ? String(value) : value, at)),
  notPorts: list((value, at) => text(typeof value === 'number' ? String(value) : value, at)),
  methods: STRINGS,
  notMethods: STRINGS,
  paths: STRINGS,
  notPaths: STRINGS,
});

const CONDITION = message({ key: text, values: STRINGS, notValues: STRINGS });

const RULE = message({
  from: list(message({ source: SOURCE })),
  to: list(message({ operation: OPERATION })),
  when: list(CONDITION),
});

const SPEC = message({
  selector: WORKLOAD_SELECTOR,
  targetRef: TARGET_REF,
  targetRefs: TARGET_REFS,
  action: oneOf('ALLOW', 'DENY', 'AUDIT', 'CUSTOM'),
  provider: message({ name: text }),
  rules: list(RULE),
});

const AUTHORIZATION_POLICY = openMessage({ spec: SPEC });

export type Source = Read<typeof SOURCE>;
export type Operation = Read<typeof OPERATION>;
export type Condition = Read<typeof CONDITION>;
export type AuthorizationRule = Read<typeof RULE>;

export interface AuthorizationPolicy {
  readonly object: KubeObject;
  readonly spec: Read<typeof SPEC>;
  readonly action: 'ALLOW' | 'DENY' | 'AUDIT' | 'CUSTOM';
  readonly rules: readonly AuthorizationRule[];
  /** Annotation istio.io/dry-run: what it would do is only marked. */
  readonly dryRun: boolean;
  /** Of CUSTOM, else ''. */
  readonly provider: string;
}

/** @throws {ConfigError} */
export function parseAuthorizationPolicy(object: KubeObject, at: At): AuthorizationPolicy {
  const spec = AUTHORIZATION_POLICY(object.json, at).spec ?? SPEC({}, within(at, 'spec'));
  checkScope(spec);
  const action = spec.action ?? 'ALLOW';
  const rules = spec.rules ?? [];
  const dryRun = object.annotations['istio.io/dry-run'];
  if (dryRun !== undefined && dryRun !== 'true' && dryRun !== 'false') {
    fail(within(at, 'metadata', 'annotations', 'istio.io/dry-run'), `"true" or "false" is wanted, got "${dryRun}"`);
  }
  const provider = spec.provider?.name ?? '';
  if (action === 'CUSTOM') {
    if (provider === '') fail(spec.at, 'action CUSTOM needs provider.name');
    if (rules.length === 0) fail(spec.at, 'action CUSTOM needs rules');
  } else if (spec.provider !== undefined) fail(within(spec.at, 'provider'), 'provider is for action CUSTOM only');
  for (const rule of rules) checkRule(rule, action);
  return { object, spec, action, rules, dryRun: dryRun === 'true', provider };
}

function checkRule(rule: AuthorizationRule, action: AuthorizationPolicy['action']): void {
  for (const { source, at } of rule.from ?? []) {
    if (source === undefined) fail(at, 'source is required');
    checkSource(source, action);
  }
  for (const { operation, at } of rule.to ?? []) {
    if (operation === undefined) fail(at, 'operation is required');
    checkOperation(operation);
  }
  for (const condition of rule.when ?? []) checkCondition(condition);
}

function checkSource(source: Source, action: AuthorizationPolicy['action']): void {
  notEmpty(source);
  const { serviceAccounts, notServiceAccounts, principals, notPrincipals, namespaces, notNamespaces } = source;
  if (
    (serviceAccounts ?? notServiceAccounts) !== undefined &&
    (principals ?? notPrincipals ?? namespaces ?? notNamespaces) !== undefined
  ) {
    fail(source.at, 'serviceAccounts cannot be set together with principals or namespaces');
  }
  for (const name of ['serviceAccounts', 'notServiceAccounts'] as const) {
    source[name]?.forEach((account, index) => {
      if (account.includes('*') || account.split('/').length > 2) {
        fail(
          within(source.at, name, index),
          `a service account as "namespace/name" or "name" is wanted, got "${account}"`,
        );
      }
    });
  }
  for (const name of ['ipBlocks', 'notIpBlocks', 'remoteIpBlocks', 'notRemoteIpBlocks'] as const) {
    source[name]?.forEach((block, index) => {
      checkBlock(block, within(source.at, name, index));
    });
  }
  if (action !== 'CUSTOM') return;
  for (const name of ['requestPrincipals', 'notRequestPrincipals'] as const) {
    // The external authorizer is asked before any token is looked at.
    if (source[name] !== undefined) fail(within(source.at, name), 'is not possible with action CUSTOM');
  }
}

function checkOperation(operation: Operation): void {
  notEmpty(operation);
  for (const name of ['ports', 'notPorts'] as const) {
    operation[name]?.forEach((port, index) => {
      checkPort(port, within(operation.at, name, index));
    });
  }
  for (const name of ['paths', 'notPaths'] as const) {
    operation[name]?.forEach((path, index) => {
      checkTemplate(path, within(operation.at, name, index));
    });
  }
}

function checkCondition(condition: Condition): void {
  const { key = '', values, notValues, at } = condition;
  if (key === '') fail(within(at, 'key'), 'a key is required');
  if ((values ?? []).length === 0 && (notValues ?? []).length === 0) fail(at, 'values or notValues is required');
  const kind = conditionKey(key);
  if (kind === undefined) fail(within(at, 'key'), `"${key}" is no attribute that Istio knows`);
  for (const name of ['values', 'notValues'] as const) {
    condition[name]?.forEach((value, index) => {
      const place = within(at, name, index);
      if (kind.kind === 'source.ip' || kind.kind === 'remote.ip' || kind.kind === 'destination.ip')
        checkBlock(value, place);
      else if (kind.kind === 'destination.port') checkPort(value, place);
      else if (value === '') fail(place, 'an empty value is not allowed');
    });
  }
}

/** An empty list or text would match nothing or everything: Istio refuses both. */
function notEmpty(fields: Source | Operation): void {
  const { at, ...lists } = fields;
  const given = Object.entries(lists) as [string, readonly string[]][];
  if (given.length === 0) fail(at, 'at least one field is required');
  for (const [name, items] of given) {
    if (items.length === 0) fail(within(at, name), 'at least one entry is required');
    const empty = items.indexOf('');
    if (empty >= 0) fail(within(at, name, empty), 'an empty entry is not allowed');
  }
}

function checkBlock(block: string, at: At): void {
  const [ip = '', length, ...rest] = block.split('/');
  const family = isIP(ip);
  const most = family === 4 ? 32 : 128;
  const valid =
    family !== 0 && rest.length === 0 && (length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= most));
  if (!valid) fail(at, `an IP address or a CIDR range is wanted, got "${block}"`);
}

function checkPort(port: string, at: At): void {
  if (!/^\d{1,5}$/.test(port) || Number(port) < 1 || Number(port) > 65535) {
    fail(at, `a port from 1 to 65535 is wanted, got "${port}"`);
  }
}

/** `{*}` is one segment, `{**}` any number; nothing else stands in braces, and not beside the old `*`. */
function checkTemplate(path: string, at: At): void {
  if (!path.includes('{') && !path.includes('}')) return;
  const segments = path.split('/');
  const rest = segments.indexOf('{**}');
  for (const [index, segment] of segments.entries()) {
    const isWildcard = segment === '{*}' || segment === '{**}';
    if (!isWildcard && /[{}*]/.test(segment))
      fail(at, `"${path}": only {*} and {**} can stand in a path template, each as a whole segment`);
    if (isWildcard && rest >= 0 && index > rest) fail(at, `"${path}": no other wildcard can come after {**}`);
  }
  if (!path.startsWith('/')) fail(at, `"${path}": a path template begins with /`);
}
