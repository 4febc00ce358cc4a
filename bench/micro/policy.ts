/** Authorization rules of several kinds, 10 and 1,000 of them, and a token seen before. */
import { generateKeyPairSync, sign } from 'node:crypto';
import jwtAuthn from '../../filters/jwt_authn.ts';
import type { FilterContext, FilterDeps } from '../../proxy/http/filter.ts';
import { RequestHeaders } from '../../proxy/http/headers.ts';
import { StreamInfo } from '../../proxy/http/stream_info.ts';
import { socketAddress, type ConnectionInfo } from '../../proxy/net/connection_info.ts';
import { parseRbacRules } from '../../proxy/policy/rbac.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { bench } from './harness.ts';

const path = (exact: string) => ({ url_path: { path: { exact } } });
const any = { any: true };
/** As istiod writes them. */
const KINDS: Readonly<Record<string, (index: number) => object>> = {
  'exact paths': (index) => ({
    permissions: [{ or_rules: { rules: [path(`/api/v1/thing-${index}`)] } }],
    principals: [any],
  }),
  'path prefixes': (index) => ({
    permissions: [{ url_path: { path: { prefix: `/api/v1/thing-${index}/` } } }],
    principals: [any],
  }),
  'path suffixes': (index) => ({
    permissions: [{ url_path: { path: { suffix: `/thing-${index}` } } }],
    principals: [any],
  }),
  principals: (index) => ({
    permissions: [any],
    principals: [{ authenticated: { principal_name: { exact: `spiffe://cluster.local/ns/ns-${index}/sa/a` } } }],
  }),
  namespaces: (index) => ({
    permissions: [any],
    principals: [{ authenticated: { principal_name: { safe_regex: { regex: `.*/ns/ns-${index}/.*` } } } }],
  }),
  'principals, methods and paths': (index) => ({
    permissions: [
      {
        and_rules: {
          rules: [
            {
              or_rules: {
                rules: ['GET', 'POST'].map((exact) => ({ header: { name: ':method', string_match: { exact } } })),
              },
            },
            {
              or_rules: {
                rules: [path(`/api/v1/thing-${index}`), { url_path: { path: { prefix: `/public-${index}/` } } }],
              },
            },
          ],
        },
      },
    ],
    principals: [
      {
        and_ids: {
          ids: [{ authenticated: { principal_name: { safe_regex: { regex: `.*/ns/ns-${index % 20}/.*` } } } }],
        },
      },
    ],
  }),
  'address ranges': (index) => ({
    permissions: [any],
    principals: [{ direct_remote_ip: { address_prefix: `10.${index >> 8}.${index & 255}.0`, prefix_len: 24 } }],
  }),
  claims: (index) => ({
    permissions: [any],
    principals: [
      {
        metadata: {
          filter: 'envoy.filters.http.jwt_authn',
          path: [{ key: 'payload' }, { key: 'groups' }],
          value: {
            or_match: {
              value_matchers: [
                { list_match: { one_of: { string_match: { exact: `g-${index}` } } } },
                { string_match: { exact: `g-${index}` } },
              ],
            },
          },
        },
      },
    ],
  }),
  'regexes only': (index) => ({
    permissions: [{ url_path: { path: { safe_regex: { regex: `/api/v[0-9]+/thing-${index}` } } } }],
    principals: [any],
  }),
  'regexes without a literal': (index) => ({
    permissions: [
      {
        url_path: {
          path: {
            safe_regex: {
              regex: `/[a-z]+/[a-z0-9]+/[a-z]+-${String(index).replace(/\d/g, '[$&x]')}`,
            },
          },
        },
      },
    ],
    principals: [any],
  }),
  'regexes of headers': (index) => ({
    permissions: [
      { header: { name: 'x-kind', string_match: { safe_regex: { regex: `k[a-z]*-${index}(-[a-z]+)?` } } } },
    ],
    principals: [any],
  }),
};

const connection = {
  localAddress: socketAddress('10.0.0.1', 8080),
  remoteAddress: socketAddress('10.0.0.2', 40000),
  requestedServerName: undefined,
  tls: {
    mutual: true,
    peerUriSans: ['spiffe://cluster.local/ns/ns-7/sa/a'],
    peerDnsSans: [],
    peerSubject: '',
  },
  filterState: undefined,
} as unknown as ConnectionInfo;
const headers = new RequestHeaders();
headers.method = 'GET';
headers.path = '/api/v1/thing-7';
headers.authority = 'shop.example';
headers.append('x-kind', 'kind-7-x');
const info = new StreamInfo(connection, 0, 0);
info.dynamicMetadata = new Map([['envoy.filters.http.jwt_authn', { payload: { groups: ['g-7', 'g-x'] } }]]);
const subject = { connection, requestHeaders: headers, info };

for (const [kind, rule] of Object.entries(KINDS)) {
  for (const count of [10, 1000]) {
    const policies = Object.fromEntries(Array.from({ length: count }, (_, index) => [`p${index}`, rule(index)]));
    const engine = parseRbacRules(new Fields({ action: 'DENY', policies }));
    bench(`${count} rules: ${kind}`, () => engine.decide(subject));
  }
}

const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const encode = (json: object): string => Buffer.from(JSON.stringify(json)).toString('base64url');
const claims = { iss: 'i', sub: 'me', aud: 'shop', exp: 4_000_000_000, scope: 'a b', groups: ['admins', 'users'] };
const signed = `${encode({ alg: 'RS256', kid: 'k' })}.${encode(claims)}`;
const token = `${signed}.${sign('sha256', Buffer.from(signed), privateKey).toString('base64url')}`;
const none = { inc: () => {}, dec: () => {}, set: () => {}, record: () => {}, add: () => {} };
const filter = jwtAuthn.create(
  jwtAuthn.parse({
    providers: {
      p: {
        issuer: 'i',
        forward: true,
        payload_in_metadata: 'payload',
        forward_payload_header: 'x-payload',
        local_jwks: { inline_string: JSON.stringify({ keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k' }] }) },
      },
    },
    rules: [
      {
        match: { prefix: '/' },
        requires: { requires_any: { requirements: [{ provider_name: 'p' }, { allow_missing: {} }] } },
      },
    ],
  }),
  {
    counter: () => none,
    gauge: () => none,
    histogram: () => none,
    nowMs: () => performance.now(),
  } as unknown as FilterDeps,
);
headers.append('authorization', `Bearer ${token}`);
const context = {
  connection,
  requestHeaders: headers,
  info: { dynamicMetadata: undefined },
  routeConfig: () => undefined,
  signal: new AbortController().signal,
} as unknown as FilterContext;
// As each request brings it: a text of its own.
const line = Buffer.from(`Bearer ${token}`, 'latin1');
const ask = () => {
  headers.set('authorization', line.latin1Slice());
  context.info.dynamicMetadata = undefined;
  return filter.decodeHeaders(context, headers);
};
await ask();
bench(`a token of ${token.length} bytes seen before`, ask);
