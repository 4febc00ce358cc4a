/**
 * A rule of an AuthorizationPolicy as an RBAC policy, exactly as istiod makes it
 * (istio/istio: pilot/pkg/security/authz/model).
 */
import { cidr } from '../../proxy/net/cidr.ts';
import type { Json } from '../resources.ts';
import { conditionKey } from './authorization_keys.ts';
import {
  cidrRange,
  claimValuesMatcher,
  filterMetadataMatcher,
  headerMatcher,
  hostMatcher,
  namespaceMatcher,
  pathMatcher,
  principalMatcher,
  requestPrincipalMatcher,
  serviceAccountMatcher,
  stringMatcher,
  trustDomainMatcher,
} from './authorization_matchers.ts';
import type { AuthorizationRule, Condition, Operation, Source } from './authorization_policy.ts';
import { withAliases } from './trust_domain.ts';

export interface RuleOptions {
  readonly tcp: boolean;
  /**
   * What asks for HTTP on a TCP port: an ALLOW rule goes as a whole; of a DENY, AUDIT or CUSTOM rule only the
   * condition, which widens it.
   */
  readonly lenient: boolean;
  /** Of the policy. */
  readonly namespace: string;
  /** The mesh's own first. */
  readonly trustDomains: readonly string[];
  /** Where there is no interception: what the listener stands for. undefined: the connection's own destination. */
  readonly destination?: Destination | undefined;
}

export interface Destination {
  /** The workload's, whatever port the listener has. */
  readonly port: number;
  /** The workload's; undefined: not known, so that rules about it never match. */
  readonly ip: string | undefined;
}

/** One attribute of a rule with what it must and must not be. */
interface Term {
  readonly values: readonly string[];
  readonly notValues: readonly string[];
  readonly httpOnly: boolean;
  /** All values in one matcher, of which one must hold. */
  readonly match: (values: readonly string[]) => Json;
}

type Side = 'permission' | 'principal';
const NAMES = {
  permission: { and: 'and_rules', or: 'or_rules', not: 'not_rule', items: 'rules' },
  principal: { and: 'and_ids', or: 'or_ids', not: 'not_id', items: 'ids' },
} as const;

/** undefined: nothing of the rule holds on TCP. */
export function rbacPolicy(rule: AuthorizationRule, options: RuleOptions): Json | undefined {
  const conditions = (rule.when ?? []).map((condition) => conditionTerm(condition, options));
  const side = (wanted: Side) => conditions.filter((item) => item.side === wanted).map((item) => item.term);
  const operations = (rule.to ?? []).map(({ operation }) => operationTerms(operation, options));
  const sources = (rule.from ?? []).map(({ source }) => sourceTerms(source, options));
  const permissions = (operations.length === 0 ? [[]] : operations).map((terms) =>
    conjunction('permission', [...terms, ...side('permission')], options),
  );
  const principals = (sources.length === 0 ? [[]] : sources).map((terms) =>
    conjunction('principal', [...terms, ...side('principal')], options),
  );
  if (permissions.includes(undefined) || principals.includes(undefined)) return undefined;
  return { permissions, principals };
}

/** Of a policy without rules: never matches. */
export const NEVER: Json = {
  permissions: [{ not_rule: { any: true } }],
  principals: [{ not_id: { any: true } }],
};

function conjunction(side: Side, terms: readonly Term[], { tcp, lenient }: RuleOptions): Json | undefined {
  const { and, not, items } = NAMES[side];
  const out: Json[] = [];
  for (const { values, notValues, httpOnly, match } of terms) {
    if (values.length === 0 && notValues.length === 0) continue;
    if (tcp && httpOnly) {
      if (lenient) continue;
      return undefined;
    }
    if (values.length > 0) out.push(match(values));
    if (notValues.length > 0) out.push({ [not]: match(notValues) });
  }
  return { [and]: { [items]: out.length === 0 ? [{ any: true }] : out } };
}

function each(side: Side, one: (value: string) => Json): Term['match'] {
  const { or, items } = NAMES[side];
  return (values) => ({ [or]: { [items]: values.map(one) } });
}

function term(
  match: Term['match'],
  values: readonly string[] | undefined,
  notValues: readonly string[] | undefined,
  httpOnly = false,
): Term {
  return { values: values ?? [], notValues: notValues ?? [], httpOnly, match };
}

function operationTerms(operation: Operation | undefined, options: RuleOptions): Term[] {
  if (operation === undefined) return [];
  const of = (one: (value: string) => Json) => each('permission', one);
  return [
    term(of(hostMatcher), operation.hosts, operation.notHosts, true),
    term(
      of((value) => headerMatcher(':method', value)),
      operation.methods,
      operation.notMethods,
      true,
    ),
    term(of(pathMatcher), operation.paths, operation.notPaths, true),
    term(of(destinationPort(options)), operation.ports, operation.notPorts),
  ];
}

function sourceTerms(source: Source | undefined, options: RuleOptions): Term[] {
  if (source === undefined) return [];
  const of = (one: (value: string) => Json) => each('principal', one);
  return [
    principals(source.principals, source.notPrincipals, options),
    term(requestPrincipals, source.requestPrincipals, source.notRequestPrincipals, true),
    term(
      of((value) => serviceAccountMatcher(value, options.namespace)),
      source.serviceAccounts,
      source.notServiceAccounts,
    ),
    term(of(namespaceMatcher), source.namespaces, source.notNamespaces),
    term(of(trustDomainMatcher), source.trustDomains, source.notTrustDomains),
    term(of(ip('remote_ip')), source.remoteIpBlocks, source.notRemoteIpBlocks),
    term(of(ip('direct_remote_ip')), source.ipBlocks, source.notIpBlocks),
  ];
}

function principals(
  values: readonly string[] | undefined,
  notValues: readonly string[] | undefined,
  { trustDomains }: RuleOptions,
): Term {
  return term(
    each('principal', principalMatcher),
    withAliases(values ?? [], trustDomains),
    withAliases(notValues ?? [], trustDomains),
  );
}

/** One alone stands without the list around it, as istiod writes it. */
function requestPrincipals(values: readonly string[]): Json {
  const matchers = values.map(requestPrincipalMatcher);
  const [only] = matchers;
  return matchers.length === 1 && only !== undefined ? only : { or_ids: { ids: matchers } };
}

function ip(field: string): (value: string) => Json {
  return (value) => ({ [field]: cidrRange(value) });
}

const ALWAYS: Json = { any: true };
const NOT_EVER: Json = { not_rule: ALWAYS };

function destinationPort({ destination }: RuleOptions): (value: string) => Json {
  if (destination === undefined) return (value) => ({ destination_port: Number(value) });
  return (value) => (Number(value) === destination.port ? ALWAYS : NOT_EVER);
}

function destinationIp({ destination }: RuleOptions): (value: string) => Json {
  if (destination === undefined) return ip('destination_ip');
  return (value) => {
    if (destination.ip === undefined) return NOT_EVER;
    const [address = '', length = destination.ip.includes(':') ? '128' : '32'] = value.split('/');
    return cidr(address, Number(length), value).contains(destination.ip) ? ALWAYS : NOT_EVER;
  };
}

/** `when`: attributes of the connection are permissions, of the caller principals. */
function conditionTerm(condition: Condition, options: RuleOptions): { readonly side: Side; readonly term: Term } {
  const key = conditionKey(condition.key ?? '');
  // The parser refused what is none.
  if (key === undefined) throw new Error(`"${condition.key}" is no attribute`);
  const { values, notValues } = condition;
  const permission = (match: Term['match']) => ({ side: 'permission' as const, term: term(match, values, notValues) });
  const principal = (match: Term['match'], httpOnly = false) => ({
    side: 'principal' as const,
    term: term(match, values, notValues, httpOnly),
  });
  const [name = ''] = key.names;
  switch (key.kind) {
    case 'destination.ip':
      return permission(each('permission', destinationIp(options)));
    case 'destination.port':
      return permission(each('permission', destinationPort(options)));
    case 'connection.sni':
      return permission(each('permission', (value) => ({ requested_server_name: stringMatcher(value) })));
    case 'experimental':
      return permission((all) => filterMetadataMatcher(key.filter, name, all));
    case 'source.ip':
      return principal(each('principal', ip('direct_remote_ip')));
    case 'remote.ip':
      return principal(each('principal', ip('remote_ip')));
    case 'source.namespace':
      return principal(each('principal', namespaceMatcher));
    case 'source.serviceAccount':
      return principal(each('principal', (value) => serviceAccountMatcher(value, options.namespace)));
    case 'source.trustDomain':
      return principal(each('principal', trustDomainMatcher));
    case 'source.principal':
      return { side: 'principal', term: principals(values, notValues, options) };
    case 'request.headers':
      return principal(
        each('principal', (value) => headerMatcher(name, value)),
        true,
      );
    case 'request.auth.principal':
      return principal(requestPrincipals, true);
    case 'request.auth.audiences':
      return principal((all) => claimValuesMatcher(['aud'], all), true);
    case 'request.auth.presenter':
      return principal((all) => claimValuesMatcher(['azp'], all), true);
    case 'request.auth.claims':
      return principal((all) => claimValuesMatcher(key.names, all), true);
    default:
      return key.kind satisfies never;
  }
}
