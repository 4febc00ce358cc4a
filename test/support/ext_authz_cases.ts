/** Requests and what an external authorizer makes of them: asked of us in one test, of us and Envoy in another. */
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from './envoy_resources.ts';
import { SAYS_DETAILS } from './jwt_cases.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.';
const NAME = 'envoy.filters.http.ext_authz';
export const HTTP2: Json = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

const exact = (...names: string[]): Json => ({ patterns: names.map((name) => ({ exact: name, ignore_case: true })) });

export const HTTP_SERVICE: Json = {
  http_service: {
    server_uri: { uri: 'http://authz.example', cluster: 'authz', timeout: '2s' },
    path_prefix: '/check',
    authorization_request: { headers_to_add: [{ key: 'x-added', value: 'yes' }] },
    authorization_response: {
      allowed_upstream_headers: exact('X-User'),
      allowed_upstream_headers_to_append: exact('x-more'),
      allowed_client_headers: exact('x-why'),
      allowed_client_headers_on_success: exact('x-ok'),
    },
  },
  allowed_headers: exact('x-asked', 'cookie'),
};
export const GRPC_SERVICE: Json = {
  transport_api_version: 'V3',
  grpc_service: { envoy_grpc: { cluster_name: 'grpc', authority: 'authz.example' }, timeout: '2s' },
};

function listener(name: string, config: Json, perRoute?: Json): Resource {
  const filter = { name: NAME, typed_config: { '@type': `${TYPE}ExtAuthz`, ...config } };
  const routes: Json[] = [
    {
      match: { prefix: '/free' },
      route: { cluster: 'up' },
      typed_per_filter_config: { [NAME]: { '@type': `${TYPE}ExtAuthzPerRoute`, disabled: true } },
    },
    {
      match: { prefix: '/' },
      route: { cluster: 'up' },
      ...(perRoute !== undefined && {
        typed_per_filter_config: { [NAME]: { '@type': `${TYPE}ExtAuthzPerRoute`, ...perRoute } },
      }),
    },
  ];
  return httpListener({ name, filters: [SAYS_DETAILS, filter], routes: routeConfig(routes) });
}

export function extAuthzResources(ports: { up: number; authz: number; grpc: number; closed: number }): Resource[] {
  return [
    listener('http', HTTP_SERVICE),
    listener('body', { ...HTTP_SERVICE, with_request_body: { max_request_bytes: 5, allow_partial_message: true } }),
    listener('whole', { ...HTTP_SERVICE, with_request_body: { max_request_bytes: 5 } }),
    listener('down', {
      http_service: { server_uri: { uri: 'http://a', cluster: 'closed', timeout: '1s' } },
      status_on_error: { code: 'ServiceUnavailable' },
    }),
    listener('open', {
      http_service: { server_uri: { uri: 'http://a', cluster: 'closed', timeout: '1s' } },
      failure_mode_allow: true,
      failure_mode_allow_header_add: true,
    }),
    listener('grpc', GRPC_SERVICE, { check_settings: { context_extensions: { k: 'v' } } }),
    staticCluster('up', [ports.up]),
    staticCluster('authz', [ports.authz]),
    staticCluster('closed', [ports.closed]),
    staticCluster('grpc', [ports.grpc], HTTP2),
  ];
}

/** The HTTP authorizer: the path says what it answers. */
export function authorizerAnswer(received: string): string | undefined {
  const end = received.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(received.slice(0, end))?.[1] ?? 0);
  if (received.length < end + 4 + length) return undefined;
  const path = /^\S+ \/check(\S*)/.exec(received)?.[1] ?? '';
  const reply = (status: string, fields: string, body = ''): string =>
    `HTTP/1.1 ${status}\r\n${fields}content-length: ${body.length}\r\n\r\n${body}`;
  if (path.startsWith('/deny'))
    return reply('403 Forbidden', 'x-why: because\r\nx-secret: 1\r\nwww-authenticate: Basic\r\n', 'no');
  if (path.startsWith('/login')) return reply('302 Found', 'location: https://login.example/\r\nx-why: login\r\n');
  if (path.startsWith('/fail')) return reply('500 Internal Server Error', '');
  if (path.startsWith('/teapot')) return reply('409 Conflict', '');
  return reply(
    '200 OK',
    'x-user: me\r\nx-more: b\r\nx-ok: fine\r\nx-secret: 1\r\nx-envoy-auth-headers-to-remove: x-gone\r\n',
  );
}

export interface ExtAuthzCase {
  readonly says: string;
  readonly listener: string;
  /** From the request line on. */
  readonly request: string;
  readonly status: number;
}

const get = (path: string, fields = ''): string => `GET ${path} HTTP/1.1\r\nhost: shop.example\r\n${fields}\r\n`;
const post = (path: string, body: string): string =>
  `POST ${path} HTTP/1.1\r\nhost: shop.example\r\ncontent-length: ${body.length}\r\n\r\n${body}`;

export const EXT_AUTHZ_CASES: readonly ExtAuthzCase[] = [
  {
    says: 'allowed',
    listener: 'http',
    request: get('/a?b=c', 'x-gone: 1\r\nx-user: root\r\nx-more: a\r\n'),
    status: 200,
  },
  {
    says: 'asked with headers',
    listener: 'http',
    request: get('/a', 'x-asked: 1\r\nx-asked: 2\r\nauthorization: x\r\nx-other: 3\r\n'),
    status: 200,
  },
  { says: 'denied', listener: 'http', request: get('/deny'), status: 403 },
  { says: 'sent to a login', listener: 'http', request: get('/login'), status: 302 },
  { says: 'denied with an odd status', listener: 'http', request: get('/teapot'), status: 409 },
  { says: 'an authorizer that fails', listener: 'http', request: get('/fail'), status: 403 },
  { says: 'a route without', listener: 'http', request: get('/free/deny'), status: 200 },
  { says: 'a body that is not asked for', listener: 'http', request: post('/a', 'hello'), status: 200 },
  { says: 'no body', listener: 'body', request: get('/a'), status: 200 },
  { says: 'a body that fits', listener: 'body', request: post('/a', 'abc'), status: 200 },
  { says: 'a body that is longer', listener: 'body', request: post('/a', 'abcdefgh'), status: 200 },
  { says: 'a body that is too long', listener: 'whole', request: post('/a', 'abcdefgh'), status: 413 },
  { says: 'a denied body', listener: 'whole', request: post('/deny', 'abc'), status: 403 },
  { says: 'nobody to ask', listener: 'down', request: get('/a'), status: 503 },
  { says: 'nobody to ask, let through', listener: 'open', request: get('/a'), status: 200 },
];
