/** Which requests an access log writes. Envoy: envoy.config.accesslog.v3.AccessLogFilter. */
import type { FormatInput } from '../http/formatter.ts';
import { parseHeaderMatcher } from '../http/matchers.ts';
import { Fields } from '../resource_fields.ts';

export type AccessLogFilter = (input: FormatInput) => boolean;

/** @throws {ConfigError} for a filter that is not understood: it must not log everything, or nothing. */
export function parseAccessLogFilter(fields: Fields): AccessLogFilter {
  const status = fields.message('status_code_filter');
  if (status !== undefined) return comparison(status, ({ info }) => info.responseCode);
  const duration = fields.message('duration_filter');
  if (duration !== undefined) return comparison(duration, ({ info }) => info.endMs - info.startMs);
  const header = fields.message('header_filter');
  if (header !== undefined) {
    const matcher = parseHeaderMatcher(header.requiredMessage('header'));
    return ({ requestHeaders }) => requestHeaders !== undefined && matcher.matches(requestHeaders);
  }
  const flags = fields.message('response_flag_filter');
  if (flags !== undefined) {
    const wanted = new Set(flags.strings('flags'));
    return ({ info }) => info.flags?.some((flag) => wanted.size === 0 || wanted.has(flag)) ?? false;
  }
  for (const name of ['and_filter', 'or_filter'] as const) {
    const group = fields.message(name);
    if (group === undefined) continue;
    const parts = group.messages('filters').map(parseAccessLogFilter);
    return name === 'and_filter'
      ? (input) => parts.every((part) => part(input))
      : (input) => parts.some((part) => part(input));
  }
  if (fields.has('not_health_check_filter')) {
    return ({ requestHeaders }) => requestHeaders?.get('user-agent')?.startsWith('Envoy/HC') !== true;
  }
  const runtime = fields.message('runtime_filter');
  if (runtime !== undefined) {
    const percent = runtime.message('percent_sampled');
    const divisor = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 }[
      percent?.oneOf('denominator', ['HUNDRED', 'TEN_THOUSAND', 'MILLION'], 'HUNDRED') ?? 'HUNDRED'
    ];
    const share = (percent?.number('numerator', 0) ?? 0) / divisor;
    return () => Math.random() < share;
  }
  return fields.fail(
    'status_code_filter',
    'this filter is not supported: status_code, duration, header, response_flag, runtime, not_health_check, and, or are',
  );
}

function comparison(fields: Fields, read: (input: FormatInput) => number): AccessLogFilter {
  const compare = fields.requiredMessage('comparison');
  const limit = compare.requiredMessage('value').number('default_value', 0) ?? 0;
  switch (compare.oneOf('op', ['EQ', 'GE', 'LE', 'NE'], 'EQ')) {
    case 'EQ':
      return (input) => Math.trunc(read(input)) === limit;
    case 'NE':
      return (input) => Math.trunc(read(input)) !== limit;
    case 'GE':
      return (input) => read(input) >= limit;
    default:
      return (input) => read(input) <= limit;
  }
}

/** undefined: every request. */
export function accessLogFilterOf(json: unknown): AccessLogFilter | undefined {
  return json === undefined ? undefined : parseAccessLogFilter(new Fields(json, 'filter'));
}
