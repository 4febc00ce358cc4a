/** Who asks. Source: envoy.config.rbac.v3.Principal. */
import { parseStringMatcher, type StringMatcher } from '../http/matchers.ts';
import { parseCidr } from '../net/cidr.ts';
import type { Fields } from '../resource_fields.ts';
import { parseCustomPrincipal } from './custom_principal.ts';
import type { PolicyFacts } from './facts.ts';
import { textGuards } from './guard.ts';
import { names, nonEmpty, parseCommon } from './permission.ts';
import { address, and, ANYTHING, leaf, not, or, type RuleNode } from './rule_node.ts';

/** @throws {ConfigError} when it has no identifier that this version knows: a rule is never skipped. */
export function parsePrincipal(fields: Fields): RuleNode {
  const all = fields.message('and_ids');
  if (all !== undefined) return and(nonEmpty(all, 'ids').map(parsePrincipal));
  const some = fields.message('or_ids');
  if (some !== undefined) return or(nonEmpty(some, 'ids').map(parsePrincipal));
  const negated = fields.message('not_id');
  if (negated !== undefined) return not(parsePrincipal(negated));
  const any = fields.boolean('any');
  if (any !== undefined) return any ? ANYTHING : fields.fail('any', 'must be true');
  const authenticated = fields.message('authenticated');
  if (authenticated !== undefined) return parseAuthenticated(authenticated);
  const remote = fields.message('remote_ip');
  if (remote !== undefined) return address(parseCidr(remote), ({ subject }) => subject.info.remoteAddress.ip, 'client');
  const direct = fields.message('direct_remote_ip');
  if (direct !== undefined) return address(parseCidr(direct), ({ peerIp }) => peerIp, 'peer');
  const source = fields.message('source_ip');
  if (source !== undefined) return address(parseCidr(source), ({ subject }) => subject.connection.remoteAddress.ip);
  const common = parseCommon(fields);
  if (common !== undefined) return common;
  const state = fields.message('filter_state');
  if (state !== undefined) return parseFilterState(state);
  const custom = fields.message('custom');
  if (custom !== undefined) return parseCustomPrincipal(custom);
  return fields.fail('any', `one identifier that this version knows is required, got ${names(fields)}`);
}

/** Names come from a verified client certificate only: over plaintext nothing of this matches. */
function parseAuthenticated(fields: Fields): RuleNode {
  const name = fields.message('principal_name');
  if (name === undefined) return leaf(({ subject }) => subject.connection.tls?.mutual === true);
  const matcher = parseStringMatcher(name);
  return leaf((facts) => anyMatches(matcher, facts), textGuards(name, matcher, { place: 'principal' }));
}

function anyMatches(matcher: StringMatcher, facts: PolicyFacts): boolean {
  const { principals } = facts;
  for (let i = 0; i < principals.length; i++) if (matcher.matches(principals[i] as string)) return true;
  return false;
}

/** envoy.type.matcher.v3.FilterStateMatcher. */
function parseFilterState(fields: Fields): RuleNode {
  const key = fields.requiredString('key');
  const text = fields.message('string_match');
  if (text === undefined)
    return fields.fail('string_match', 'is required; other forms are not executed by this version');
  const matcher = parseStringMatcher(text);
  return leaf(({ subject }) => {
    const value = subject.connection.filterState?.get(key);
    return typeof value === 'string' && matcher.matches(value);
  });
}
