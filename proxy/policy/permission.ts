/** What may be done. Source: envoy.config.rbac.v3.Permission. */
import { parseHeaderMatcher, parseStringMatcher } from '../http/matchers.ts';
import { parseCidr } from '../net/cidr.ts';
import type { Fields } from '../resource_fields.ts';
import { compileUriTemplate } from '../router/uri_template.ts';
import { guard, regexGuards, textGuards } from './guard.ts';
import { address, and, ANYTHING, header, leaf, not, or, type RuleNode, urlPath } from './rule_node.ts';
import { claimGuards, parseMetadataMatcher } from './value_matcher.ts';

const URI_TEMPLATE = 'type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig';

/** @throws {ConfigError} when it has no rule that this version knows: a rule is never skipped. */
export function parsePermission(fields: Fields): RuleNode {
  const all = fields.message('and_rules');
  if (all !== undefined) return and(nonEmpty(all, 'rules').map(parsePermission));
  const some = fields.message('or_rules');
  if (some !== undefined) return or(nonEmpty(some, 'rules').map(parsePermission));
  const negated = fields.message('not_rule');
  if (negated !== undefined) return not(parsePermission(negated));
  const any = fields.boolean('any');
  if (any !== undefined) return any ? ANYTHING : fields.fail('any', 'must be true');
  const common = parseCommon(fields);
  if (common !== undefined) return common;
  const ip = fields.message('destination_ip');
  if (ip !== undefined) return address(parseCidr(ip), ({ subject }) => subject.connection.localAddress.ip);
  const port = fields.integer('destination_port', 0, 65535);
  if (port !== undefined) {
    return leaf(
      ({ subject }) => subject.connection.localAddress.port === port,
      [[guard({ place: 'port' }, 'exact', String(port))]],
    );
  }
  return parseRarePermission(fields);
}

function parseRarePermission(fields: Fields): RuleNode {
  const range = fields.message('destination_port_range');
  if (range !== undefined) {
    const start = range.integer('start', 0, 65536) ?? 0;
    const end = range.integer('end', 0, 65536) ?? 0;
    return leaf(({ subject }) => {
      const { port } = subject.connection.localAddress;
      return port >= start && port < end;
    });
  }
  const serverName = fields.message('requested_server_name');
  if (serverName !== undefined) {
    const matcher = parseStringMatcher(serverName);
    return leaf(
      ({ subject }) => matcher.matches(subject.connection.requestedServerName ?? ''),
      textGuards(serverName, matcher, { place: 'serverName' }),
    );
  }
  const template = fields.message('uri_template');
  if (template !== undefined) return uriTemplate(template);
  const unknown = fields.message('matcher');
  if (unknown !== undefined) {
    return fields.fail('matcher', `the matcher "${unknown.string('name') ?? ''}" is not executed by this version`);
  }
  return fields.fail('any', `one rule that this version knows is required, got ${names(fields)}`);
}

/** `*` in a path is taken by a template's `*` as any other character (attacks.md row 46). */
function uriTemplate(fields: Fields): RuleNode {
  const typed = fields.requiredMessage('typed_config');
  const type = typed.requiredString('@type');
  if (type !== URI_TEMPLATE) typed.fail('@type', `the path matcher ${type} is not executed by this version`);
  const { regex, literalPrefix } = compileUriTemplate(typed.requiredString('path_template'), typed.at('path_template'));
  return leaf(
    ({ path }) => path !== undefined && regex.matches(path),
    [[guard({ place: 'path' }, 'prefix', literalPrefix)], ...regexGuards(regex, { place: 'path' })],
  );
}

/** What permissions and principals may both ask for; undefined: none of it. */
export function parseCommon(fields: Fields): RuleNode | undefined {
  const field = fields.message('header');
  if (field !== undefined) return header(parseHeaderMatcher(field), field);
  const path = fields.message('url_path');
  if (path !== undefined) {
    const text = path.requiredMessage('path');
    return urlPath(parseStringMatcher(text), text);
  }
  const metadata = fields.message('metadata');
  if (metadata !== undefined) return leaf(parseMetadataMatcher(metadata), claimGuards(metadata));
  const sourced = fields.message('sourced_metadata');
  return sourced === undefined ? undefined : sourcedMetadata(sourced);
}

/** envoy.config.rbac.v3.SourcedMetadata. */
function sourcedMetadata(fields: Fields): RuleNode {
  const source = fields.oneOf('metadata_source', ['DYNAMIC', 'ROUTE'], 'DYNAMIC');
  return leaf(
    parseMetadataMatcher(fields.requiredMessage('metadata_matcher'), source === 'ROUTE' ? 'route' : 'dynamic'),
  );
}

/** @throws {ConfigError} when the list is empty: it would match everything or nothing. */
export function nonEmpty(fields: Fields, name: string): Fields[] {
  const items = fields.messages(name);
  return items.length === 0 ? fields.fail(name, 'at least one is required') : items;
}

export function names(fields: Fields): string {
  const found = Object.keys(fields.json);
  return found.length === 0 ? 'nothing' : found.join(', ');
}
