/** Conditions and matchers of authorization, and requests for them: asked of us in one test, of us and Envoy in another. */
import type { Json, Resource } from '../../config/resources.ts';
import { celJson } from './cel_json.ts';
import { httpListener, routeConfig } from './envoy_resources.ts';

const T = 'type.googleapis.com/';
export const RBAC = `${T}envoy.extensions.filters.http.rbac.v3.RBAC`;
const NETWORK = 'envoy.extensions.matching.common_inputs.network.v3.';
const SSL = 'envoy.extensions.matching.common_inputs.ssl.v3.';

export const extension = (type: string, more: Json = {}): Json => ({
  name: 'x',
  typed_config: { '@type': T + type, ...more },
});
const field = (header_name: string): Json =>
  extension('envoy.type.matcher.v3.HttpRequestHeaderMatchInput', { header_name });
export const action = (name: string, verdict = 'ALLOW'): Json => ({
  action: extension('envoy.config.rbac.v3.Action', { name, action: verdict }),
});
export const on = (input: Json, value_match: Json): Json => ({ single_predicate: { input, value_match } });
const x = (value: Json): Json => on(field('x'), value);
const exact = (text: string): Json => ({ exact: text });
const regex = (text: string): Json => ({ safe_regex: { google_re2: {}, regex: text } });
export const list = (...entries: readonly (readonly [predicate: Json, on_match: Json])[]): Json => ({
  matcher_list: { matchers: entries.map(([predicate, on_match]) => ({ predicate, on_match })) },
});
const inner = (name = 'inner'): Json => ({ matcher: list([on(field('y'), exact('1')), action(name)]) });
const range = (text: string, on_match: Json, more: Json = {}): Json => {
  const [address_prefix, length] = text.split('/');
  return { ranges: [{ address_prefix, prefix_len: Number(length) }], on_match, ...more };
};
const network = (name: string, more: Json = {}): Json => extension(NETWORK + name, more);
const cel = (text: string): Json => ({
  single_predicate: {
    input: extension('xds.type.matcher.v3.HttpAttributesCelMatchInput'),
    custom_match: extension('xds.type.matcher.v3.CelMatcher', {
      expr_match: { cel_expr_parsed: { expr: celJson(text) } },
    }),
  },
});
const claim = (invert: boolean): Json => ({
  single_predicate: {
    input: network('DynamicMetadataInput', { filter: 'f', path: [{ key: 'a' }] }),
    custom_match: extension('envoy.extensions.matching.input_matchers.metadata.v3.Metadata', {
      value: { string_match: { exact: '1' } },
      invert,
    }),
  },
});
const tree = (input: Json, rest: Json, otherwise: Json = action('none', 'DENY')): Json => ({
  matcher_tree: { input, ...rest },
  on_no_match: otherwise,
});

export const MATCHERS: Readonly<Record<string, Json>> = {
  empty: {},
  'only a fallback': { on_no_match: action('always') },
  list: list(
    [x(exact('1')), action('one')],
    [x({ prefix: '1' }), action('prefix', 'DENY')],
    [x(regex('[2-9]+')), action('rest')],
  ),
  'string matchers': list(
    [x({ suffix: 'z' }), action('suffix')],
    [x({ contains: 'mid' }), action('contains', 'DENY')],
    [x({ exact: 'AbC', ignore_case: true }), action('case')],
  ),
  'a list that goes on': {
    ...list([x(exact('1')), inner()], [x({ prefix: '1' }), action('second')]),
    on_no_match: action('none', 'DENY'),
  },
  and: list([{ and_matcher: { predicate: [x({ prefix: '1' }), on(field('y'), exact('1'))] } }, action('both')]),
  or: list([{ or_matcher: { predicate: [x(exact('2')), on(field('y'), exact('1'))] } }, action('either')]),
  not: list([{ not_matcher: x(exact('1')) }, action('other')]),
  log: list([x(exact('1')), action('log', 'LOG')]),
  'repeated values are one': list(
    [x(exact('1,2')), action('joined')],
    [x(exact('1')), action('one')],
    [x(exact('2')), action('two')],
  ),
  path: list(
    [on(field(':path'), { prefix: '/a?' }), action('path')],
    [on(field(':method'), exact('POST')), action('method')],
  ),
  exactly: tree(field('x'), { exact_match_map: { map: { 1: inner(), 2: action('two') } } }, action('none')),
  prefixes: tree(field('x'), {
    prefix_match_map: { map: { 1: action('one'), 12: inner(), 123: action('deny', 'DENY') } },
  }),
  ranges: tree(network('SourceIPInput'), {
    custom_match: extension('xds.type.matcher.v3.IPMatcher', {
      range_matchers: [
        range('10.0.0.0/8', action('ten')),
        range('10.1.0.0/16', inner()),
        range('0.0.0.0/0', action('any'), { exclusive: true }),
        range('11.0.0.0/8', inner('eleven')),
        range('10.0.0.0/8', action('ten again')),
        range('2001:db8::/32', action('six', 'DENY')),
      ],
    }),
  }),
  hosts: tree(field(':authority'), {
    custom_match: extension('xds.type.matcher.v3.ServerNameMatcher', {
      domain_matchers: [
        { domains: ['a.example', '*.example'], on_match: action('ex') },
        { domains: ['*.b.example'], on_match: inner() },
        { domains: ['*'], on_match: action('star', 'DENY') },
      ],
    }),
  }),
  addresses: list(
    [
      {
        single_predicate: {
          input: network('SourceIPInput'),
          custom_match: extension('envoy.extensions.matching.input_matchers.ip.v3.Ip', {
            stat_prefix: 's',
            cidr_ranges: [
              { address_prefix: '10.0.0.0', prefix_len: 8 },
              { address_prefix: '2001:db8::', prefix_len: 32 },
            ],
          }),
        },
      },
      action('cidr'),
    ],
    [on(network('SourcePortInput'), exact('0')), action('no port', 'DENY')],
    [on(network('DirectSourceIPInput'), exact('127.0.0.1')), action('direct')],
  ),
  destination: list([on(network('DestinationIPInput'), exact('127.0.0.1')), action('here')]),
  'destination port': list([on(network('DestinationPortInput'), regex('[0-9]{2,5}')), action('port')]),
  'no server name': list([on(network('ServerNameInput'), regex('.*')), action('sni')]),
  'no certificate': list(
    [on(extension(`${SSL}UriSanInput`), regex('.*')), action('uri')],
    [on(extension(`${SSL}DnsSanInput`), regex('.*')), action('dns')],
    [on(extension(`${SSL}SubjectInput`), regex('.*')), action('subject')],
  ),
  'no filter state': list([on(network('FilterStateInput', { key: 'k' }), regex('.*')), action('state')]),
  'no metadata': list([claim(false), action('is')], [claim(true), action('is not')]),
  CEL: list(
    [cel('request.path == "/" && request.headers["x"].startsWith("1")'), action('one')],
    [cel('request.headers["missing"] == "" || request.method == "POST"'), action('post')],
    [cel('has(request.headers.y)'), action('y')],
  ),
};

export const CONDITIONS: readonly string[] = [
  'true',
  'false',
  '"true"',
  'request.path == "/"',
  'request.url_path.startsWith("/a") && request.query == "q=1"',
  'request.method in ["POST", "PUT"]',
  'request.headers["x"] == "1"',
  'request.headers["x"] == "1,2"',
  '"x" in request.headers && !("y" in request.headers)',
  'has(request.headers.x) ? request.headers["x"].size() == 1 : request.host.endsWith(".example")',
  'request.headers["missing"] == "a"',
  '!(request.headers["missing"] == "a")',
  'request.headers["missing"] == "a" || request.method == "GET"',
  'request.headers["missing"] == "a" && request.method == "GET"',
  'request.scheme == "http" && request.protocol == "HTTP/1.1"',
  'request.path.matches("^/[a-b]\\\\?")',
  'request.path.contains("?") && request.size == 0',
  'source.address.startsWith("10.") || source.port > 1',
  'destination.address.startsWith("127.0.0.1:") && destination.port > 1',
  'connection.mtls',
  '!connection.mtls',
  'connection.tls_version == ""',
  'connection.requested_server_name == ""',
  'connection.uri_san_peer_certificate == ""',
  'response.code == 200',
  '!(response.code == 200)',
  'has(response.headers.x)',
  'metadata.filter_metadata["none"]["a"] == "b"',
  'has(metadata.filter_metadata)',
  'request.useragent == "t" || request.referer == "r"',
  'request.id == "1"',
  '1 / 0 == 1 || request.path == "/"',
  '1 + 1 == 2 && 2.0 * 2.0 == 4.0 && 7 % 4 == 3 && -1 < 0',
  'request.headers["x"] > "1" && request.headers["x"] <= "2"',
  'request.unknown == "a"',
  'size(request.path) >= 4',
  // Off by default: the sum of two texts has no value.
  '"1" + "2" == "12"',
  'false < true && !(true < false)',
  '[1] + [2] == [1, 2]',
  'dyn(1) == 1',
];

/** Conditions that want something switched on. */
export const CONFIGURED: readonly (readonly [option: string, text: string])[] = [
  ['enable_string_concat', 'request.method + request.path == "GET/"'],
  ['enable_string_conversion', 'string(1) == "1" && string(true) == "true"'],
  ['enable_string_functions', 'request.headers["x"].upperAscii() == "ABC" || request.path.split("?")[1] == "q=1"'],
  ['enable_string_functions', '["a", "b"].join("-") == "a-b" && ["a", "b"].join() == "ab"'],
  ['enable_string_functions', '"h\u00e9llo".substring(1, 3) == "\u00e9l" && "abc".substring(3) == ""'],
  ['enable_string_functions', '"h\u00e9lhl".indexOf("l") == 2 && "h\u00e9lhl".lastIndexOf("l") == 4'],
  ['enable_string_functions', '"abc".indexOf("x") == -1 && "abc".charAt(1) == "b" && "abc".charAt(3) == ""'],
  ['enable_string_functions', '"abc".substring(2, 1) == ""'],
  ['enable_string_functions', '"abc".charAt(4) == ""'],
  ['enable_string_functions', '"a" + "b" == "ab"'],
];

const MTLS = 'envoy.extensions.rbac.principals.mtls_authenticated.v3.Config';
/** Over plaintext nobody is one. */
const PRINCIPALS: Readonly<Record<string, Json>> = {
  certified: { custom: extension(MTLS, { any_validated_client_certificate: true }) },
  'not certified': { not_id: { custom: extension(MTLS, { any_validated_client_certificate: true }) } },
  named: { custom: extension(MTLS, { san_matcher: { san_type: 'URI', matcher: { prefix: 'spiffe:' } } }) },
};

const policy = (condition: Json, more: Json = {}): Json => ({
  p: { permissions: [{ any: true }], principals: [{ any: true }], condition, ...more },
});

/** What was decided, by whom, in response headers. */
const SAYS: Json = {
  name: 'envoy.filters.http.header_mutation',
  typed_config: {
    '@type': `${T}envoy.extensions.filters.http.header_mutation.v3.HeaderMutation`,
    mutations: {
      response_mutations: [
        {
          append: {
            header: {
              key: 'x-says',
              value:
                '%RESPONSE_CODE_DETAILS% %DYNAMIC_METADATA(envoy.filters.http.rbac)% %DYNAMIC_METADATA(envoy.common)%',
            },
          },
        },
      ],
    },
  },
};

const ROUTES = routeConfig([{ match: { prefix: '/' }, direct_response: { status: 200 } }]);

function listener(name: string, config: Json): Resource {
  return httpListener({
    name,
    filters: [SAYS, { name: 'envoy.filters.http.rbac', typed_config: { '@type': RBAC, ...config } }],
    routes: ROUTES,
    manager: { use_remote_address: false, normalize_path: true },
  });
}

/** One listener a matcher, one a condition and action. */
export function matcherListeners(): Resource[] {
  return [
    ...Object.entries(MATCHERS).map(([name, matcher]) => listener(`matcher ${name}`, { matcher })),
    listener('shadow', { shadow_matcher: MATCHERS['list'] as Json, matcher: MATCHERS['prefixes'] as Json }),
    listener('matcher before rules', {
      matcher: MATCHERS['list'] as Json,
      rules: { action: 'DENY', policies: policy(celJson('true')) },
    }),
    ...CONFIGURED.map(([option, text]) =>
      listener(`${option} ${text}`, { rules: { policies: policy(celJson(text), { cel_config: { [option]: true } }) } }),
    ),
    ...Object.entries(PRINCIPALS).map(([name, principal]) =>
      listener(`principal ${name}`, {
        rules: { policies: { p: { permissions: [{ any: true }], principals: [principal] } } },
      }),
    ),
    listener('a condition beside a checked one', {
      rules: { policies: policy(celJson('true'), { checked_condition: { expr: celJson('false') } }) },
    }),
    ...CONDITIONS.flatMap((text) =>
      (['ALLOW', 'DENY'] as const).map((verdict) =>
        listener(`${verdict} ${text}`, { rules: { action: verdict, policies: policy(celJson(text)) } }),
      ),
    ),
  ];
}

/** Heads without their end. */
export const MATCHER_REQUESTS: readonly string[] = [
  'GET / HTTP/1.1\r\nhost: a.example\r\n',
  ...['1', '12', '123', '2', 'z', 'amid', 'aBc', ''].map(
    (value) => `GET / HTTP/1.1\r\nhost: a.example\r\nx: ${value}\r\n`,
  ),
  ...['1', '12', '7'].map((value) => `GET / HTTP/1.1\r\nhost: a.example\r\nx: ${value}\r\ny: 1\r\n`),
  'GET / HTTP/1.1\r\nhost: a.example\r\nx: 1\r\nx: 2\r\n',
  'GET /a?q=1 HTTP/1.1\r\nhost: c.Example\r\nuser-agent: t\r\n',
  'POST /abc?q=1 HTTP/1.1\r\nhost: x.b.example\r\ncontent-length: 0\r\ny: 1\r\n',
  'GET /abc HTTP/1.1\r\nhost: x.b.example\r\nreferer: r\r\n',
  'PUT / HTTP/1.1\r\nhost: a.example:80\r\ncontent-length: 0\r\nx-request-id: 1\r\n',
  'GET / HTTP/1.1\r\nhost: example\r\n',
  ...['10.0.0.1', '10.1.0.1', '11.1.0.1', '12.1.1.1', '2001:db8::1', '::5', 'nobody'].map(
    (ip) => `GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: ${ip}\r\n`,
  ),
  'GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 10.1.0.1\r\ny: 1\r\n',
];
