/** Hash policies of a route: what ring_hash and maglev place a request by. Envoy: RouteAction.HashPolicy, source/common/http/hash_policy.cc. */
import { cookieAttributes, cookieValue, setCookie } from '../http/cookies.ts';
import type { RequestHeaders } from '../http/headers.ts';
import type { StreamInfo } from '../http/stream_info.ts';
import { xxHash64OfText } from '../load_balancers/xx_hash64.ts';
import type { Fields } from '../resource_fields.ts';
import type { HashOutput, HashPolicy } from './route.ts';
import { refuseUnexecuted } from '../unexecuted_fields.ts';

interface OnePolicy {
  readonly terminal: boolean;
  /** The text to hash; undefined: this policy has nothing to say. */
  key(headers: RequestHeaders, info: StreamInfo, out: HashOutput): string | undefined;
}

/** undefined where no policy is configured. */
export function parseHashPolicies(list: readonly Fields[]): HashPolicy | undefined {
  if (list.length === 0) return undefined;
  const policies = list.map(parseOne);
  return {
    hash(headers, info, out) {
      let found = false;
      for (const policy of policies) {
        const key = policy.key(headers, info, out);
        if (key !== undefined) {
          const { high, low } = xxHash64OfText(key);
          if (found) {
            // Rotate the old hash by one, then xor the new one in.
            const rotatedHigh = ((out.high << 1) | (out.low >>> 31)) >>> 0;
            out.low = (((out.low << 1) | (out.high >>> 31)) ^ low) >>> 0;
            out.high = (rotatedHigh ^ high) >>> 0;
          } else {
            out.high = high;
            out.low = low;
            found = true;
          }
        }
        if (found && policy.terminal) break;
      }
      return found;
    },
  };
}

function parseOne(fields: Fields): OnePolicy {
  const terminal = fields.boolean('terminal') ?? false;
  const header = fields.message('header');
  if (header !== undefined) {
    refuseUnexecuted(header, 'HashPolicyHeader');
    const name = header.requiredString('header_name').toLowerCase();
    return { terminal, key: (headers) => headers.joined(name) };
  }
  const cookie = fields.message('cookie');
  if (cookie !== undefined) return { terminal, key: parseCookie(cookie) };
  const properties = fields.message('connection_properties');
  if (properties !== undefined) {
    const bySource = properties.boolean('source_ip') ?? false;
    return { terminal, key: (_headers, info) => (bySource ? info.remoteAddress.ip : undefined) };
  }
  const query = fields.message('query_parameter');
  if (query !== undefined) {
    const name = query.requiredString('name');
    return { terminal, key: (headers) => queryParameter(headers.path, name) };
  }
  const state = fields.message('filter_state');
  if (state !== undefined) {
    const key = state.requiredString('key');
    return {
      terminal,
      key: (_headers, info) => {
        const value = info.connection.filterState?.get(key);
        return typeof value === 'string' ? value : undefined;
      },
    };
  }
  return fields.fail(
    'header',
    'one of header, cookie, connection_properties, query_parameter, filter_state is required',
  );
}

function parseCookie(fields: Fields): OnePolicy['key'] {
  const name = fields.requiredString('name');
  const ttlMs = fields.durationMs('ttl');
  const attributes = {
    ttlSeconds: Math.floor((ttlMs ?? 0) / 1000),
    path: fields.string('path') ?? '',
    more: cookieAttributes(fields.messages('attributes')),
  };
  return (headers, info, out) => {
    const value = cookieValue(headers, name);
    if (value !== undefined) return value;
    if (ttlMs === undefined) return undefined;
    // Envoy hashes the two ends of the connection, so that the cookie of one client stays the same.
    const { connection } = info;
    const { high, low } = xxHash64OfText(`${connection.remoteAddress.text}${connection.localAddress.text}`);
    const made = high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0');
    out.setCookies ??= [];
    out.setCookies.push(setCookie(name, made, attributes));
    return made;
  };
}

/** The first value of a query parameter, as it stands in the path. */
export function queryParameter(path: string, name: string): string | undefined {
  const question = path.indexOf('?');
  if (question < 0) return undefined;
  for (const pair of path.slice(question + 1).split('&')) {
    const equals = pair.indexOf('=');
    if ((equals < 0 ? pair : pair.slice(0, equals)) === name) return equals < 0 ? '' : pair.slice(equals + 1);
  }
  return undefined;
}
