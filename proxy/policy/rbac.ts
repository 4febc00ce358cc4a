/** One engine of authorization rules for HTTP and TCP. Source: envoy.config.rbac.v3.RBAC, and its filters' common fields. */
import { Fields } from '../resource_fields.ts';
import { parseCondition } from './condition.ts';
import { PolicyFacts, type PolicySubject } from './facts.ts';
import { nonEmpty, parsePermission } from './permission.ts';
import { parsePrincipal } from './principal.ts';
import { and, leaf, or, type RuleNode } from './rule_node.ts';
import { RbacMatcherEngine } from './rbac_matcher.ts';
import { RuleIndex } from './rule_index.ts';

export interface RbacVerdict {
  readonly allowed: boolean;
  /** The policy that matched; undefined: none. */
  readonly policy: string | undefined;
  /** A matcher's LOG action was taken. */
  readonly logged?: boolean;
}

/** Verdicts are objects that requests share: one of each outcome. */
export interface RbacDecider {
  /** Of a list of policies; a tree of matchers has one for each outcome. */
  readonly action?: 'ALLOW' | 'DENY' | 'LOG';
  /** Names that verdicts may have. */
  readonly policies: readonly string[];
  decide(subject: PolicySubject): RbacVerdict;
}

export class RbacEngine implements RbacDecider {
  readonly action: 'ALLOW' | 'DENY' | 'LOG';
  /** In the order in which they win: by name, as in Envoy's map. */
  readonly policies: readonly string[];
  readonly #index: RuleIndex;
  readonly #facts = new PolicyFacts();
  /** One of each, so that a decision allocates nothing. */
  readonly #verdicts: readonly RbacVerdict[];
  readonly #unmatched: RbacVerdict;

  constructor(action: RbacEngine['action'], policies: ReadonlyMap<string, RuleNode>) {
    this.action = action;
    this.policies = [...policies.keys()].sort(byBytes);
    this.#index = new RuleIndex(this.policies.map((name) => policies.get(name) as RuleNode));
    this.#verdicts = this.policies.map((policy) => ({ allowed: action !== 'DENY', policy }));
    this.#unmatched = { allowed: action !== 'ALLOW', policy: undefined };
  }

  decide(subject: PolicySubject): RbacVerdict {
    this.#facts.begin(subject);
    const found = this.#index.find(this.#facts);
    return found < 0 ? this.#unmatched : (this.#verdicts[found] as RbacVerdict);
  }
}

/** Envoy's `std::map` compares bytes; JavaScript's `<` compares UTF-16 units. */
function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/** envoy.config.rbac.v3.RBAC. @throws {ConfigError} */
export function parseRbacRules(fields: Fields): RbacEngine {
  const action = fields.oneOf('action', ['ALLOW', 'DENY', 'LOG'], 'ALLOW');
  // Envoy has no audit loggers either.
  if ((fields.message('audit_logging_options')?.list('logger_configs') ?? []).length > 0) {
    fields.fail('audit_logging_options.logger_configs', 'audit loggers are not executed by this version');
  }
  const policies = new Map<string, RuleNode>();
  for (const [name, json] of fields.entries('policies')) {
    policies.set(name, parsePolicy(new Fields(json, `${fields.at('policies')}["${name}"]`)));
  }
  return new RbacEngine(action, policies);
}

/** envoy.config.rbac.v3.Policy. */
function parsePolicy(fields: Fields): RuleNode {
  const condition = parseCondition(fields);
  return and([
    or(nonEmpty(fields, 'permissions').map(parsePermission)),
    or(nonEmpty(fields, 'principals').map(parsePrincipal)),
    ...(condition === undefined ? [] : [leaf(({ subject }) => condition(subject))]),
  ]);
}

/** What the HTTP and the network filter's messages have in common. */
export interface RbacRules {
  /** undefined: nothing is enforced. */
  readonly enforced: RbacDecider | undefined;
  readonly shadow: RbacDecider | undefined;
  readonly shadowPrefix: string;
}

/** `http`: whether there are requests to look at. A matcher goes before rules, as in Envoy. @throws {ConfigError} */
export function parseRbac(fields: Fields, http: boolean): RbacRules {
  return {
    enforced: parseDecider(fields, 'matcher', 'rules', http),
    shadow: parseDecider(fields, 'shadow_matcher', 'shadow_rules', http),
    shadowPrefix: fields.string('shadow_rules_stat_prefix') ?? '',
  };
}

function parseDecider(fields: Fields, tree: string, list: string, http: boolean): RbacDecider | undefined {
  const matcher = fields.message(tree);
  if (matcher !== undefined) return new RbacMatcherEngine(matcher, http);
  const rules = fields.message(list);
  return rules === undefined ? undefined : parseRbacRules(rules);
}

/** %RESPONSE_CODE_DETAILS% and %CONNECTION_TERMINATION_DETAILS% of a denial; white space would break the log's columns. */
export function denialDetails(policy: string | undefined): string {
  return `rbac_access_denied_matched_policy[${(policy ?? 'none').replace(/\s/g, '_')}]`;
}
