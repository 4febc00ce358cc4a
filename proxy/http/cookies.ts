/** Cookies of a request. */
import type { Fields } from '../resource_fields.ts';
import type { RequestHeaders } from './headers.ts';

/** The first cookie of that name, without the quotes around it; undefined: there is none. */
export function cookieValue(headers: RequestHeaders, name: string): string | undefined {
  for (const cookies of headers.getAll('cookie')) {
    for (const pair of cookies.split(';')) {
      const equals = pair.indexOf('=');
      if (equals > 0 && pair.slice(0, equals).trim() === name) {
        const value = pair.slice(equals + 1).trim();
        return value.startsWith('"') && value.endsWith('"') && value.length > 1 ? value.slice(1, -1) : value;
      }
    }
  }
  return undefined;
}

/** `set-cookie` as Envoy writes it: the value quoted, always HttpOnly. `ttlSeconds` 0: as long as the client runs. */
export function setCookie(name: string, value: string, attributes: CookieAttributes): string {
  const { ttlSeconds, path, more } = attributes;
  const age = ttlSeconds === 0 ? '' : `; Max-Age=${ttlSeconds}`;
  return `${name}="${value}"${age}${path === '' ? '' : `; Path=${path}`}${more}; HttpOnly`;
}

export interface CookieAttributes {
  readonly ttlSeconds: number;
  /** '' sets none. */
  readonly path: string;
  /** Each with "; " before it. */
  readonly more: string;
}

/** `attributes` of a cookie in a configuration, as they are written. */
export function cookieAttributes(list: readonly Fields[]): string {
  return list
    .map((attribute) => {
      const value = attribute.string('value') ?? '';
      return `; ${attribute.requiredString('name')}${value === '' ? '' : `=${value}`}`;
    })
    .join('');
}
