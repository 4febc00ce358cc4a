/** HTTPMatchRequest as Envoy's RouteMatch. */
import type { Json } from '../resources.ts';
import type { HttpMatch, StringMatch } from './virtual_service.ts';

/** undefined: everything. @param segments whether a prefix matches whole path segments only */
export function routeMatch(match: HttpMatch | undefined, segments = false): Json {
  if (match === undefined) return { prefix: '/' };
  const headers = [
    ...[...(match.headers ?? [])].map(([name, value]) => headerMatch(name.toLowerCase(), value)),
    ...[...(match.withoutHeaders ?? [])].map(([name, value]) => withoutHeader(name.toLowerCase(), value)),
  ];
  headers.sort((a, b) => compareText(String(a['name']), String(b['name'])));
  if (match.method !== undefined) headers.push(headerMatch(':method', match.method));
  if (match.authority !== undefined) headers.push(headerMatch(':authority', match.authority));
  if (match.scheme !== undefined) headers.push(headerMatch(':scheme', match.scheme));
  const query = [...(match.queryParams ?? [])].map(([name, value]) => headerMatch(name, value));
  return {
    ...pathMatch(match.uri, segments),
    case_sensitive: match.ignoreUriCase !== true,
    ...(headers.length > 0 && { headers }),
    ...(query.length > 0 && { query_parameters: query }),
  };
}

function pathMatch(uri: StringMatch | undefined, segments: boolean): Json {
  if (uri?.exact !== undefined) return { path: uri.exact };
  if (uri?.prefix !== undefined) return segments ? { path_separated_prefix: uri.prefix } : { prefix: uri.prefix };
  if (uri?.regex !== undefined) return { safe_regex: { regex: uri.regex } };
  return { prefix: '/' };
}

/** Also of a query parameter, which has the same form. */
function headerMatch(name: string, match: StringMatch): Json {
  return asksPresence(match) ? { name, present_match: true } : { name, string_match: stringMatcher(match) };
}

/** An absent header counts as empty, so that "without x=foo" holds where there is no x. */
function withoutHeader(name: string, match: StringMatch): Json {
  if (asksPresence(match)) return { name, present_match: true, invert_match: true };
  return { name, string_match: stringMatcher(match), invert_match: true, treat_missing_header_as_empty: true };
}

/** `*` is no regular expression; Istio takes it as "any value". */
function asksPresence({ exact, prefix, regex }: StringMatch): boolean {
  return (exact === undefined && prefix === undefined && regex === undefined) || regex === '*';
}

export function stringMatcher({ exact, prefix, regex }: StringMatch): Json {
  if (exact !== undefined) return { exact };
  if (prefix !== undefined) return { prefix };
  return { safe_regex: { regex } };
}

/** Nothing after a route that takes everything can be reached. */
export function isCatchAll(match: Json): boolean {
  const regex = (match['safe_regex'] as Json | undefined)?.['regex'];
  return (
    (match['prefix'] === '/' || regex === '.*') &&
    match['headers'] === undefined &&
    match['query_parameters'] === undefined
  );
}

/** The path part of a route's name in traces. */
export function describePath(match: Json): string {
  if (typeof match['path'] === 'string') return match['path'];
  if (typeof match['prefix'] === 'string') return `${match['prefix']}*`;
  const regex = (match['safe_regex'] as Json | undefined)?.['regex'];
  return regex === undefined ? '/*' : String(regex);
}

export function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
