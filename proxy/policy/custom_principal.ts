/**
 * Principals by extension. Envoy has one: envoy.extensions.rbac.principals.mtls_authenticated.v3.Config, a client whose
 * certificate was verified, and that, if asked for, has a name of a kind.
 */
import { parseSanMatcher } from '../net/tls/san_matcher.ts';
import type { NameMatcher } from '../net/tls/tls_config.ts';
import type { Fields } from '../resource_fields.ts';
import type { PolicyFacts } from './facts.ts';
import { leaf, type RuleNode } from './rule_node.ts';

const MTLS = 'type.googleapis.com/envoy.extensions.rbac.principals.mtls_authenticated.v3.Config';

/** @throws {ConfigError} for every other extension: a rule is never skipped. */
export function parseCustomPrincipal(extension: Fields): RuleNode {
  const config = extension.requiredMessage('typed_config');
  const type = config.requiredString('@type');
  if (type !== MTLS) {
    const name = extension.string('name') ?? '';
    return config.fail('@type', `the principal "${name}" of type ${type} is not executed by this version: ${MTLS} is`);
  }
  const named = config.message('san_matcher');
  if (named !== undefined) {
    const matcher = parseSanMatcher(named);
    return leaf((facts) => verified(facts) && hasName(matcher, facts));
  }
  if (config.boolean('any_validated_client_certificate') !== true) {
    config.fail('any_validated_client_certificate', 'must be true, or a san_matcher is required');
  }
  return leaf(verified);
}

function verified({ subject }: PolicyFacts): boolean {
  return subject.connection.tls?.mutual === true;
}

function hasName(matcher: NameMatcher, { subject }: PolicyFacts): boolean {
  const names = subject.connection.tls?.peerNames ?? [];
  for (let i = 0; i < names.length; i++) if (matcher.matches(names[i] as (typeof names)[number])) return true;
  return false;
}
