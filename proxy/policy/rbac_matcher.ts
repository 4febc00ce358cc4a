/**
 * Authorization by a tree of matchers instead of a list of policies. What leads to no action is denied.
 * Source: envoy.extensions.filters.http.rbac.v3.RBAC.matcher, envoy.config.rbac.v3.Action.
 */
import { parseMatcher, type Match, typeName } from '../matching/matcher.ts';
import type { Fields } from '../resource_fields.ts';
import { PolicyFacts, type PolicySubject } from './facts.ts';
import { policyInput } from './match_inputs.ts';
import type { RbacDecider, RbacVerdict } from './rbac.ts';

const ACTION = 'envoy.config.rbac.v3.Action';
const UNMATCHED: RbacVerdict = { allowed: false, policy: undefined };

export class RbacMatcherEngine implements RbacDecider {
  readonly policies: readonly string[];
  readonly #match: Match<PolicyFacts, RbacVerdict>;
  readonly #facts = new PolicyFacts();

  /** xds.type.matcher.v3.Matcher; an empty one denies everything. `http`: whether there are requests. @throws {ConfigError} */
  constructor(fields: Fields, http: boolean) {
    const names = new Set<string>();
    this.#match = parseMatcher<PolicyFacts, RbacVerdict>(fields, {
      input: (config) => policyInput(config, http),
      action(config) {
        const verdict = parseAction(config);
        names.add(verdict.policy as string);
        return verdict;
      },
    });
    this.policies = [...names];
  }

  decide(subject: PolicySubject): RbacVerdict {
    this.#facts.begin(subject);
    return this.#match(this.#facts) ?? UNMATCHED;
  }
}

function parseAction(config: Fields): RbacVerdict {
  const type = typeName(config);
  if (type !== ACTION) config.fail('@type', `the action ${type} is not executed by this version: ${ACTION} is`);
  const policy = config.requiredString('name');
  const action = config.oneOf('action', ['ALLOW', 'DENY', 'LOG'], 'ALLOW');
  return { allowed: action !== 'DENY', policy, ...(action === 'LOG' && { logged: true }) };
}
