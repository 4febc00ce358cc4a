/** Which requests an access log writes, filter by filter. */
import assert from 'node:assert/strict';
import { afterEach, test } from 'node:test';
import type { FormatInput } from '../../../proxy/http/formatter.ts';
import { RequestHeaders, ResponseHeaders } from '../../../proxy/http/headers.ts';
import { StreamInfo } from '../../../proxy/http/stream_info.ts';
import { plainConnection, socketAddress } from '../../../proxy/net/connection_info.ts';
import { setRuntimeValues } from '../../../proxy/runtime_values.ts';
import { accessLogFilterOf } from '../../../proxy/telemetry/access_log_filter.ts';

afterEach(() => setRuntimeValues(new Map()));

function input(
  change: (info: StreamInfo, request: RequestHeaders, response: ResponseHeaders) => void = () => {},
): FormatInput {
  const info = new StreamInfo(
    plainConnection(1, socketAddress('10.0.0.1', 80), socketAddress('10.0.0.2', 4000), 0),
    0,
    100,
  );
  info.endMs = 150;
  info.responseCode = 404;
  const requestHeaders = new RequestHeaders();
  const responseHeaders = new ResponseHeaders();
  change(info, requestHeaders, responseHeaders);
  return { info, requestHeaders, responseHeaders, responseTrailers: undefined };
}

const status = (op: string, value: number, more = {}): object => ({
  status_code_filter: { comparison: { op, value: { default_value: value, runtime_key: 'log.status', ...more } } },
});
const cel = (expression: string): object => ({
  extension_filter: {
    name: 'cel',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter',
      expression,
    },
  },
});

for (const [filter, from, logged] of [
  [status('EQ', 404), input(), true],
  [status('NE', 404), input(), false],
  [status('GE', 400), input(), true],
  [status('LE', 400), input(), false],
  [{ duration_filter: { comparison: { op: 'GE', value: { default_value: 50, runtime_key: 'x' } } } }, input(), true],
  [
    { header_filter: { header: { name: 'x-log', present_match: true } } },
    input((_i, request) => request.set('x-log', '1')),
    true,
  ],
  [{ header_filter: { header: { name: 'x-log', present_match: true } } }, input(), false],
  [{ response_flag_filter: { flags: ['NR'] } }, input((info) => info.addFlag('NR')), true],
  [{ response_flag_filter: { flags: ['NR'] } }, input((info) => info.addFlag('UF')), false],
  [{ response_flag_filter: {} }, input((info) => info.addFlag('UF')), true],
  [{ response_flag_filter: {} }, input(), false],
  [{ not_health_check_filter: {} }, input((_i, request) => request.set('user-agent', 'Envoy/HC')), false],
  [
    { traceable_filter: {} },
    input((info) => {
      info.requestId = '00000000-0000-9000-8000-000000000000';
    }),
    true,
  ],
  [
    { traceable_filter: {} },
    input((info) => {
      info.requestId = '00000000-0000-4000-8000-000000000000';
    }),
    false,
  ],
  [
    { grpc_status_filter: { statuses: ['UNAVAILABLE'] } },
    input((_i, _r, response) => response.set('grpc-status', '14')),
    true,
  ],
  [
    { grpc_status_filter: { statuses: ['UNAVAILABLE'], exclude: true } },
    input((_i, _r, response) => response.set('grpc-status', '14')),
    false,
  ],
  [{ grpc_status_filter: { statuses: ['UNIMPLEMENTED'] } }, input(), true],
  [{ and_filter: { filters: [status('GE', 400), { response_flag_filter: {} }] } }, input(), false],
  [{ or_filter: { filters: [status('GE', 400), { response_flag_filter: {} }] } }, input(), true],
  [{ runtime_filter: { runtime_key: 'x', percent_sampled: { numerator: 100 } } }, input(), true],
  [{ runtime_filter: { runtime_key: 'x', percent_sampled: { numerator: 0 } } }, input(), false],
  [
    { runtime_filter: { runtime_key: 'x', percent_sampled: { numerator: 50 } } },
    input((info) => {
      info.requestId = '10000000-x';
    }),
    true,
  ],
  [
    { runtime_filter: { runtime_key: 'x', percent_sampled: { numerator: 50 } } },
    input((info) => {
      info.requestId = 'f0000000-x';
    }),
    false,
  ],
  [{ log_type_filter: { types: ['DownstreamEnd'] } }, input(), true],
  [{ log_type_filter: { types: ['TcpConnectionEnd'] } }, input(), false],
  [cel('response.code >= 400 && request.duration > 10'), input(), true],
  [cel('response.code == 200'), input(), false],
  [cel('upstream.address == "x"'), input(), false],
  [
    { metadata_filter: { matcher: { filter: 'a', path: [{ key: 'b' }], value: { string_match: { exact: 'c' } } } } },
    input((info) => {
      info.dynamicMetadata = new Map([['a', { b: 'c' }]]);
    }),
    true,
  ],
  [
    {
      metadata_filter: {
        matcher: { filter: 'a', path: [{ key: 'b' }], value: { bool_match: true } },
        match_if_key_not_found: false,
      },
    },
    input(),
    false,
  ],
] as const) {
  test(`${JSON.stringify(filter).slice(0, 110)} ${logged ? 'logs' : 'leaves out'}`, () => {
    assert.equal(accessLogFilterOf(filter)?.(from), logged);
  });
}

test('runtime values override comparisons and shares, at once', () => {
  const byStatus = accessLogFilterOf(status('GE', 500));
  const sampled = accessLogFilterOf({
    runtime_filter: { runtime_key: 'log.share', percent_sampled: { numerator: 0 } },
  });
  assert.equal(byStatus?.(input()), false);
  setRuntimeValues(
    new Map([
      ['log.status', '400'],
      ['log.share', '100'],
    ]),
  );
  assert.equal(byStatus?.(input()), true);
  assert.equal(sampled?.(input()), true);
  setRuntimeValues(new Map([['log.share', '{"numerator":1000000,"denominator":"MILLION"}']]));
  assert.equal(sampled?.(input()), true);
});

for (const [filter, says] of [
  [{}, /this filter is not supported/],
  [{ response_flag_filter: { flags: ['XX'] } }, /"XX" is no response flag/],
  [{ and_filter: { filters: [status('EQ', 1)] } }, /at least two filters/],
  [{ grpc_status_filter: { statuses: ['NO'] } }, /are known/],
  [{ extension_filter: { typed_config: { '@type': 'x.y.Z' } } }, /access-log filter x.y.Z is not supported/],
  [cel('request.'), /expression: .*a name is wanted/],
  [{ metadata_filter: { matcher: { filter: 'a', value: { list_match: {} } } } }, /are supported/],
] as const) {
  test(`${JSON.stringify(filter).slice(0, 80)} is refused`, () => assert.throws(() => accessLogFilterOf(filter), says));
}
