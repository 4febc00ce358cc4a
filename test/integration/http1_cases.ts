/**
 * Requests as bytes, to be given to Pillion and to Envoy with the same listeners: http1_cases.test.ts holds what
 * Pillion must make of each, test/interop/envoy_http1.test.ts that Envoy makes the same.
 */
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';

export interface Http1Case {
  readonly says: string;
  /** Default `plain`. */
  readonly listener?: string;
  readonly request: string;
}

const MANAGERS: Readonly<Record<string, Json>> = {
  plain: {},
  base: { normalize_path: true },
  merge: { normalize_path: true, merge_slashes: true },
  decode: { normalize_path: true, merge_slashes: true, path_with_escaped_slashes_action: 'UNESCAPE_AND_FORWARD' },
  redirecting: { normalize_path: true, path_with_escaped_slashes_action: 'UNESCAPE_AND_REDIRECT' },
  rejecting: { normalize_path: true, path_with_escaped_slashes_action: 'REJECT_REQUEST' },
  edge: { use_remote_address: true, via: 'test', server_name: 'edge' },
  'edge-hops': { use_remote_address: true, xff_num_trusted_hops: 1, append_x_forwarded_port: true },
  'no-underscores': { common_http_protocol_options: { headers_with_underscores_action: 'DROP_HEADER' } },
  'refused-underscores': { common_http_protocol_options: { headers_with_underscores_action: 'REJECT_REQUEST' } },
  http10: { http_protocol_options: { accept_http_10: true, default_host_for_http_10: 'old.example' } },
  'passing-server': { server_header_transformation: 'PASS_THROUGH', always_set_request_id_in_response: true },
  strip: { strip_any_host_port: true, strip_trailing_host_dot: true },
  'few-headers': { common_http_protocol_options: { max_headers_count: 5 } },
  'keep-id': { preserve_external_request_id: true, generate_request_id: true },
  'no-id': { generate_request_id: false },
};

/** One listener for each set of options, all with the same routes to one upstream. */
export function listenersFor(upstreamPort: number): Resource[] {
  const routes = (): Json => ({
    name: 'cases',
    virtual_hosts: [
      {
        name: 'wild',
        domains: ['*.wild.example', 'prefix.*'],
        routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'wild' } } }],
      },
      {
        name: 'exact',
        domains: ['exact.example', 'exact.example:8080'],
        routes: [{ match: { prefix: '/' }, direct_response: { status: 200, body: { inline_string: 'exact' } } }],
      },
      {
        name: 'rest',
        domains: ['*'],
        routes: [
          { match: { path: '/admin' }, direct_response: { status: 403, body: { inline_string: 'guarded' } } },
          { match: { prefix: '/admin/' }, direct_response: { status: 403, body: { inline_string: 'guarded' } } },
          { match: { prefix: '/rewrite/' }, route: { cluster: 'up', prefix_rewrite: '/new/' } },
          { match: { prefix: '/host/' }, route: { cluster: 'up', host_rewrite_literal: 'rewritten.example' } },
          {
            match: { safe_regex: { regex: '/regex/[a-z]+' } },
            route: {
              cluster: 'up',
              regex_rewrite: { pattern: { regex: '/regex/([a-z]+)' }, substitution: '/found/\\1' },
            },
          },
          {
            match: { path_separated_prefix: '/segment' },
            redirect: { path_redirect: '/elsewhere', strip_query: true },
          },
          { match: { prefix: '/moved/' }, redirect: { prefix_rewrite: '/here/', https_redirect: true } },
          { match: { path: '/case', case_sensitive: false }, direct_response: { status: 201 } },
          {
            match: { prefix: '/query', query_parameters: [{ name: 'a', string_match: { exact: '1' } }] },
            direct_response: { status: 202 },
          },
          {
            match: { prefix: '/header', headers: [{ name: 'x-a', string_match: { contains: 'b' } }] },
            direct_response: { status: 203 },
          },
          {
            match: { prefix: '/mutate' },
            request_headers_to_add: [
              { header: { key: 'x-added', value: '%REQ(:METHOD)% %PROTOCOL%' } },
              { header: { key: 'x-set', value: 'new' }, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' },
              { header: { key: 'x-if-absent', value: 'new' }, append_action: 'ADD_IF_ABSENT' },
            ],
            request_headers_to_remove: ['x-removed'],
            response_headers_to_add: [{ header: { key: 'x-answer', value: '%RESPONSE_CODE%' } }],
            route: { cluster: 'up' },
          },
          { match: { prefix: '/' }, route: { cluster: 'up' } },
        ],
      },
    ],
  });
  return [
    ...Object.entries(MANAGERS).map(([name, manager]) => httpListener({ name, routes: routes(), manager })),
    staticCluster('up', [upstreamPort]),
  ];
}

const get = (target: string, headers = '', host = 'a'): string =>
  `GET ${target} HTTP/1.1\r\nhost: ${host}\r\n${headers}connection: close\r\n\r\n`;

const PATHS: readonly string[] = [
  '//admin',
  '/a/..//admin',
  '/./admin',
  '/%2e%2e/admin',
  '/a/%2e%2e/admin',
  '/\\admin',
  '/a\\..\\admin',
  '/a/../../admin',
  '/admin%2fx',
  '/%2fadmin',
  '/a%5c..%5cadmin',
  '/%252fadmin',
  '/%00admin',
  '/a%zz',
  '/%c0%afadmin',
  '/%ff',
  '/ä',
  '/admin;x=y',
  '/user/..;a=b/admin',
  '/user/%2e%2e;a=b/admin',
  '/a;b/../admin',
  '/admin#x',
  '/admin?',
  '/admin?/public',
  '/public?/../admin',
  '/x?y#z',
  '/..',
  '/.',
  '/a/.',
  '/a/..',
  '/a/./',
  '/a//b///c?d//e',
  '/a%2F%2Fb',
  '/a%2f..%2fadmin',
  '/%61dmin',
  '/a b',
  '/a%20b',
  '/a%7Eb~c',
  '*',
  'admin',
  '?x',
  '/?',
  '//',
  '///?//',
];

const HOSTS: readonly string[] = [
  'exact.example',
  'EXACT.example',
  'exact.example.',
  'exact.example:80',
  'exact.example:8080',
  'exact.example:9090',
  'a.wild.example',
  'a.b.wild.example',
  'wild.example',
  '.wild.example',
  'xwild.example',
  'prefix.anything',
  'prefix.',
  'notprefix.x',
  'user@exact.example',
  '[::1]',
  '[::1]:80',
  '[fe80::1%25eth0]',
  'exact.example/..',
  'exact.example,exact.example',
  'ex ample',
  'exact.example:',
  'exact.example:abc',
  'exact_example',
  '-',
  '127.0.0.1:80',
];

export const CASES: readonly Http1Case[] = [
  ...['plain', 'base', 'merge', 'decode', 'redirecting', 'rejecting'].flatMap((listener) =>
    PATHS.map((path): Http1Case => ({ says: `path ${path} with ${listener}`, listener, request: get(path) })),
  ),
  ...HOSTS.map((host): Http1Case => ({ says: `host ${host}`, request: get('/', '', host) })),
  ...HOSTS.slice(0, 6).map(
    (host): Http1Case => ({ says: `host ${host} stripped`, listener: 'strip', request: get('/x', '', host) }),
  ),
  { says: 'host stripped of another port', listener: 'strip', request: get('/x', '', 'other.example.:123') },
  { says: 'no host', request: 'GET / HTTP/1.1\r\nconnection: close\r\n\r\n' },
  { says: 'empty host', request: 'GET / HTTP/1.1\r\nhost: \r\nconnection: close\r\n\r\n' },
  { says: 'two hosts', request: 'GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n' },
  { says: 'absolute uri', request: get('http://exact.example/x') },
  { says: 'absolute uri with another host', request: get('http://other.example:81/x?y', '', 'exact.example') },
  { says: 'absolute https uri', request: get('https://other.example/x') },
  { says: 'absolute uri without path', request: get('http://other.example') },
  { says: 'absolute uri with query only', request: get('http://other.example?x') },
  { says: 'absolute uri with userinfo', request: get('http://u:p@other.example/') },
  { says: 'other scheme', request: get('ftp://other.example/') },
  { says: 'options *', request: 'OPTIONS * HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'connect', request: 'CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\nconnection: close\r\n\r\n' },
  { says: 'head', request: 'HEAD /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'head direct', request: 'HEAD /case HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  {
    says: 'post with length',
    request: 'POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello',
  },
  {
    says: 'post chunked',
    request:
      'POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
  },
  { says: 'post empty', request: 'POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\nconnection: close\r\n\r\n' },
  { says: 'post without length', request: 'POST /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'custom method', request: 'PURGE /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'header case', request: get('/x', 'X-MiXeD: A\r\nACCEPT: b\r\n') },
  { says: 'repeated headers', request: get('/x', 'x-a: 1\r\nx-a: 2\r\nx-b: 3\r\n') },
  { says: 'empty header', request: get('/x', 'x-a:\r\nx-b: \t \r\n') },
  { says: 'blank around value', request: get('/x', 'x-a:   1  \r\n') },
  { says: 'obs-text value', request: get('/x', 'x-a: \xe4\xff\r\n') },
  { says: 'prototype names', request: get('/x', '__proto__: 1\r\nconstructor: 2\r\ntostring: 3\r\n') },
  {
    says: 'hop-by-hop headers',
    request: get(
      '/x',
      'keep-alive: timeout=5\r\nproxy-connection: keep-alive\r\nte: trailers, gzip\r\nupgrade: h2c\r\n',
    ),
  },
  {
    says: 'named by connection',
    request: 'GET /x HTTP/1.1\r\nhost: a\r\nx-hop: 1\r\nconnection: close, x-hop\r\n\r\n',
  },
  { says: 'te trailers', request: get('/x', 'te: trailers\r\n') },
  {
    says: 'upgrade not allowed',
    request: 'GET /x HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n',
  },
  {
    says: 'expect',
    request: 'POST /x HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi',
  },
  {
    says: 'internal headers',
    request: get(
      '/x',
      'x-envoy-internal: true\r\nx-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-retry-on: 5xx\r\nx-envoy-decorator-operation: a\r\nx-envoy-original-path: /y\r\nx-envoy-peer-metadata: z\r\n',
    ),
  },
  {
    says: 'internal headers at the edge',
    listener: 'edge',
    request: get(
      '/x',
      'x-envoy-internal: true\r\nx-envoy-upstream-rq-timeout-ms: 1\r\nx-envoy-retry-on: 5xx\r\nx-envoy-decorator-operation: a\r\nx-envoy-downstream-service-cluster: c\r\n',
    ),
  },
  {
    says: 'forwarded',
    request: get('/x', 'x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\nx-forwarded-host: h\r\n'),
  },
  {
    says: 'forwarded at the edge',
    listener: 'edge',
    request: get('/x', 'x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\n'),
  },
  {
    says: 'forwarded through a trusted hop',
    listener: 'edge-hops',
    request: get('/x', 'x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\n'),
  },
  { says: 'bad forwarded proto', request: get('/x', 'x-forwarded-proto: gopher\r\n') },
  { says: 'client certificate header', request: get('/x', 'x-forwarded-client-cert: By=x\r\n') },
  { says: 'request id', request: get('/x', 'x-request-id: mine\r\n') },
  { says: 'request id at the edge', listener: 'edge', request: get('/x', 'x-request-id: mine\r\n') },
  { says: 'request id kept', listener: 'keep-id', request: get('/x', 'x-request-id: mine\r\n') },
  { says: 'no request id', listener: 'no-id', request: get('/x') },
  { says: 'server header passed', listener: 'passing-server', request: get('/x', 'x-request-id: mine\r\n') },
  { says: 'underscores kept', request: get('/x', 'x_user: 1\r\nx-user: 2\r\n') },
  { says: 'underscores dropped', listener: 'no-underscores', request: get('/x', 'x_user: 1\r\nx-user: 2\r\n') },
  { says: 'underscores refused', listener: 'refused-underscores', request: get('/x', 'x_user: 1\r\n') },
  {
    says: 'five headers',
    listener: 'few-headers',
    request: 'GET / HTTP/1.1\r\nhost: a\r\nb: 1\r\nc: 1\r\nd: 1\r\nconnection: close\r\n\r\n',
  },
  {
    says: 'six headers',
    listener: 'few-headers',
    request: 'GET / HTTP/1.1\r\nhost: a\r\nb: 1\r\nc: 1\r\nd: 1\r\ne: 1\r\nconnection: close\r\n\r\n',
  },
  { says: 'http 1.0 refused', request: 'GET /x HTTP/1.0\r\nhost: a\r\n\r\n' },
  { says: 'http 1.0', listener: 'http10', request: 'GET /x HTTP/1.0\r\nhost: a\r\n\r\n' },
  { says: 'http 1.0 without host', listener: 'http10', request: 'GET /x HTTP/1.0\r\n\r\n' },
  { says: 'http 2.0 on the line', request: 'GET /x HTTP/2.0\r\nhost: a\r\n\r\n' },
  { says: 'http 0.9', request: 'GET /x\r\n\r\n' },
  { says: 'lower-case method', request: 'get /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  { says: 'two spaces', request: 'GET  /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n' },
  {
    says: 'length and chunked',
    request: 'POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n',
  },
  { says: 'two lengths', request: 'POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx' },
  {
    says: 'same length twice',
    request: 'POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 1\r\n\r\nx',
  },
  {
    says: 'unknown coding',
    request: 'POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n',
  },
  { says: 'bad chunk size', request: 'POST /x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n\r\n' },
  { says: 'space before colon', request: 'GET /x HTTP/1.1\r\nhost: a\r\nx : 1\r\n\r\n' },
  { says: 'obs-fold', request: 'GET /x HTTP/1.1\r\nhost: a\r\nx: 1\r\n y\r\n\r\n' },
  { says: 'bare lf', request: 'GET /x HTTP/1.1\nhost: a\n\n' },
  { says: 'nul in value', request: 'GET /x HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n' },
  { says: 'prefix rewrite', request: get('/rewrite/a?b=c') },
  { says: 'host rewrite', request: get('/host/a') },
  { says: 'regex rewrite', request: get('/regex/abc?q=1') },
  { says: 'regex does not match more', request: get('/regex/abc/d') },
  { says: 'path-separated prefix', request: get('/segment?q=1') },
  { says: 'path-separated prefix below', request: get('/segment/x?q=1') },
  { says: 'path-separated prefix is no prefix', request: get('/segments') },
  { says: 'prefix redirect to https', request: get('/moved/x?q=1', '', 'a:80') },
  { says: 'case-insensitive path', request: get('/CaSe') },
  { says: 'query parameter', request: get('/query?b=2&a=1') },
  { says: 'query parameter of another value', request: get('/query?a=2') },
  { says: 'header match', request: get('/header', 'x-a: abc\r\n') },
  { says: 'header match over repeated headers', request: get('/header', 'x-a: a\r\nx-a: b\r\n') },
  { says: 'mutation', request: get('/mutate', 'x-set: old\r\nx-if-absent: old\r\nx-removed: 1\r\nX-Added: was\r\n') },
];
