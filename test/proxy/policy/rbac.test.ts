/** The authorization engine: each matcher, what it refuses, and that the index decides as asking every rule does. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { ConfigError } from '../../../proxy/config_error.ts';
import { denialDetails, parseRbacRules } from '../../../proxy/policy/rbac.ts';
import { Fields } from '../../../proxy/resource_fields.ts';
import { subject, type SubjectOptions } from '../../support/policy_subject.ts';

type Json = Readonly<Record<string, unknown>>;
const ANY = { any: true };

function engine(policies: Readonly<Record<string, unknown>>, action = 'ALLOW') {
  return parseRbacRules(new Fields({ action, policies }));
}

function permits(permission: Json, options: SubjectOptions): boolean {
  return engine({ p: { permissions: [permission], principals: [ANY] } }).decide(subject(options)).allowed;
}

function identifies(principal: Json, options: SubjectOptions): boolean {
  return engine({ p: { permissions: [ANY], principals: [principal] } }).decide(subject(options)).allowed;
}

const exact = (text: string) => ({ exact: text });
const header = (name: string, value: string, more: Json = {}) => ({
  header: { name, string_match: { exact: value, ...more } },
});
const claim = (value: Json) => ({
  metadata: { filter: 'envoy.filters.http.jwt_authn', path: [{ key: 'payload' }, { key: 'groups' }], value },
});
const jwt = (groups: unknown): SubjectOptions => ({
  metadata: { 'envoy.filters.http.jwt_authn': { payload: { groups } } },
});
const SPIFFE = 'spiffe://cluster.local/ns/shop/sa/web';

describe('a permission', () => {
  const table: readonly (readonly [string, Json, SubjectOptions, boolean])[] = [
    ['path exact, query apart', { url_path: { path: exact('/a') } }, { path: '/a?b=/c' }, true],
    ['path exact, fragment apart', { url_path: { path: exact('/a') } }, { path: '/a#b' }, true],
    ['path exact, query is no path', { url_path: { path: { contains: 'b' } } }, { path: '/a?b' }, false],
    ['no path on CONNECT', { url_path: { path: { safe_regex: { regex: '.*' } } } }, { path: '' }, false],
    ['no path on TCP', { not_rule: { url_path: { path: exact('/a') } } }, { tcp: true }, true],
    ['header on TCP', header(':method', 'GET'), { tcp: true }, false],
    ['method in its case', header(':method', 'get'), { method: 'GET' }, false],
    ['host without case', header(':authority', 'Secret.com', { ignore_case: true }), { host: 'SECRET.com' }, true],
    ['host with a port', header(':authority', 'secret.com', { ignore_case: true }), { host: 'Secret.com:80' }, true],
    ['host with a dot', header(':authority', 'secret.com', { ignore_case: true }), { host: 'secret.com.' }, true],
    ['host that names a port', header(':authority', 'a:81', { ignore_case: true }), { host: 'a:81' }, true],
    ['host of another port', header(':authority', 'a:81', { ignore_case: true }), { host: 'a:82' }, false],
    ['host by its older name', header('host', 'a'), { host: 'a' }, true],
    ['host that only contains it', header(':authority', 'secret.com'), { host: 'xsecret.com' }, false],
    ['destination port', { destination_port: 8080 }, {}, true],
    ['destination port range', { destination_port_range: { start: 8000, end: 8080 } }, {}, false],
    ['destination ip', { destination_ip: { address_prefix: '10.1.0.0', prefix_len: 16 } }, {}, true],
    ['destination ip', { destination_ip: { address_prefix: '10.2.0.0', prefix_len: 16 } }, {}, false],
    ['server name', { requested_server_name: { suffix: '.a' } }, { sni: 'x.a' }, true],
    ['no server name is empty', { requested_server_name: { safe_regex: { regex: '.+' } } }, {}, false],
    ['template', template('/v/*/x'), { path: '/v/1/x?q' }, true],
    ['template, star in the path', template('/v/*/x'), { path: '/v/*/x' }, true],
    ['template, one segment only', template('/v/*/x'), { path: '/v/1/2/x' }, false],
    ['template, many segments', template('/**/end'), { path: '/a/b/end' }, true],
    ['claim in a list', claim({ list_match: { one_of: { string_match: exact('b') } } }), jwt(['a', 'b']), true],
    ['claim that is a list', claim({ string_match: exact('b') }), jwt(['a', 'b']), false],
    ['claim of Object itself', claim({ present_match: true }), jwt(undefined), false],
    ['claim bool', claim({ bool_match: true }), jwt(true), true],
    ['claim null', claim({ null_match: {} }), jwt(null), true],
    ['claim number', claim({ double_match: { range: { start: 1, end: 3 } } }), jwt(2), true],
    [
      'claim either',
      claim({ or_match: { value_matchers: [{ string_match: exact('x') }, { bool_match: true }] } }),
      jwt('x'),
      true,
    ],
    [
      'route metadata',
      {
        sourced_metadata: {
          metadata_source: 'ROUTE',
          metadata_matcher: { filter: 'f', path: [{ key: 'k' }], value: { string_match: exact('v') } },
        },
      },
      { routeMetadata: { f: { k: 'v' } } },
      true,
    ],
  ];
  for (const [name, permission, options, wanted] of table) {
    it(`${wanted ? 'matches' : 'does not match'}: ${name}`, () => {
      assert.equal(permits(permission, options), wanted);
    });
  }

  function template(path_template: string): Json {
    return {
      uri_template: {
        name: 'uri-template',
        typed_config: {
          '@type': 'type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig',
          path_template,
        },
      },
    };
  }
});

function mtls(config: Json): Json {
  const type = 'type.googleapis.com/envoy.extensions.rbac.principals.mtls_authenticated.v3.Config';
  return { custom: { name: 'mtls', typed_config: { '@type': type, ...config } } };
}

describe('a principal', () => {
  const named = (value: Json) => ({ authenticated: { principal_name: value } });
  const regex = (text: string) => ({ safe_regex: { regex: text } });
  const byName = (san_type: string, matcher: Json) =>
    mtls({ any_validated_client_certificate: true, san_matcher: { san_type, matcher } });
  const range = (address_prefix: string, prefix_len: number) => ({ address_prefix, prefix_len });
  const table: readonly (readonly [string, Json, SubjectOptions, boolean])[] = [
    ['the URI of the certificate', named(exact(SPIFFE)), { principal: SPIFFE }, true],
    ['nobody on plaintext', named(regex('.*')), {}, false],
    ['not somebody, on plaintext', { not_id: named(exact(SPIFFE)) }, {}, true],
    ['anybody with a certificate', { authenticated: {} }, { principal: SPIFFE }, true],
    ['anybody, on plaintext', { authenticated: {} }, {}, false],
    ['a DNS name where there is no URI', named(exact('a.b')), { dnsSans: ['a.b'] }, true],
    ['no DNS name where there is a URI', named(exact('a.b')), { principal: SPIFFE, dnsSans: ['a.b'] }, false],
    ['the subject where there is nothing else', named(exact('CN=a')), { subject: 'CN=a' }, true],
    ['a name cut short by NUL', named(exact(SPIFFE)), { principal: `${SPIFFE}\0.evil` }, false],
    ['a name with dots of another script', named(exact('spiffe://a.b/x')), { principal: 'spiffe://a\u3002b/x' }, false],
    ['a name in another case', named(exact(SPIFFE)), { principal: SPIFFE.toUpperCase() }, false],
    ['a name before a line end', named(regex('.*/ns/shop/.*')), { principal: 'spiffe://x\n/ns/shop/sa/a' }, false],
    ['a namespace', named(regex('.*/ns/shop/.*')), { principal: SPIFFE }, true],
    ['a dot that is a dot', named(regex('.*/ns/a\\.b/.*')), { principal: 'spiffe://t/ns/aXb/sa/x' }, false],
    ['a service account', named(regex('spiffe://.+/ns/shop/(.+/|)sa/web(/.+)?')), { principal: SPIFFE }, true],
    ['the direct peer', { direct_remote_ip: range('10.0.0.0', 8) }, { remote: '9.9.9.9' }, true],
    ['the peer by its older name', { source_ip: range('10.0.0.1', 32) }, {}, true],
    ['the direct peer behind a PROXY header', { direct_remote_ip: range('8.8.8.8', 32) }, { direct: '8.8.8.8' }, true],
    ['whom a PROXY header names', { source_ip: range('10.0.0.1', 32) }, { direct: '8.8.8.8' }, true],
    ['the forwarded client', { remote_ip: range('9.9.9.9', 32) }, { remote: '9.9.9.9' }, true],
    ['IPv6', { remote_ip: range('2001:db8::', 32) }, { remote: '2001:db8::1' }, true],
    ['IPv4 in IPv6', { direct_remote_ip: range('10.0.0.0', 8) }, { peer: '::ffff:10.1.2.3' }, true],
    ['another family', { remote_ip: range('::', 0) }, { remote: '1.2.3.4' }, false],
    ['certified', mtls({ any_validated_client_certificate: true }), { principal: SPIFFE }, true],
    ['certified, on plaintext', mtls({ any_validated_client_certificate: true }), {}, false],
    ['certified by that URI', byName('URI', exact(SPIFFE)), { principal: SPIFFE }, true],
    ['certified by another URI', byName('URI', exact(`${SPIFFE}2`)), { principal: SPIFFE }, false],
    ['certified by a URI that is a DNS name', byName('URI', exact('a.b')), { dnsSans: ['a.b'] }, false],
    [
      'certified by a DNS name beside a URI',
      byName('DNS', exact('a.b')),
      { principal: SPIFFE, dnsSans: ['a.b'] },
      true,
    ],
    ['certified by a wildcard', byName('DNS', exact('a.b.test')), { dnsSans: ['*.b.test'] }, true],
    ['every address', { remote_ip: range('0.0.0.0', 0) }, { remote: '1.2.3.4' }, true],
  ];
  for (const [name, principal, options, wanted] of table) {
    it(`${wanted ? 'is' : 'is not'} ${name}`, () => {
      assert.equal(identifies(principal, options), wanted);
    });
  }
});

describe('a header that comes twice', () => {
  const twice: SubjectOptions = {
    headers: [
      ['x-role', 'user'],
      ['x-role', 'admin'],
    ],
  };
  it('is denied when either value is', () => {
    const deny = (value: string) =>
      engine({ p: { permissions: [header('X-Role', value)], principals: [ANY] } }, 'DENY').decide(subject(twice));
    assert.equal(deny('admin').allowed, false);
    assert.equal(deny('user').allowed, false);
    assert.equal(deny('user,admin').allowed, true);
  });

  it('is held against a rule that excludes either value', () => {
    assert.equal(permits({ not_rule: header('x-role', 'admin') }, twice), false);
  });

  it('with an empty first value is not hidden by it', () => {
    const headers = [
      ['x-role', ''],
      ['x-role', 'admin'],
    ] as const;
    assert.equal(permits({ not_rule: header('x-role', 'admin') }, { headers }), false);
  });
});

describe('the engine', () => {
  const rule = (path: string) => ({ permissions: [{ url_path: { path: exact(path) } }], principals: [ANY] });

  it('names the first policy by name that matches', () => {
    const verdict = engine({ b: rule('/x'), a: rule('/x') }, 'DENY').decide(subject({ path: '/x' }));
    assert.deepEqual(verdict, { allowed: false, policy: 'a' });
  });

  it('denies everything when ALLOW has no policies, nothing when DENY has none, and LOG never', () => {
    assert.equal(engine({}).decide(subject()).allowed, false);
    assert.equal(engine({}, 'DENY').decide(subject()).allowed, true);
    assert.equal(engine({ a: rule('/') }, 'LOG').decide(subject()).allowed, true);
  });

  it('says in the details which policy it was, without white space', () => {
    assert.equal(denialDetails('ns[a]-policy[b c]'), 'rbac_access_denied_matched_policy[ns[a]-policy[b_c]]');
    assert.equal(denialDetails(undefined), 'rbac_access_denied_matched_policy[none]');
  });

  it('refuses what it does not know, with the place', () => {
    const other = { custom: { name: 'x', typed_config: { '@type': 't/a.B' } } };
    const wrong: readonly (readonly [Json, RegExp])[] = [
      [{ permissions: [{}], principals: [ANY] }, /policies\["p"\]\.permissions\[0\].*got nothing/],
      [{ permissions: [{ new_rule: {} }], principals: [ANY] }, /got new_rule/],
      [
        { permissions: [ANY], principals: [other] },
        /custom\.typed_config\.@type: the principal "x" of type t\/a\.B is not/,
      ],
      [{ permissions: [ANY], principals: [mtls({})] }, /any_validated_client_certificate: must be true/],
      [{ permissions: [ANY], principals: [mtls({ san_matcher: { matcher: exact('a') } })] }, /san_type: is required/],
      [{ permissions: [{ matcher: { name: 'y' } }], principals: [ANY] }, /the matcher "y" is not executed/],
      [{ permissions: [], principals: [ANY] }, /permissions: at least one/],
      [{ permissions: [ANY] }, /principals: at least one/],
      [{ permissions: [{ and_rules: {} }], principals: [ANY] }, /and_rules\.rules: at least one/],
      [{ permissions: [{ any: false }], principals: [ANY] }, /any: must be true/],
      [{ permissions: [{ header: { name: 'x', string_match: {} } }], principals: [ANY] }, /string_match/],
      [{ permissions: [ANY], principals: [ANY], condition: {} }, /condition\.call_expr: one kind of CEL/],
      [{ permissions: [{ destination_ip: { address_prefix: 'x' } }], principals: [ANY] }, /an IP address is wanted/],
    ];
    for (const [policy, message] of wrong) assert.throws(() => engine({ p: policy }), message);
    assert.throws(() => engine({}, 'MAYBE'), ConfigError);
    const audited = (audit_logging_options: Json) => () =>
      parseRbacRules(new Fields({ policies: {}, audit_logging_options }));
    assert.throws(audited({ logger_configs: [{}] }), /audit_logging_options\.logger_configs: audit loggers are not/);
    assert.equal(audited({ audit_condition: 'ON_DENY' })().action, 'ALLOW');
  });
});

describe('the index of rules', () => {
  const paths = ['/', '/a', '/a/b', '/b', '/api/v1', '/api/v2'];
  const hosts = ['a.example', 'B.example', 'a.example:80'];
  const principals = [SPIFFE, 'spiffe://cluster.local/ns/ops/sa/pay', 'spiffe://t/ns/shop/ns/ops/sa/x'];
  const permission: fc.Arbitrary<Json> = fc.letrec((tie) => ({
    node: fc.oneof(
      { maxDepth: 3 },
      fc.constant(ANY),
      fc.constantFrom(...paths).map((path) => ({ url_path: { path: exact(path) } })),
      fc.constantFrom(...paths).map((path) => ({ url_path: { path: { prefix: path } } })),
      fc.constantFrom('b', '/v1', '', '/').map((suffix) => ({ url_path: { path: { suffix } } })),
      fc.constantFrom(...hosts).map((host) => header(':authority', host, { ignore_case: true })),
      fc.constantFrom('GET', 'POST').map((method) => header(':method', method)),
      fc.constantFrom('1', '2').map((value) => header('x-a', value)),
      fc.constantFrom(8080, 9090).map((port) => ({ destination_port: port })),
      fc.array(tie('node'), { minLength: 1, maxLength: 3 }).map((rules) => ({ and_rules: { rules } })),
      fc.array(tie('node'), { minLength: 1, maxLength: 3 }).map((rules) => ({ or_rules: { rules } })),
      tie('node').map((node) => ({ not_rule: node })),
    ) as fc.Arbitrary<Json>,
  })).node as fc.Arbitrary<Json>;
  const principal: fc.Arbitrary<Json> = fc.oneof(
    fc.constant(ANY),
    fc.constantFrom(...principals).map((name) => ({ authenticated: { principal_name: exact(name) } })),
    fc.constantFrom('10.0.0.1/32', '10.0.0.0/8', '9.0.0.0/8', '0.0.0.0/0').map((range) => {
      const [address_prefix, length] = range.split('/');
      return { direct_remote_ip: { address_prefix, prefix_len: Number(length) } };
    }),
    fc.constantFrom('9.1.1.1/32', '10.0.0.0/16').map((range) => {
      const [address_prefix, length] = range.split('/');
      return { remote_ip: { address_prefix, prefix_len: Number(length) } };
    }),
    fc.constantFrom('a', 'b', '').map((group) =>
      claim({
        or_match: {
          value_matchers: [{ list_match: { one_of: { string_match: exact(group) } } }, { string_match: exact(group) }],
        },
      }),
    ),
    fc.constantFrom('shop', 'ops').map((ns) => ({
      authenticated: { principal_name: { safe_regex: { regex: `.*/ns/${ns}/.*` } } },
    })),
  );
  const policy = fc.record({
    permissions: fc.array(permission, { minLength: 1, maxLength: 2 }),
    principals: fc.array(principal, { minLength: 1, maxLength: 2 }),
  });
  const request = fc.record({
    method: fc.constantFrom('GET', 'POST'),
    path: fc.constantFrom(...paths, '/a?b', '/api/v1/x', ''),
    host: fc.constantFrom(...hosts, 'b.example.:9'),
    principal: fc.constantFrom(...principals, undefined),
    headers: fc.constantFrom<[string, string][]>([], [['x-a', '1']], [['x-a', '2']]),
    tcp: fc.constantFrom(false, false, true),
    peer: fc.constantFrom('10.0.0.1', '9.9.9.9', '::1'),
    remote: fc.constantFrom('9.1.1.1', '10.0.3.4', '2001:db8::1'),
    metadata: fc.constantFrom<SubjectOptions['metadata']>(
      {},
      jwt('a').metadata,
      jwt(['b', 'a', 1]).metadata,
      jwt({}).metadata,
    ),
  });

  it('decides as asking every rule in order does', () => {
    fc.assert(
      fc.property(
        fc.array(policy, { minLength: 9, maxLength: 14 }),
        fc.array(request, { minLength: 5 }),
        (rules, asked) => {
          const named = Object.fromEntries(rules.map((rule, index) => [`p${String(index).padStart(2, '0')}`, rule]));
          const all = engine(named);
          const each = Object.entries(named).map(([name, rule]) => [name, engine({ [name]: rule })] as const);
          for (const options of asked) {
            const one = subject(options);
            const first = each.find(([, single]) => single.decide(one).allowed)?.[0];
            assert.equal(all.decide(one).policy, first);
          }
        },
      ),
      { seed: 6, numRuns: 150 },
    );
  });
});
