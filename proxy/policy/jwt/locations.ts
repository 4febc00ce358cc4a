/** Where tokens stand in a request: headers, query parameters, cookies. Source: envoy.extensions.filters.http.jwt_authn.v3.JwtProvider. */
import type { RequestHeaders } from '../../http/headers.ts';
import type { Fields } from '../../resource_fields.ts';

export type TokenLocation =
  | { readonly kind: 'header'; readonly name: string; readonly prefix: string }
  | { readonly kind: 'parameter'; readonly name: string }
  | { readonly kind: 'cookie'; readonly name: string };

const DEFAULT: readonly TokenLocation[] = [
  { kind: 'header', name: 'authorization', prefix: 'Bearer ' },
  { kind: 'parameter', name: 'access_token' },
];

/** Any place of its own replaces both defaults. */
export function parseLocations(fields: Fields): readonly TokenLocation[] {
  const own: TokenLocation[] = [
    ...fields.messages('from_headers').map(
      (header): TokenLocation => ({
        kind: 'header',
        name: header.requiredString('name').toLowerCase(),
        prefix: header.string('value_prefix') ?? '',
      }),
    ),
    ...fields.strings('from_params').map((name): TokenLocation => ({ kind: 'parameter', name })),
    ...fields.strings('from_cookies').map((name): TokenLocation => ({ kind: 'cookie', name })),
  ];
  return own.length === 0 ? DEFAULT : own;
}

/** Adds to `out` every token at this place. A repeated header is one text, as in Envoy: two tokens in it are none. */
export function tokensAt(location: TokenLocation, headers: RequestHeaders, out: string[]): void {
  switch (location.kind) {
    case 'header': {
      const value = headers.joined(location.name);
      const token = value === undefined ? undefined : afterPrefix(value, location.prefix);
      if (token !== undefined) out.push(token);
      return;
    }
    case 'parameter': {
      const question = headers.path.indexOf('?');
      if (question < 0) return;
      for (const pair of headers.path.slice(question + 1).split('&')) {
        if (nameOfParameter(pair) === location.name) out.push(percentDecode(pair.slice(location.name.length + 1)));
      }
      return;
    }
    case 'cookie':
      for (const cookies of headers.getAll('cookie')) {
        for (const pair of cookies.split(';')) {
          const [name, value] = cookieOf(pair);
          if (name === location.name && value !== '') out.push(value);
        }
      }
      return;
    default:
      location satisfies never;
  }
}

/** Takes the token out, so that nobody behind the proxy can use it again. */
export function stripToken(location: TokenLocation, headers: RequestHeaders): void {
  switch (location.kind) {
    case 'header':
      headers.filter((name, value) => name !== location.name || afterPrefix(value, location.prefix) === undefined);
      return;
    case 'parameter': {
      const question = headers.path.indexOf('?');
      if (question < 0) return;
      const kept = headers.path
        .slice(question + 1)
        .split('&')
        .filter((pair) => nameOfParameter(pair) !== location.name);
      headers.path = headers.path.slice(0, question) + (kept.length === 0 ? '' : `?${kept.join('&')}`);
      return;
    }
    case 'cookie': {
      const all = headers.getAll('cookie');
      if (all.length === 0) return;
      const kept = all
        .flatMap((cookies) => cookies.split(';'))
        .map((pair) => pair.trim())
        .filter((pair) => pair !== '' && cookieOf(pair)[0] !== location.name);
      if (kept.length === 0) headers.remove('cookie');
      else headers.set('cookie', kept.join('; '));
      return;
    }
    default:
      location satisfies never;
  }
}

/** Envoy: the prefix may stand anywhere; the token is all that follows, from its first character on. undefined: no token. */
function afterPrefix(value: string, prefix: string): string | undefined {
  if (prefix === '') return value;
  const at = value.indexOf(prefix);
  if (at < 0) return undefined;
  let start = at + prefix.length;
  while (start < value.length && !isTokenCharacter(value.charCodeAt(start))) start++;
  return value.slice(start === value.length ? at + prefix.length : start);
}

function isTokenCharacter(code: number): boolean {
  return (
    (code >= 97 && code <= 122) ||
    (code >= 65 && code <= 90) ||
    (code >= 48 && code <= 57) ||
    code === 45 ||
    code === 46 ||
    code === 95
  );
}

function nameOfParameter(pair: string): string {
  const equals = pair.indexOf('=');
  return equals < 0 ? pair : pair.slice(0, equals);
}

function percentDecode(text: string): string {
  if (!text.includes('%')) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function cookieOf(pair: string): [string, string] {
  const equals = pair.indexOf('=');
  if (equals < 0) return [pair.trim(), ''];
  const value = pair.slice(equals + 1).trim();
  const quoted = value.length > 1 && value.startsWith('"') && value.endsWith('"');
  return [pair.slice(0, equals).trim(), quoted ? value.slice(1, -1) : value];
}
