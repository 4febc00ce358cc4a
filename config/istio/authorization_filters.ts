/**
 * The filters that enforce a workload's AuthorizationPolicies, in the order in which Istio runs them:
 * CUSTOM (before tokens are looked at), then AUDIT, DENY, ALLOW.
 * Source: istio/istio pilot/pkg/security/authz/builder.
 */
import type { Json } from '../resources.ts';
import type { AuthorizationPolicy } from './authorization_policy.ts';
import { type Destination, NEVER, rbacPolicy } from './authorization_rule.ts';
import { extension } from './envoy_json.ts';
import { badProvider, type ExtensionProviders } from './extension_providers.ts';

const HTTP_RBAC = ['envoy.filters.http.rbac', 'envoy.extensions.filters.http.rbac.v3.RBAC'] as const;
const TCP_RBAC = ['envoy.filters.network.rbac', 'envoy.extensions.filters.network.rbac.v3.RBAC'] as const;
const DRY_RUN = { ALLOW: 'istio_dry_run_allow_', DENY: 'istio_dry_run_deny_', LOG: '' } as const;
const CUSTOM_PREFIX = 'istio-ext-authz-';
const CUSTOM_SHADOW = 'istio_ext_authz_';

export interface AuthorizationInput {
  /** Those that hold for the workload. */
  readonly policies: readonly AuthorizationPolicy[];
  readonly providers: ExtensionProviders;
  /** The mesh's own first. */
  readonly trustDomains: readonly string[];
  /** Where there is no interception: what the listener stands for. */
  readonly destination?: Destination | undefined;
}

export interface AuthorizationFilters {
  readonly custom: readonly Json[];
  readonly others: readonly Json[];
}

export function authorizationFilters(input: AuthorizationInput, tcp: boolean): AuthorizationFilters {
  const of = (action: AuthorizationPolicy['action']) => input.policies.filter((policy) => policy.action === action);
  return {
    custom: customFilters(input, of('CUSTOM'), tcp),
    others: [
      ...ruleFilter(input, of('AUDIT'), 'LOG', tcp),
      ...ruleFilter(input, of('DENY'), 'DENY', tcp),
      ...ruleFilter(input, of('ALLOW'), 'ALLOW', tcp),
    ],
  };
}

function ruleFilter(
  input: AuthorizationInput,
  policies: readonly AuthorizationPolicy[],
  action: 'ALLOW' | 'DENY' | 'LOG',
  tcp: boolean,
): Json[] {
  if (policies.length === 0) return [];
  const make = (dryRun: boolean): Json | undefined => {
    const wanted = policies.filter((policy) => policy.dryRun === dryRun);
    if (wanted.length === 0) return undefined;
    return rules(
      action,
      rbacPolicies(input, wanted, tcp, action !== 'ALLOW', (name) => name),
    );
  };
  const enforced = make(false);
  const shadow = make(true);
  return [
    rbacFilter(tcp, {
      ...(enforced !== undefined && { rules: enforced }),
      ...(shadow !== undefined && { shadow_rules: shadow }),
      shadow_rules_stat_prefix: DRY_RUN[shadow === undefined ? 'ALLOW' : action],
    }),
  ];
}

function rbacFilter(tcp: boolean, config: Json): Json {
  return tcp ? extension(...TCP_RBAC, { ...config, stat_prefix: 'tcp.' }) : extension(...HTTP_RBAC, config);
}

/** Nothing in it is left out, as protobuf JSON does. */
function rules(action: 'ALLOW' | 'DENY' | 'LOG', policies: Json): Json {
  return {
    ...(action !== 'ALLOW' && { action }),
    ...(Object.keys(policies).length > 0 && { policies }),
  };
}

function rbacPolicies(
  { trustDomains, destination }: AuthorizationInput,
  policies: readonly AuthorizationPolicy[],
  tcp: boolean,
  lenient: boolean,
  nameOf: (name: string) => string,
): Json {
  const out: [string, Json][] = [];
  for (const { object, rules: ruleList } of policies) {
    const name = (index: number) => nameOf(`ns[${object.namespace}]-policy[${object.name}]-rule[${index}]`);
    if (ruleList.length === 0) out.push([name(0), NEVER]);
    ruleList.forEach((rule, index) => {
      const policy = rbacPolicy(rule, { tcp, lenient, namespace: object.namespace, trustDomains, destination });
      if (policy !== undefined) out.push([name(index), policy]);
    });
  }
  return Object.fromEntries(out);
}

/** For each provider: shadow rules that say which requests are its affair, and the filter that asks it of those. */
function customFilters(input: AuthorizationInput, policies: readonly AuthorizationPolicy[], tcp: boolean): Json[] {
  const names = [...new Set(policies.map((policy) => policy.provider))].sort();
  return names.flatMap((name) => {
    const own = policies.filter((policy) => policy.provider === name);
    const provider = input.providers.authorizer(name);
    const prefix = `${CUSTOM_PREFIX}${name}-`;
    if (provider === undefined || names.length > 1) {
      // What should have been asked is not allowed unasked.
      const denied = rbacPolicies(input, own, tcp, true, (rule) => `${prefix}${rule}-${badProvider}`);
      return [rbacFilter(tcp, { rules: rules('DENY', denied) })];
    }
    const asker = tcp ? provider.tcp(`${CUSTOM_PREFIX}${name}`) : provider.http(`${CUSTOM_PREFIX}${name}`);
    if (asker === undefined) return [];
    const shadow = rules(
      'DENY',
      rbacPolicies(input, own, tcp, true, (rule) => `${prefix}${rule}`),
    );
    return [rbacFilter(tcp, { shadow_rules: shadow, shadow_rules_stat_prefix: CUSTOM_SHADOW }), asker];
  });
}
