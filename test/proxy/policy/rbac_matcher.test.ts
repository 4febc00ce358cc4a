/** Authorization by conditions in CEL and by trees of matchers, and what of them is refused by name. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Json } from '../../../config/resources.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
import { parseRbac, type RbacVerdict } from '../../../proxy/policy/rbac.ts';
import { Fields } from '../../../proxy/resource_fields.ts';
import { celJson } from '../../support/cel_json.ts';
import { action, extension, list, MATCHERS, on } from '../../support/matcher_cases.ts';
import { subject, type SubjectOptions } from '../../support/policy_subject.ts';

const ANY = { any: true };
const SPIFFE = 'spiffe://cluster.local/ns/shop/sa/web';
const SSL = 'envoy.extensions.matching.common_inputs.ssl.v3.';
const NETWORK = 'envoy.extensions.matching.common_inputs.network.v3.';

function decide(config: Json, options: SubjectOptions = {}, http = true): RbacVerdict {
  const { enforced } = parseRbac(new Fields(config), http);
  assert.ok(enforced !== undefined);
  return enforced.decide(subject(options));
}
const conditional = (condition: Json, more: Json = {}): Json => ({
  rules: { policies: { p: { permissions: [ANY], principals: [ANY], condition, ...more } } },
});
const holds = (text: string, options: SubjectOptions = {}): boolean =>
  decide(conditional(celJson(text)), options).allowed;
const refused = (config: Json, message: RegExp, http = true): void =>
  assert.throws(
    () => parseRbac(new Fields(config), http),
    (error) => error instanceof ConfigError && message.test(error.message),
  );

describe('a condition', () => {
  it('holds with permissions and principals, not instead of them', () => {
    const config = {
      rules: {
        policies: {
          p: {
            permissions: [{ url_path: { path: { exact: '/a' } } }],
            principals: [ANY],
            condition: celJson('request.method == "GET"'),
          },
        },
      },
    };
    assert.equal(decide(config, { path: '/a' }).allowed, true);
    assert.equal(decide(config, { path: '/b' }).allowed, false);
    assert.equal(decide(config, { path: '/a', method: 'PUT' }).allowed, false);
  });

  it('sees who asks', () => {
    assert.equal(holds(`connection.uri_san_peer_certificate == "${SPIFFE}"`, { principal: SPIFFE }), true);
    assert.equal(holds('connection.mtls', {}), false);
    assert.equal(holds('source.address.startsWith("9.9.9.9")', { remote: '9.9.9.9' }), true);
    assert.equal(holds('connection.requested_server_name.endsWith(".a")', { sni: 'x.a' }), true);
    const metadata = { f: { a: { b: ['x', 'y'] } } };
    assert.equal(holds('"y" in metadata.filter_metadata["f"]["a"]["b"]', { metadata }), true);
    assert.equal(holds('"z" in metadata.filter_metadata["f"]["a"]["b"]', { metadata }), false);
  });

  it('that fails, or is no truth value, is no match: not for ALLOW, nor for DENY', () => {
    for (const text of [
      'request.headers["none"] == "a"',
      '1 / 0 == 1',
      '"yes"',
      'response.code == 200',
      'request.path',
    ]) {
      assert.equal(holds(text), false, text);
      const denies = conditional(celJson(text));
      const { policies } = denies['rules'] as { policies: Json };
      assert.equal(decide({ rules: { action: 'DENY', policies } }).allowed, true, text);
    }
  });

  it('on TCP sees the connection, and no request', () => {
    assert.equal(holds('connection.requested_server_name == "a"', { tcp: true, sni: 'a' }), true);
    assert.equal(holds('request.path == "/"', { tcp: true }), false);
    assert.equal(holds('!(request.path == "/")', { tcp: true }), false);
  });

  it('is refused where it cannot be executed, with the place', () => {
    const wrong: readonly (readonly [Json, RegExp])[] = [
      [{ id: '1' }, /policies\["p"\]\.condition\.call_expr: one kind of CEL/],
      [celJson('nobody.path == "/"'), /condition: .*there is no attribute "nobody"/],
      [celJson('request.path.launch()'), /there is no function launch/],
      [{ call_expr: { function: '_==_', args: [celJson('1')] } }, /condition\.call_expr\.args: _==_ takes 2/],
      [{ call_expr: { function: '@map_insert', args: [] } }, /"@map_insert" is not executed/],
      [{ comprehension_expr: {} }, /comprehension_expr: comprehensions .* are not executed/],
      [{ struct_expr: { message_name: 'a.B' } }, /messages such as a\.B/],
      [{ const_expr: { int64_value: '9007199254740993' } }, /beyond 2\^53/],
      [{ const_expr: {} }, /const_expr\.string_value: a constant of a kind/],
      [deep(100), /nests at most 64 deep/],
      [
        { list_expr: { elements: Array.from({ length: 2000 }, () => ({ const_expr: { bool_value: true } })) } },
        /at most 1024/,
      ],
    ];
    for (const [condition, message] of wrong) refused(conditional(condition), message);
    refused(
      {
        rules: {
          policies: { p: { permissions: [ANY], principals: [ANY], checked_condition: { expr: celJson('true') } } },
        },
      },
      /checked_condition: is passed over by Envoy/,
    );
    refused(conditional(celJson('string(1) == "1"')), /there is no function string/);
    refused(conditional(celJson('"a".trim() == "a"'), { cel_config: { enable_string_concat: true } }), /function trim/);
  });

  function deep(levels: number): Json {
    let expression: Json = { const_expr: { bool_value: true } };
    for (let i = 0; i < levels; i++) expression = { call_expr: { function: '!_', args: [expression] } };
    return expression;
  }
});

describe('a matcher', () => {
  const named = (name: string, options: SubjectOptions): string =>
    verdict({ matcher: MATCHERS[name] as Json }, options);
  const verdict = (config: Json, options: SubjectOptions, http = true): string => {
    const { allowed, policy } = decide(config, options, http);
    return `${allowed ? 'allowed' : 'denied'} by ${policy ?? 'nobody'}`;
  };
  const x = (value: string, ...more: [string, string][]): SubjectOptions => ({ headers: [['x', value], ...more] });

  const table: readonly (readonly [name: string, options: SubjectOptions, wanted: string])[] = [
    ['empty', {}, 'denied by nobody'],
    ['only a fallback', {}, 'allowed by always'],
    ['list', x('1'), 'allowed by one'],
    ['list', x('12'), 'denied by prefix'],
    ['list', x('77'), 'allowed by rest'],
    ['list', {}, 'denied by nobody'],
    ['a list that goes on', x('1', ['y', '1']), 'allowed by inner'],
    ['a list that goes on', x('1'), 'allowed by second'],
    ['a list that goes on', x('2'), 'denied by none'],
    ['and', x('1', ['y', '1']), 'allowed by both'],
    ['and', x('1'), 'denied by nobody'],
    ['or', { headers: [['y', '1']] }, 'allowed by either'],
    ['not', {}, 'allowed by other'],
    ['not', x('1'), 'denied by nobody'],
    [
      'repeated values are one',
      {
        headers: [
          ['x', '1'],
          ['x', '2'],
        ],
      },
      'allowed by joined',
    ],
    ['exactly', x('2'), 'allowed by two'],
    ['exactly', x('1'), 'allowed by none'],
    ['exactly', {}, 'allowed by none'],
    ['prefixes', x('123'), 'denied by deny'],
    ['prefixes', x('12'), 'allowed by one'],
    ['prefixes', x('12', ['y', '1']), 'allowed by inner'],
    ['ranges', { remote: '10.1.0.1' }, 'allowed by ten'],
    ['ranges', { remote: '10.1.0.1', headers: [['y', '1']] }, 'allowed by inner'],
    ['ranges', { remote: '11.0.0.1' }, 'denied by none'],
    ['ranges', { remote: '12.0.0.1' }, 'allowed by any'],
    ['ranges', { remote: '2001:db8::1' }, 'denied by six'],
    ['ranges', { remote: '::1' }, 'denied by none'],
    ['hosts', { host: 'a.example' }, 'allowed by ex'],
    ['hosts', { host: 'x.b.example' }, 'allowed by ex'],
    ['hosts', { host: 'x.b.example', headers: [['y', '1']] }, 'allowed by inner'],
    ['hosts', { host: 'example' }, 'denied by star'],
    ['CEL', x('1'), 'allowed by one'],
    ['CEL', { method: 'POST' }, 'allowed by post'],
    ['path', { path: '' }, 'denied by nobody'],
  ];
  for (const [name, options, wanted] of table) {
    it(`${name}: ${wanted} for ${JSON.stringify(options)}`, () => assert.equal(named(name, options), wanted));
  }

  it('sees the names of a verified certificate only', () => {
    const config = (type: string, value: string) => ({
      matcher: list([on(extension(SSL + type), { exact: value }), action('peer')]),
    });
    assert.equal(verdict(config('UriSanInput', SPIFFE), { principal: SPIFFE }), 'allowed by peer');
    assert.equal(verdict(config('UriSanInput', SPIFFE), {}), 'denied by nobody');
    assert.equal(verdict(config('DnsSanInput', 'a.b,c.d'), { dnsSans: ['a.b', 'c.d'] }), 'allowed by peer');
    assert.equal(verdict(config('SubjectInput', 'CN=a'), { subject: 'CN=a' }), 'allowed by peer');
  });

  it('holds for TCP, with what there is of a connection', () => {
    const config = { matcher: list([on(extension(`${NETWORK}ServerNameInput`), { suffix: '.a' }), action('sni')]) };
    assert.equal(verdict(config, { tcp: true, sni: 'x.a' }, false), 'allowed by sni');
    assert.equal(verdict(config, { tcp: true }, false), 'denied by nobody');
    refused({ matcher: MATCHERS['list'] as Json }, /cannot look at envoy\.type\.matcher\.v3\.HttpRequestHeader/, false);
    refused({ matcher: MATCHERS['CEL'] as Json }, /cannot look at xds\.type\.matcher\.v3\.HttpAttributesCel/, false);
  });

  it('goes before rules, and a shadow of it is no verdict', () => {
    const { enforced, shadow } = parseRbac(
      new Fields({ shadow_matcher: MATCHERS['list'], matcher: MATCHERS['exactly'], rules: { action: 'DENY' } }),
      true,
    );
    assert.equal(enforced?.decide(subject(x('2'))).policy, 'two');
    assert.equal(shadow?.decide(subject(x('1'))).policy, 'one');
    assert.deepEqual(shadow?.policies, ['one', 'prefix', 'rest']);
  });

  it('is refused where it cannot be executed, with the place', () => {
    const field = extension('envoy.type.matcher.v3.HttpRequestHeaderMatchInput', { header_name: 'x' });
    const single = (more: Json, input = field): Json => ({
      matcher: list([{ single_predicate: { input, ...more } }, action('a')]),
    });
    const custom = (type: string, more: Json = {}): Json => ({ custom_match: extension(type, more) });
    const wrong: readonly (readonly [Json, RegExp])[] = [
      [single({}), /predicate\.single_predicate\.custom_match: is required/],
      [single({ value_match: {} }), /value_match\.exact: one of exact/],
      [single({ value_match: { custom: {} } }), /value_match\.custom: string matchers of other kinds/],
      [
        single(custom('a.b.Hyperscan')),
        /custom_match\.typed_config\.@type: the input matcher a\.b\.Hyperscan is not executed/,
      ],
      [
        single(custom('envoy.extensions.matching.input_matchers.runtime_fraction.v3.RuntimeFraction')),
        /RuntimeFraction is not executed/,
      ],
      [single(custom('xds.type.matcher.v3.CelMatcher')), /cannot be asked about this input/],
      [single({ value_match: { exact: 'a' } }, extension('a.b.Input')), /authorization cannot look at a\.b\.Input/],
      [
        single({ value_match: { exact: 'a' } }, extension('xds.type.matcher.v3.HttpAttributesCelMatchInput')),
        /gives no text/,
      ],
      [{ matcher: { matcher_list: {} } }, /matcher_list\.matchers: at least one/],
      [{ matcher: list([{}, action('a')]) }, /single_predicate, or_matcher, and_matcher or not_matcher is required/],
      [{ matcher: list([{ or_matcher: { predicate: [] } }, action('a')]) }, /at least two/],
      [{ matcher: { on_no_match: { ...action('a'), keep_matching: true } } }, /keep_matching: is not supported/],
      [{ matcher: { on_no_match: {} } }, /on_no_match\.action: is required/],
      [{ matcher: { on_no_match: { action: extension('a.b.Action') } } }, /the action a\.b\.Action is not executed/],
      [{ matcher: { on_no_match: action('') } }, /name: is required/],
      [{ matcher: { matcher_tree: { input: field } } }, /matcher_tree\.custom_match: is required/],
      [{ matcher: { matcher_tree: { input: field, exact_match_map: {} } } }, /exact_match_map\.map: at least one/],
      [
        { matcher: { matcher_tree: { input: field, custom_match: extension('a.b.Trie') } } },
        /the tree a\.b\.Trie is not executed/,
      ],
      [{ matcher: nested(40) }, /matchers nest at most 32 deep/],
    ];
    for (const [config, message] of wrong) refused(config, message);
  });

  function nested(levels: number): Json {
    let matcher: Json = { on_no_match: action('a') };
    for (let i = 0; i < levels; i++) matcher = { on_no_match: { matcher } };
    return matcher;
  }
});
