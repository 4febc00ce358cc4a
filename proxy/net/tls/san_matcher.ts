/** Names that a certificate may have. Source: envoy.extensions.transport_sockets.tls.v3.SubjectAltNameMatcher. */
import { parseStringMatcher } from '../../http/matchers.ts';
import type { Fields } from '../../resource_fields.ts';
import type { SubjectAltName } from './certificate.ts';
import { matchesDnsName } from './dns_names.ts';
import type { NameMatcher } from './tls_config.ts';

const SAN_TYPES = { EMAIL: 'email', DNS: 'dns', URI: 'uri', IP_ADDRESS: 'ip', OTHER_NAME: 'other' } as const;

/** @throws {ConfigError} without a type. */
export function parseSanMatcher(fields: Fields): NameMatcher {
  const type = fields.oneOf(
    'san_type',
    ['EMAIL', 'DNS', 'URI', 'IP_ADDRESS', 'OTHER_NAME', 'SAN_TYPE_UNSPECIFIED'],
    'SAN_TYPE_UNSPECIFIED',
  );
  if (type === 'SAN_TYPE_UNSPECIFIED') return fields.fail('san_type', 'is required');
  const matcher = fields.requiredMessage('matcher');
  return type === 'OTHER_NAME'
    ? nameMatcher(matcher, 'other', fields.requiredString('oid'))
    : nameMatcher(matcher, SAN_TYPES[type]);
}

/** Names are compared as the bytes that stand in the certificate; a DNS name may be a wildcard. */
export function nameMatcher(matcher: Fields, type: SubjectAltName['type'] | undefined, oid?: string): NameMatcher {
  const parsed = parseStringMatcher(matcher);
  const exact = matcher.string('exact');
  const text = exact ?? matcherText(matcher);
  return {
    text,
    matches(name) {
      // What an other name is, only its kind says.
      if (name.type === 'other' ? type !== 'other' || name.oid !== oid : type !== undefined && name.type !== type) {
        return false;
      }
      if (name.type === 'dns' && exact !== undefined) return matchesDnsName(name.value, exact);
      return parsed.matches(name.value);
    },
  };
}

function matcherText(matcher: Fields): string {
  const prefix = matcher.string('prefix');
  if (prefix !== undefined) return `${prefix}*`;
  const suffix = matcher.string('suffix');
  if (suffix !== undefined) return `*${suffix}`;
  const contains = matcher.string('contains');
  return contains === undefined ? `regex ${matcher.message('safe_regex')?.string('regex') ?? ''}` : `*${contains}*`;
}
