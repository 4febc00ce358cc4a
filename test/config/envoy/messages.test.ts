/** Protobuf JSON, good and bad, as Envoy 1.40 judges it. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { descriptors } from '../../../config/envoy/descriptors.ts';
import { planOf } from '../../../config/envoy/message_plan.ts';
import { MessageError, readMessage } from '../../../config/envoy/messages.ts';
import { compileRules } from '../../../config/envoy/rules.ts';

const CLUSTER = 'envoy.config.cluster.v3.Cluster';
const ROUTES = 'envoy.config.route.v3.RouteConfiguration';
const LISTENER = 'envoy.config.listener.v3.Listener';
const MATCHER = 'envoy.type.matcher.v3.StringMatcher';
const FAULT = 'envoy.extensions.filters.http.fault.v3.HTTPFault';
const RETRY = 'envoy.config.route.v3.RetryPolicy';
const TYPE = 'type.googleapis.com';

/** Maps come without a prototype. */
function read(typeName: string, json: unknown, unknownFields: 'refuse' | 'collect' = 'refuse') {
  const result = readMessage(typeName, json, { unknownFields });
  return { json: JSON.parse(JSON.stringify(result.json)) as unknown, unknown: result.unknown };
}

function complaint(typeName: string, json: unknown): MessageError {
  try {
    readMessage(typeName, json, { unknownFields: 'refuse' });
  } catch (error) {
    assert.ok(error instanceof MessageError, String(error));
    return error;
  }
  assert.fail(`${typeName} ${JSON.stringify(json)} was accepted`);
}

const GOOD: readonly (readonly [what: string, typeName: string, json: unknown, canonical: unknown])[] = [
  ['camelCase fields', CLUSTER, { name: 'a', connectTimeout: '1s' }, { name: 'a', connect_timeout: '1s' }],
  ['an enum by number', CLUSTER, { name: 'a', type: 3 }, { name: 'a', type: 'EDS' }],
  ['an enum by number as text', CLUSTER, { name: 'a', type: '3' }, { name: 'a', type: 'EDS' }],
  ['an enum in lower case', CLUSTER, { name: 'a', type: 'strict_dns' }, { name: 'a', type: 'STRICT_DNS' }],
  ['an enum default', CLUSTER, { name: 'a', lb_policy: 'ROUND_ROBIN' }, { name: 'a' }],
  ['an enum default in a oneof', CLUSTER, { name: 'a', type: 'STATIC' }, { name: 'a', type: 'STATIC' }],
  ['null', CLUSTER, { name: 'a', connect_timeout: null }, { name: 'a' }],
  [
    'empty lists and maps',
    CLUSTER,
    { name: 'a', health_checks: [], typed_extension_protocol_options: {} },
    { name: 'a' },
  ],
  ['an empty message', CLUSTER, { name: 'a', http2_protocol_options: {} }, { name: 'a', http2_protocol_options: {} }],
  ['false without presence', CLUSTER, { name: 'a', respect_dns_ttl: false }, { name: 'a' }],
  ['true as text', CLUSTER, { name: 'a', respect_dns_ttl: 'yes' }, { name: 'a', respect_dns_ttl: true }],
  [
    'a wrapper',
    CLUSTER,
    { name: 'a', per_connection_buffer_limit_bytes: '1024' },
    { name: 'a', per_connection_buffer_limit_bytes: 1024 },
  ],
  [
    'a wrapper as a message',
    CLUSTER,
    { name: 'a', per_connection_buffer_limit_bytes: { value: 0 } },
    { name: 'a', per_connection_buffer_limit_bytes: 0 },
  ],
  [
    'a duration with few digits',
    CLUSTER,
    { name: 'a', connect_timeout: '1.5s' },
    { name: 'a', connect_timeout: '1.500s' },
  ],
  [
    'a duration as a message',
    CLUSTER,
    { name: 'a', connect_timeout: { seconds: 1, nanos: 250000 } },
    { name: 'a', connect_timeout: '1.000250s' },
  ],
  [
    'a negative zero duration',
    'envoy.config.route.v3.RouteAction',
    { cluster: 'a', timeout: '-0s' },
    { cluster: 'a', timeout: '0s' },
  ],
  [
    'base64 in the alphabet of URLs',
    'envoy.config.core.v3.DataSource',
    { inline_bytes: '_-8' },
    { inline_bytes: '/+8=' },
  ],
  [
    '64-bit numbers either way',
    CLUSTER,
    { name: 'a', ring_hash_lb_config: { minimum_ring_size: 1024, maximum_ring_size: '2048' } },
    { name: 'a', ring_hash_lb_config: { minimum_ring_size: '1024', maximum_ring_size: '2048' } },
  ],
  [
    'a single item for a list',
    ROUTES,
    { virtual_hosts: { name: 'a', domains: '*' } },
    { virtual_hosts: [{ name: 'a', domains: ['*'] }] },
  ],
  [
    'a known type in an Any',
    'envoy.config.core.v3.TypedExtensionConfig',
    {
      name: 'a',
      typedConfig: {
        '@type': `${TYPE}/${FAULT}`,
        abort: { httpStatus: 503, percentage: { numerator: 50, denominator: 0 } },
      },
    },
    {
      name: 'a',
      typed_config: { '@type': `${TYPE}/${FAULT}`, abort: { http_status: 503, percentage: { numerator: 50 } } },
    },
  ],
  [
    'an unknown type in an Any',
    'envoy.config.core.v3.TypedExtensionConfig',
    { name: 'a', typed_config: { '@type': `${TYPE}/not.There`, someField: 0 } },
    { name: 'a', typed_config: { '@type': `${TYPE}/not.There`, someField: 0 } },
  ],
  [
    'a TypedStruct',
    'envoy.config.core.v3.TypedExtensionConfig',
    {
      name: 'a',
      typed_config: { '@type': `${TYPE}/udpa.type.v1.TypedStruct`, typeUrl: 'x/y', value: { aB: 0, c: null } },
    },
    {
      name: 'a',
      typed_config: { '@type': `${TYPE}/udpa.type.v1.TypedStruct`, type_url: 'x/y', value: { aB: 0, c: null } },
    },
  ],
  [
    'a well-known type in an Any',
    'envoy.config.core.v3.TypedExtensionConfig',
    { name: 'a', typed_config: { '@type': `${TYPE}/google.protobuf.Duration`, value: '0.1s' } },
    { name: 'a', typed_config: { '@type': `${TYPE}/google.protobuf.Duration`, value: '0.100s' } },
  ],
  [
    'a Struct whose keys look like fields',
    'envoy.config.core.v3.Metadata',
    { filterMetadata: { 'a.b': { someKey: [1, null, { lbPolicy: '' }] } } },
    { filter_metadata: { 'a.b': { someKey: [1, null, { lbPolicy: '' }] } } },
  ],
  ['a required oneof set to its default', MATCHER, { exact: '' }, { exact: '' }],
  [
    'an Istio message',
    'stats.PluginConfig',
    { metrics: [{ dimensions: { a: '' }, drop: true }], reporter: 1 },
    { metrics: [{ dimensions: { a: '' }, drop: true }], reporter: 'SERVER_GATEWAY' },
  ],
];

describe('readMessage', () => {
  for (const [what, typeName, json, canonical] of GOOD) {
    test(`readMessage gives the canonical form when it reads ${what}`, () => {
      assert.deepEqual(read(typeName, json).json, canonical);
      // What is canonical stays so.
      assert.deepEqual(read(typeName, canonical).json, canonical);
    });
  }
});

const BAD: readonly (readonly [typeName: string, json: unknown, message: string])[] = [
  [
    CLUSTER,
    { name: 'a', connect_timout: '1s' },
    `connect_timout: is not a field of ${CLUSTER}; did you mean connect_timeout?`,
  ],
  [CLUSTER, { name: 'a', zzzzzzzz: 1 }, `zzzzzzzz: is not a field of ${CLUSTER}`],
  [CLUSTER, { name: 'a', '@type': 'x/y' }, `@type: is not a field of ${CLUSTER}`],
  [CLUSTER, [], 'an object is wanted, got []'],
  [CLUSTER, { name: 5 }, 'name: a string is wanted, got 5'],
  [CLUSTER, { name: 'a', connect_timeout: 1 }, 'connect_timeout: a duration such as "1.5s" is wanted, got 1'],
  [CLUSTER, { name: 'a', connect_timeout: '1ms' }, 'connect_timeout: a duration such as "1.5s" is wanted, got "1ms"'],
  [CLUSTER, { name: 'a', connect_timeout: { secs: 1 } }, 'connect_timeout: a plain value is wanted, got {"secs":1}'],
  [CLUSTER, { name: 'a', connect_timeout: '0s' }, 'connect_timeout: must be > 0s, got 0s'],
  [CLUSTER, { name: 'a', connect_timeout: '-0.5s' }, 'connect_timeout: must be > 0s, got -0.500s'],
  [
    CLUSTER,
    { name: 'a', type: 'STRICT_DSN' },
    'type: "STRICT_DSN" is not a value of DiscoveryType; did you mean STRICT_DNS?',
  ],
  [CLUSTER, { name: 'a', type: 9 }, 'type: one of STATIC, STRICT_DNS, LOGICAL_DNS, EDS, ORIGINAL_DST is wanted, got 9'],
  [
    CLUSTER,
    { name: 'a', per_connection_buffer_limit_bytes: 1.5 },
    'per_connection_buffer_limit_bytes: a whole number is wanted, got 1.5',
  ],
  [
    CLUSTER,
    { name: 'a', per_connection_buffer_limit_bytes: 2 ** 32 },
    'per_connection_buffer_limit_bytes: must be 0 to 4294967295, got 4294967296',
  ],
  [CLUSTER, { name: 'a', respect_dns_ttl: 1 }, 'respect_dns_ttl: true or false is wanted, got 1'],
  [CLUSTER, {}, 'name: is required and must not be empty'],
  [
    CLUSTER,
    { name: 'a', type: 'EDS', cluster_type: { name: 'x' } },
    'cluster_type: cannot stand beside type: only one of them may be set',
  ],
  [
    CLUSTER,
    { name: 'a', connect_timeout: '1s', connectTimeout: '2s' },
    'connect_timeout: is given twice, as connect_timeout and as connectTimeout',
  ],
  [
    CLUSTER,
    { name: 'a', ring_hash_lb_config: { maximum_ring_size: '8388609' } },
    'ring_hash_lb_config.maximum_ring_size: must be <= 8388608, got 8388609',
  ],
  [
    CLUSTER,
    { name: 'a', load_assignment: { endpoints: [] } },
    'load_assignment.cluster_name: is required and must not be empty',
  ],
  [
    CLUSTER,
    {
      name: 'a',
      loadAssignment: {
        clusterName: 'a',
        endpoints: [{ lbEndpoints: [{ endpoint: { address: { socketAddress: { address: '1.2.3.4' } } } }] }],
      },
    },
    'load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.socket_address: one of port_value, named_port is required',
  ],
  [
    CLUSTER,
    { name: 'a', health_checks: [{ timeout: '1s', interval: '1s' }] },
    'health_checks[0].unhealthy_threshold: is required',
  ],
  [CLUSTER, { name: 'a', health_checks: [null] }, 'health_checks[0]: an object is wanted, got null'],
  [
    CLUSTER,
    { name: 'a', transport_socket: { name: 'a', typed_config: { x: 1 } } },
    'transport_socket.typed_config: "@type" is required: it says what the other fields mean',
  ],
  [
    CLUSTER,
    { name: 'a', transport_socket: { name: 'a', typed_config: { '@type': 'x' } } },
    'transport_socket.typed_config.@type: a type such as "type.googleapis.com/package.Message" is wanted, got "x"',
  ],
  [
    CLUSTER,
    { name: 'a', typed_extension_protocol_options: { b: { '@type': `${TYPE}/${FAULT}`, delai: {} } } },
    `typed_extension_protocol_options[b].delai: is not a field of ${FAULT}; did you mean delay?`,
  ],
  [
    'envoy.config.core.v3.TypedExtensionConfig',
    { name: 'a', typed_config: { '@type': `${TYPE}/google.protobuf.Duration`, value: '1s', seconds: 1 } },
    'typed_config.seconds: is not a field here: google.protobuf.Duration has its content in "value"',
  ],
  [ROUTES, { virtual_hosts: [{ name: 'a' }] }, 'virtual_hosts[0].domains: is required and must not be empty'],
  [
    ROUTES,
    { virtual_hosts: [{ name: 'a', domains: ['b\n'] }] },
    'virtual_hosts[0].domains[0]: must be a valid HTTP header value, got "b\\n"',
  ],
  [
    ROUTES,
    { virtual_hosts: [{ name: 'a', domains: ['*'], routes: [{ match: { prefix: '/' } }] }] },
    'virtual_hosts[0].routes[0]: one of route, redirect, direct_response, filter_action, non_forwarding_action is required',
  ],
  [
    ROUTES,
    { virtual_hosts: [{ name: 'a', domains: ['*'], routes: [{ match: {}, direct_response: { status: 200 } }] }] },
    'virtual_hosts[0].routes[0].match: one of prefix, path, safe_regex, connect_matcher, path_separated_prefix, path_match_policy is required',
  ],
  [
    ROUTES,
    {
      virtual_hosts: [
        { name: 'a', domains: ['*'], routes: [{ match: { prefix: '/' }, direct_response: { status: 99 } }] },
      ],
    },
    'virtual_hosts[0].routes[0].direct_response.status: must be >= 200 and < 600, got 99',
  ],
  [
    LISTENER,
    { address: { socket_address: { address: '', port_value: 1 } } },
    'address.socket_address.address: is required and must not be empty',
  ],
  [
    LISTENER,
    { address: { socket_address: { address: 'a', port_value: 65536 } } },
    'address.socket_address.port_value: must be <= 65535, got 65536',
  ],
  [MATCHER, {}, 'one of exact, prefix, suffix, safe_regex, contains, custom is required'],
  [MATCHER, { prefix: '' }, 'prefix: is required and must not be empty'],
  [MATCHER, { safe_regex: {} }, 'safe_regex.regex: is required and must not be empty'],
  [RETRY, { retry_back_off: {} }, 'retry_back_off.base_interval: is required'],
  ['envoy.config.core.v3.DataSource', { inline_bytes: '*' }, 'inline_bytes: base64 is wanted, got "*"'],
  ['envoy.type.v3.DoubleRange', { start: 'much' }, 'start: a number is wanted, got "much"'],
  [
    'envoy.config.core.v3.Metadata',
    { filter_metadata: { a: 'b' } },
    'filter_metadata[a]: an object is wanted, got "b"',
  ],
];

describe('readMessage refuses', () => {
  for (const [typeName, json, message] of BAD) {
    test(`readMessage says "${message}" when it reads ${JSON.stringify(json).slice(0, 60)}`, () => {
      assert.equal(complaint(typeName, json).message, message);
    });
  }

  test('readMessage tells the keys as they were spelt when a complaint is about something deep', () => {
    const { keys, path } = complaint(CLUSTER, {
      name: 'a',
      typedExtensionProtocolOptions: { 'x.y': { '@type': `${TYPE}/${FAULT}`, maxActiveFaults: -1 } },
    });
    assert.equal(path, 'typed_extension_protocol_options[x.y].max_active_faults');
    assert.deepEqual(keys, ['typedExtensionProtocolOptions', 'x.y', 'maxActiveFaults']);
  });
});

describe('readMessage with unknown fields collected', () => {
  test('readMessage leaves unknown fields out and names them when they are collected', () => {
    const { json, unknown } = read(
      CLUSTER,
      {
        name: 'a',
        newer: { a: 1 },
        health_checks: [],
        upstream_bind_config: { older: true },
        metadata: { filter_metadata: { a: { x: 1 } } },
      },
      'collect',
    );
    assert.deepEqual(json, { name: 'a', upstream_bind_config: {}, metadata: { filter_metadata: { a: { x: 1 } } } });
    assert.deepEqual(unknown, ['newer', 'upstream_bind_config.older']);
  });

  test('readMessage refuses a oneof when all it holds is an unknown matcher', () => {
    assert.throws(() => read(MATCHER, { newest_matcher: 'a' }, 'collect'), /one of exact, .* is required/);
  });

  test('readMessage refuses an unknown enum value when unknown fields are collected', () => {
    assert.throws(() => read(CLUSTER, { name: 'a', type: 'NEWEST' }, 'collect'), /type: one of STATIC/);
  });
});

test('readMessage keeps a key named __proto__ as data when a Struct or map holds it', () => {
  const json = JSON.parse('{"filter_metadata": {"__proto__": {"__proto__": {"x": 1}}}}') as unknown;
  const { json: out } = readMessage('envoy.config.core.v3.Metadata', json, { unknownFields: 'refuse' });
  assert.equal(JSON.stringify(out), JSON.stringify(json));
  assert.equal(({} as { x?: unknown }).x, undefined);
});

test('planOf understands the annotations of every message when all descriptors are planned', () => {
  let rules = 0;
  for (const type of descriptors()) {
    if (type.kind === 'message') rules += planOf(type).checked.length;
  }
  assert.ok(rules > 500, `only ${rules} fields have rules`);
});

const RULES: readonly (readonly [rules: Record<string, unknown>, good: readonly unknown[], bad: readonly unknown[]])[] =
  [
    [{ uint32: { gte: 1, lte: 3 } }, [1, 3], [0, 4]],
    [{ uint32: { gt: 1, lt: 3 } }, [2], [1, 3]],
    [{ uint32: { gt: 3, lt: 1 } }, [0, 4], [1, 2, 3]],
    [{ uint64: { gt: '9007199254740993' } }, ['9007199254740994'], ['9007199254740993']],
    [{ double: { gte: 0, lte: 1 } }, [0.5, 'NaN'], [-0.1, 'Infinity']],
    [{ duration: { gte: '0.001s', lt: '2s' } }, ['0.001s', '1.999999999s'], ['0.000999s', '2s', '-1s']],
    [{ string: { min_len: '2', max_len: '3' } }, ['ab', 'äöü'], ['a', 'abcd']],
    [{ string: { max_bytes: '3' } }, ['abc'], ['äö']],
    [{ string: { in: ['', 'a'] } }, ['', 'a'], ['b']],
    [{ string: { pattern: '^[a-z]+$', ignore_empty: true } }, ['', 'abc'], ['A', 'a\n']],
    [{ string: { prefix: 'a', suffix: 'z' } }, ['az'], ['a', 'z']],
    [{ string: { well_known_regex: 'HTTP_HEADER_NAME', strict: false } }, ['', 'a b'], ['a\n']],
    [{ string: { well_known_regex: 'HTTP_HEADER_NAME' } }, [':path', 'x-a'], ['', 'a b']],
    [{ string: { well_known_regex: 'HTTP_HEADER_VALUE' } }, ['', 'a\tb'], ['a\u0000', 'a\u007f']],
    [{ bytes: { min_len: '1', max_len: '2' } }, ['AA==', 'AAA='], ['', 'AAAA']],
    [{ bool: { const: true } }, [true], [false]],
    [{ enum: { not_in: [0] } }, ['ONE'], ['ZERO']],
    [
      { repeated: { min_items: '1', max_items: '2', unique: true } },
      [['a'], ['a', 'b']],
      [[], ['a', 'a'], ['a', 'b', 'c']],
    ],
    [{ map: { min_pairs: '1' } }, [{ a: 1 }], [{}]],
  ];

for (const [rules, good, bad] of RULES) {
  test(`compileRules tells good from bad when the rules are ${JSON.stringify(rules)}`, () => {
    const { check } = compileRules(rules, (number) => ['ZERO', 'ONE'][number]);
    for (const value of good) assert.equal(check?.(value), undefined);
    for (const value of bad) assert.match(check?.(value) ?? '', /./, `${JSON.stringify(value)} was accepted`);
  });
}
