/** CEL: the language, the attributes, what is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FormatInput } from '../../../proxy/http/formatter.ts';
import { RequestHeaders, ResponseHeaders } from '../../../proxy/http/headers.ts';
import { StreamInfo } from '../../../proxy/http/stream_info.ts';
import { plainConnection, socketAddress } from '../../../proxy/net/connection_info.ts';
import { streamAttributes } from '../../../proxy/telemetry/cel/attributes.ts';
import { compileCel } from '../../../proxy/telemetry/cel/evaluator.ts';
import { CEL_ERROR, celText } from '../../../proxy/telemetry/cel/values.ts';
import { tlsInfo } from '../../support/tls_info.ts';

const requestHeaders = new RequestHeaders();
requestHeaders.method = 'GET';
requestHeaders.path = '/shop/hats?size=7#x';
requestHeaders.authority = 'web';
requestHeaders.append('user-agent', 'curl/8');
requestHeaders.append('x-twice', 'a');
requestHeaders.append('x-twice', 'b');
const responseHeaders = new ResponseHeaders();
responseHeaders.status = 503;
const info = new StreamInfo(
  {
    ...plainConnection(1, socketAddress('10.0.0.1', 80), socketAddress('10.0.0.2', 4000), 0),
    requestedServerName: 'web.example',
    tls: tlsInfo({ peerUriSans: ['spiffe://a/ns/b/sa/c'] }),
    filterState: new Map([['mine', 'state']]),
  },
  1000,
  10,
);
info.endMs = 35;
info.responseCode = 503;
info.responseCodeDetails = 'no_healthy_upstream';
info.addFlag('UH');
info.upstreamCluster = 'outbound|80||web';
info.dynamicMetadata = new Map([['com.test', { key: 'value', nested: { deep: 3 } }]]);
const input: FormatInput = { info, requestHeaders, responseHeaders, responseTrailers: undefined };

const value = (text: string): unknown => compileCel(text, streamAttributes())(input);

for (const [text, expected] of [
  ['1 + 2 * 3 - 4 / 2', 5],
  ['7 / 2', 3],
  ['7.0 / 2.0', 3.5],
  ['-3 % 2', -1],
  ['0x10', 16],
  ['1e3', 1000],
  ['(1 + 2) * 3', 9],
  ['!true || false', false],
  ['true && !false', true],
  ['1 < 2 && "a" < "b"', true],
  ['1 == 1 ? "yes" : "no"', 'yes'],
  ['"a" + "b"', 'ab'],
  ["'it''s' == 'x'", undefined],
  ['"\\u0041\\n\\x41" == "A\\nA"', true],
  ['r"\\d" == "\\\\d"', true],
  ['"""a"b""" == "a\\"b"', true],
  ['[1, 2, 3][1]', 2],
  ['2 in [1, 2, 3]', true],
  ['"a" in {"a": 1}', true],
  ['{"a": {"b": 2}}.a.b', 2],
  ['size([1, 2]) + size("héé") + size({"a": 1})', 6],
  ['int("12") + int(3.9) + int(true)', 16],
  ['string(5) + string(true)', '5true'],
  ['double("1.5")', 1.5],
  ['bool("true")', true],
  ['"abc".startsWith("ab") && "abc".endsWith("bc") && "abc".contains("b")', true],
  ['"abc".matches("^a.c$")', true],
  ['matches("abc", "b")', true],
  ['"A,B".split(",")[1].lowerAscii()', 'b'],
  ['"a-b".replace("-", "$&")', 'a$&b'],
  ['duration("1500ms") == duration("1.5s")', true],
  ['timestamp("1970-01-01T00:00:01Z") == request.time', true],
  ['request.method', 'GET'],
  ['request.path', '/shop/hats?size=7#x'],
  ['request.url_path', '/shop/hats'],
  ['request.query', 'size=7'],
  ['request.host', 'web'],
  ['request.useragent', 'curl/8'],
  ['request.headers["X-Twice"]', 'a,b'],
  ['request.headers.x_none', undefined],
  ['has(request.headers.referer)', false],
  ['has(request.headers["user-agent"]) ', undefined],
  ['"user-agent" in request.headers', true],
  ['request.duration', 25],
  ['response.code >= 500', true],
  ['response.code_details', 'no_healthy_upstream'],
  ['response.flags', 2],
  ['response.grpc_status', 14],
  ['source.address', '10.0.0.2:4000'],
  ['destination.port', 80],
  ['connection.mtls', true],
  ['connection.requested_server_name', 'web.example'],
  ['connection.uri_san_peer_certificate', 'spiffe://a/ns/b/sa/c'],
  ['xds.cluster_name', 'outbound|80||web'],
  ['metadata.filter_metadata["com.test"].key', 'value'],
  ['metadata.filter_metadata["com.test"]["nested"]["deep"]', 3],
  ['filter_state["mine"]', 'state'],
  ['filter_state.other', undefined],
  ['upstream.address', undefined],
  ['upstream.address == "x" || true', true],
  ['upstream.address == "x" && false', false],
  ['upstream.address == "x" ? 1 : 2', undefined],
  ['1 / 0', undefined],
  ['1 / 0 == 1 || request.method == "GET"', true],
  ['"a" < 1', undefined],
  ['null == null', true],
] as const) {
  if (text.startsWith("'it''s'") || text.startsWith('has(request.headers["')) {
    test(`${text} is refused`, () => assert.throws(() => value(text)));
    continue;
  }
  test(`${text} is ${String(expected)}`, () => {
    const found = value(text);
    assert.deepEqual(found, expected === undefined ? CEL_ERROR : expected);
  });
}

test('values print as texts; what has none does not', () => {
  assert.equal(celText(value('{"a": [1, true]}')), '{"a":[1,true]}');
  assert.equal(celText(value('upstream.address')), undefined);
  assert.equal(celText(value('null')), undefined);
});

for (const [text, says] of [
  ['', /a value is wanted/],
  ['request.', /a name is wanted/],
  ['nothing.here', /there is no attribute "nothing"/],
  ['foo(1)', /there is no function foo/],
  ['size(1, 2)', /size takes 1 values, got 2/],
  ['"abc', /this string has no end/],
  ['1 +', /a value is wanted/],
  ['a @ b', /"@" is not expected/],
  ['request.path.matches(request.host)', /is a constant text/],
  ['request.path.matches("(")', /not a valid RE2 regex/],
  [`${'('.repeat(100)}1${')'.repeat(100)}`, /less nesting/],
  [`"${'a'.repeat(5000)}"`, /at most 4096/],
  ['has(request)', /has\(\) takes one field/],
  ['__proto__', /there is no attribute/],
  ['constructor(1)', /there is no function/],
] as const) {
  test(`CEL ${text.slice(0, 40)} is refused`, () => assert.throws(() => value(text), says));
}

test('attributes that objects have by nature are not read', () => {
  assert.equal(value('metadata.filter_metadata["com.test"].constructor'), CEL_ERROR);
  assert.equal(value('metadata.filter_metadata.__proto__'), CEL_ERROR);
});
