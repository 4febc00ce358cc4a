/** One engine of authorization rules for HTTP and TCP. Source: envoy.config.rbac.v3.RBAC, and its filters' common fields. */
import { Fields } from '../resource_fields.ts';
import { PolicyFacts, type PolicySubject } from './facts.ts';
import { nonEmpty, parsePermission } from './permission.ts';
import { parsePrincipal } from './principal.ts';
import { and, or, type RuleNode } from './rule_node.ts';
import { RuleIndex } from './rule_index.ts';

export interface RbacVerdict {
  readonly allowed: boolean;
  /** The policy that matched; undefined: none. */
  readonly policy: string | undefined;
}

export class RbacEngine {
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
  if (fields.has('audit_logging_options')) {
    fields.fail('audit_logging_options', 'audit loggers are not executed by this version');
  }
  const policies = new Map<string, RuleNode>();
  for (const [name, json] of fields.entries('policies')) {
    policies.set(name, parsePolicy(new Fields(json, `${fields.at('policies')}["${name}"]`)));
  }
  return new RbacEngine(action, policies);
}

/** envoy.config.rbac.v3.Policy. */
function parsePolicy(fields: Fields): RuleNode {
  for (const name of ['condition', 'checked_condition', 'cel_config']) {
    if (fields.has(name)) fields.fail(name, 'CEL conditions are not executed by this version');
  }
  return and([
    or(nonEmpty(fields, 'permissions').map(parsePermission)),
    or(nonEmpty(fields, 'principals').map(parsePrincipal)),
  ]);
}

/** What the HTTP and the network filter's messages have in common. */
export interface RbacRules {
  /** undefined: nothing is enforced. */
  readonly enforced: RbacEngine | undefined;
  readonly shadow: RbacEngine | undefined;
  readonly shadowPrefix: string;
}

/** @throws {ConfigError} */
export function parseRbac(fields: Fields): RbacRules {
  for (const name of ['matcher', 'shadow_matcher']) {
    if (fields.has(name)) fields.fail(name, 'the matcher API is not executed by this version: use rules');
  }
  const rules = fields.message('rules');
  const shadow = fields.message('shadow_rules');
  return {
    enforced: rules === undefined ? undefined : parseRbacRules(rules),
    shadow: shadow === undefined ? undefined : parseRbacRules(shadow),
    shadowPrefix: fields.string('shadow_rules_stat_prefix') ?? '',
  };
}

/** %RESPONSE_CODE_DETAILS% and %CONNECTION_TERMINATION_DETAILS% of a denial; white space would break the log's columns. */
export function denialDetails(policy: string | undefined): string {
  return `rbac_access_denied_matched_policy[${(policy ?? 'none').replace(/\s/g, '_')}]`;
}
