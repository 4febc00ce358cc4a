/** Rewrites of path and host, and where redirects point. Envoy: RouteAction.prefix_rewrite …, RedirectAction. */
import { parseRegex, type Regex } from '../http/matchers.ts';
import type { RequestHeaders } from '../http/headers.ts';
import type { Fields } from '../resource_fields.ts';
import type { RedirectAction } from './route.ts';
import type { PathMatch } from './route_match.ts';
import { withoutPort } from './virtual_hosts.ts';

/** Changes path and host of a request on its way out. */
export interface Rewrite {
  apply(headers: RequestHeaders): void;
}

interface RegexRewrite {
  readonly regex: Regex;
  readonly substitution: string;
}

/** undefined where nothing is rewritten. */
export function parseRewrite(action: Fields, match: PathMatch): Rewrite | undefined {
  const newPath = parsePathRewrite(action, match);
  const newHost = parseHostRewrite(action);
  if (newPath === undefined && newHost === undefined) return undefined;
  const keepHost = action.boolean('append_x_forwarded_host') ?? false;
  return {
    apply(headers) {
      if (newPath !== undefined) {
        const path = newPath(headers.path);
        if (path !== headers.path) {
          headers.set('x-envoy-original-path', headers.path);
          headers.path = path;
        }
      }
      const host = newHost?.(headers);
      if (host === undefined || host === '' || host === headers.authority) return;
      if (keepHost) headers.append('x-forwarded-host', headers.authority);
      rewriteHost(headers, host);
    },
  };
}

function parsePathRewrite(fields: Fields, match: PathMatch): ((path: string) => string) | undefined {
  const prefix = fields.string('prefix_rewrite');
  if (prefix !== undefined && prefix !== '') return (path) => replacePrefix(path, match, prefix);
  const regex = parseRegexRewrite(fields, 'regex_rewrite');
  if (regex !== undefined) return (path) => replaceByRegex(path, regex);
  if (fields.has('path_rewrite_policy')) {
    return fields.fail('path_rewrite_policy', 'path templates in rewrites are not supported: use regex_rewrite');
  }
  return undefined;
}

function parseHostRewrite(fields: Fields): ((headers: RequestHeaders) => string | undefined) | undefined {
  const literal = fields.string('host_rewrite_literal');
  if (literal !== undefined && literal !== '') return () => literal;
  const name = fields.string('host_rewrite_header')?.toLowerCase();
  if (name !== undefined && name !== '') return (headers) => headers.get(name);
  const regex = parseRegexRewrite(fields, 'host_rewrite_path_regex');
  if (regex === undefined) return undefined;
  return (headers) => regex.regex.replaceAll(splitQuery(headers.path)[0], regex.substitution);
}

function parseRegexRewrite(fields: Fields, name: string): RegexRewrite | undefined {
  const rewrite = fields.message(name);
  if (rewrite === undefined) return undefined;
  return { regex: parseRegex(rewrite.requiredMessage('pattern')), substitution: rewrite.string('substitution') ?? '' };
}

function splitQuery(path: string): [string, string] {
  const question = path.indexOf('?');
  return question < 0 ? [path, ''] : [path.slice(0, question), path.slice(question)];
}

/** A prefix match loses its prefix; an exact or regex match the whole path (Envoy). The query stays. */
function replacePrefix(path: string, match: PathMatch, replacement: string): string {
  const [whole, query] = splitQuery(path);
  if (match.kind === 'prefix' || match.kind === 'separated') {
    return replacement + whole.slice(match.value.length) + query;
  }
  return replacement + query;
}

function replaceByRegex(path: string, { regex, substitution }: RegexRewrite): string {
  const [whole, query] = splitQuery(path);
  const replaced = regex.replaceAll(whole, substitution);
  // A path that no longer begins with / would be another kind of request target.
  return (replaced.startsWith('/') ? replaced : `/${replaced}`) + query;
}

const CODES = {
  MOVED_PERMANENTLY: 301,
  FOUND: 302,
  SEE_OTHER: 303,
  TEMPORARY_REDIRECT: 307,
  PERMANENT_REDIRECT: 308,
} as const;

export function parseRedirect(fields: Fields, match: PathMatch): RedirectAction {
  const https = fields.boolean('https_redirect') ?? false;
  const scheme = fields.string('scheme_redirect') || (https ? 'https' : '');
  const host = fields.string('host_redirect') ?? '';
  const port = fields.integer('port_redirect', 0, 65535) ?? 0;
  const path = fields.string('path_redirect') ?? '';
  const prefix = fields.string('prefix_rewrite') ?? '';
  const regex = parseRegexRewrite(fields, 'regex_rewrite');
  const stripQuery = fields.boolean('strip_query') ?? false;
  const code = fields.oneOf(
    'response_code',
    ['MOVED_PERMANENTLY', 'FOUND', 'SEE_OTHER', 'TEMPORARY_REDIRECT', 'PERMANENT_REDIRECT'],
    'MOVED_PERMANENTLY',
  );
  return {
    status: CODES[code],
    location(headers) {
      const newScheme = scheme === '' ? headers.scheme : scheme;
      let authority = host === '' ? headers.authority : host;
      if (host === '' && (port !== 0 || newScheme !== headers.scheme)) {
        // The port of the old scheme means nothing in the new one.
        const own = `:${headers.scheme === 'https' ? 443 : 80}`;
        if (port !== 0) authority = withoutPort(authority);
        else if (authority.endsWith(own)) authority = authority.slice(0, -own.length);
      }
      if (port !== 0) authority = `${withoutPort(authority)}:${port}`;
      const [oldPath, query] = splitQuery(headers.path);
      let target: string;
      if (path !== '') target = path.includes('?') || stripQuery ? path : path + query;
      else {
        let moved = headers.path;
        if (prefix !== '') moved = replacePrefix(headers.path, match, prefix);
        else if (regex !== undefined) moved = replaceByRegex(headers.path, regex);
        target = stripQuery ? splitQuery(moved)[0] : moved;
        if (oldPath === '*') target = '/';
      }
      return `${newScheme}://${authority}${target}`;
    },
  };
}

/** Replaces the host, and keeps the first one in x-envoy-original-host. */
export function rewriteHost(headers: RequestHeaders, host: string): void {
  if (!headers.has('x-envoy-original-host')) headers.set('x-envoy-original-host', headers.authority);
  headers.authority = host;
}
