/** When a route applies: path, method and headers, query. Envoy: envoy.config.route.v3.RouteMatch. */
import {
  type HeaderMatcher,
  parseHeaderMatcher,
  parseRegex,
  parseStringMatcher,
  type Regex,
  type StringMatcher,
} from '../http/matchers.ts';
import { ALWAYS, type Fraction, parseRuntimeFraction, shareOf } from '../fractional_percent.ts';
import type { RequestHeaders } from '../http/headers.ts';
import type { Fields } from '../resource_fields.ts';
import { isGrpc } from '../http/local_reply.ts';
import { queryParameter } from './hash_policy.ts';
import type { RouteContext } from './route.ts';
import { compileUriTemplate } from './uri_template.ts';
import { refuseUnexecuted } from '../unexecuted_fields.ts';

/** What is known of the path; everything else of a match is in `conditions`. */
export type PathMatch =
  | { readonly kind: 'prefix'; readonly value: string; readonly ignoreCase: boolean }
  | { readonly kind: 'exact'; readonly value: string; readonly ignoreCase: boolean }
  /** Segment-wise prefix: `/a` matches /a and /a/b, not /ab. */
  | { readonly kind: 'separated'; readonly value: string; readonly ignoreCase: boolean }
  | { readonly kind: 'regex'; readonly regex: Regex; readonly literalPrefix: string }
  | { readonly kind: 'connect' };

export interface RouteMatch {
  readonly path: PathMatch;
  readonly headers: readonly HeaderMatcher[];
  readonly query: readonly QueryMatcher[];
  readonly grpcOnly: boolean;
  /** The share of requests that match; undefined: all. */
  readonly fraction: Fraction | undefined;
}

/** envoy.config.route.v3.QueryParameterMatcher. */
export interface QueryMatcher {
  readonly name: string;
  /** undefined: its presence decides, or its absence. */
  readonly value: StringMatcher | undefined;
  /** Whether it has to be there. */
  readonly present: boolean;
}

/** @throws {ConfigError} when the path specifier is missing: an unknown one must not match everything. */
export function parseRouteMatch(fields: Fields): RouteMatch {
  refuseUnexecuted(fields, 'RouteMatch');
  const ignoreCase = fields.boolean('case_sensitive') === false;
  return {
    path: parsePath(fields, ignoreCase),
    headers: fields.messages('headers').map(parseHeaderMatcher),
    query: fields.messages('query_parameters').map(parseQueryMatcher),
    grpcOnly: fields.has('grpc'),
    fraction: fields.has('runtime_fraction')
      ? parseRuntimeFraction(fields.message('runtime_fraction'), ALWAYS)
      : undefined,
  };
}

function parsePath(fields: Fields, ignoreCase: boolean): PathMatch {
  const fold = (text: string): string => (ignoreCase ? text.toLowerCase() : text);
  const prefix = fields.string('prefix');
  if (prefix !== undefined) return { kind: 'prefix', value: fold(prefix), ignoreCase };
  const path = fields.string('path');
  if (path !== undefined) return { kind: 'exact', value: fold(path), ignoreCase };
  const separated = fields.string('path_separated_prefix');
  if (separated !== undefined) {
    if (!/^\/[^?#]*[^/?#]$|^\/[^/?#]$/.test(separated)) {
      fields.fail('path_separated_prefix', `"${separated}" must begin with / and must not end with it`);
    }
    return { kind: 'separated', value: fold(separated), ignoreCase };
  }
  const regex = fields.message('safe_regex');
  if (regex !== undefined) {
    const compiled = parseRegex(regex);
    return { kind: 'regex', regex: compiled, literalPrefix: literalPrefixOf(compiled.pattern) };
  }
  const policy = fields.message('path_match_policy');
  if (policy !== undefined) {
    const config = policy.requiredMessage('typed_config');
    if (
      config.string('@type') !==
      'type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig'
    ) {
      config.fail('@type', 'only envoy.path.match.uri_template is understood');
    }
    const template = compileUriTemplate(config.requiredString('path_template'), config.at('path_template'));
    return { kind: 'regex', regex: template.regex, literalPrefix: template.literalPrefix };
  }
  if (fields.has('connect_matcher')) return { kind: 'connect' };
  return fields.fail(
    'prefix',
    'one of prefix, path, safe_regex, path_separated_prefix, path_match_policy, connect_matcher is required',
  );
}

/** @throws {ConfigError} */
export function parseQueryMatcher(fields: Fields): QueryMatcher {
  const name = fields.requiredString('name');
  const match = fields.message('string_match');
  if (match === undefined) return { name, value: undefined, present: fields.boolean('present_match') ?? true };
  return { name, value: parseStringMatcher(match), present: true };
}

/** The text that every match of a pattern begins with: lets an index skip the pattern for other paths. */
export function literalPrefixOf(pattern: string): string {
  if (/[|]/.test(pattern) || pattern.startsWith('(?')) return '';
  let prefix = '';
  for (let i = 0; i < pattern.length; i++) {
    let char = pattern[i] as string;
    if (char === '^' && i === 0) continue;
    if (char === '\\' && i + 1 < pattern.length && /[^a-zA-Z0-9]/.test(pattern[i + 1] as string))
      char = pattern[++i] as string;
    else if (/[\\^$.|?*+()[\]{}]/.test(char)) break;
    // A quantifier makes the character before it optional or repeated.
    if (/[?*+{]/.test(pattern[i + 1] ?? '')) break;
    prefix += char;
  }
  return prefix;
}

/** Whether a path without its query fits; `key` is the path, folded where the match ignores case. */
export function pathMatches(match: PathMatch, key: string, path: string): boolean {
  switch (match.kind) {
    case 'prefix':
      return key.startsWith(match.value);
    case 'exact':
      return key === match.value;
    case 'separated':
      return key.startsWith(match.value) && (key.length === match.value.length || key[match.value.length] === '/');
    case 'regex':
      return path.startsWith(match.literalPrefix) && match.regex.matches(path);
    case 'connect':
      return false;
    default:
      return match satisfies never;
  }
}

/** `path`: with its query. */
export function queryMatches({ name, value, present }: QueryMatcher, path: string): boolean {
  const found = queryParameter(path, name);
  if (found === undefined || !present) return (found !== undefined) === present;
  return value === undefined || value.matches(found);
}

/** Everything but the path. */
export function conditionsMatch(match: RouteMatch, request: RequestHeaders, context: RouteContext): boolean {
  if (match.fraction !== undefined && context.randomValue >= shareOf(match.fraction)) return false;
  if (match.grpcOnly && !isGrpc(request)) return false;
  for (const matcher of match.headers) if (!matcher.matches(request)) return false;
  for (const matcher of match.query) if (!queryMatches(matcher, request.path)) return false;
  return true;
}
