/** Which requests an access log writes. Envoy: envoy.config.accesslog.v3.AccessLogFilter. */
import { grpcStatusOf } from '../http/format_grpc.ts';
import type { FormatInput } from '../http/formatter.ts';
import { parseHeaderMatcher } from '../http/matchers.ts';
import { Fields } from '../resource_fields.ts';
import { LONG_FLAGS } from '../response_flags.ts';
import { runtimeNumber, runtimeShare } from '../runtime_values.ts';
import { ConfigError } from '../config_error.ts';
import { streamAttributes } from './cel/attributes.ts';
import { compileCel, isTrue } from './cel/evaluator.ts';

export type AccessLogFilter = (input: FormatInput) => boolean;

type Parse = (fields: Fields) => AccessLogFilter;

const EXPRESSION = 'type.googleapis.com/envoy.extensions.access_loggers.filters.cel.v3.ExpressionFilter';
const GRPC_NAMES = (
  'OK CANCELED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED ' +
  'RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED'
).split(' ');
/** envoy.data.accesslog.v3.AccessLogType, and what %ACCESS_LOG_TYPE% prints. */
const LOG_TYPES = [
  'DownstreamEnd',
  'DownstreamStart',
  'TcpConnectionEnd',
  'TcpUpstreamConnected',
  'TcpPeriodic',
] as const;

const FILTERS: Readonly<Record<string, Parse>> = {
  status_code_filter: (fields) => comparison(fields, ({ info }) => info.responseCode),
  duration_filter: (fields) => comparison(fields, ({ info }) => info.endMs - info.startMs),
  not_health_check_filter: () => (input) => !isHealthCheck(input),
  traceable_filter: () => (input) => !isHealthCheck(input) && isTraced(input),
  runtime_filter: runtimeFilter,
  and_filter(fields) {
    const parts = several(fields);
    return (input) => parts.every((part) => part(input));
  },
  or_filter(fields) {
    const parts = several(fields);
    return (input) => parts.some((part) => part(input));
  },
  header_filter(fields) {
    const matcher = parseHeaderMatcher(fields.requiredMessage('header'));
    return ({ requestHeaders }) => requestHeaders !== undefined && matcher.matches(requestHeaders);
  },
  response_flag_filter(fields) {
    const wanted = new Set(fields.strings('flags'));
    for (const flag of wanted) {
      if (!Object.hasOwn(LONG_FLAGS, flag)) fields.fail('flags', `"${flag}" is no response flag`);
    }
    return ({ info }) => info.flags?.some((flag) => wanted.size === 0 || wanted.has(flag)) ?? false;
  },
  grpc_status_filter(fields) {
    const wanted = new Set(fields.strings('statuses').map((name) => GRPC_NAMES.indexOf(name)));
    if (wanted.has(-1)) fields.fail('statuses', `${GRPC_NAMES.join(', ')} are known`);
    const exclude = fields.boolean('exclude') ?? false;
    // Envoy takes the status of any request, from HTTP's where there is none of gRPC.
    return (input) => wanted.has(grpcStatusOf(input, true) ?? 2) !== exclude;
  },
  metadata_filter: metadataFilter,
  log_type_filter(fields) {
    const types = new Set(
      fields
        .strings('types')
        .map((name) => LOG_TYPES.find((type) => type.toLowerCase() === name.toLowerCase()) ?? name),
    );
    const exclude = fields.boolean('exclude') ?? false;
    return ({ info }) => types.has(info.accessLogType) !== exclude;
  },
  extension_filter: extensionFilter,
};

/** @throws {ConfigError} for a filter that is not understood: it must not log everything, or nothing. */
export function parseAccessLogFilter(fields: Fields): AccessLogFilter {
  for (const [name, parse] of Object.entries(FILTERS)) {
    if (!fields.has(name)) continue;
    return parse(fields.message(name) ?? new Fields({}, fields.at(name)));
  }
  return fields.fail('status_code_filter', `this filter is not supported: ${Object.keys(FILTERS).join(', ')} are`);
}

function several(fields: Fields): AccessLogFilter[] {
  const parts = fields.messages('filters').map(parseAccessLogFilter);
  if (parts.length < 2) fields.fail('filters', 'at least two filters are wanted');
  return parts;
}

function comparison(fields: Fields, read: (input: FormatInput) => number): AccessLogFilter {
  const compare = fields.requiredMessage('comparison');
  const value = compare.requiredMessage('value');
  const fallback = value.number('default_value', 0) ?? 0;
  const key = value.string('runtime_key') ?? '';
  const limit = (): number => runtimeNumber(key) ?? fallback;
  switch (compare.oneOf('op', ['EQ', 'GE', 'LE', 'NE'], 'EQ')) {
    case 'EQ':
      return (input) => Math.trunc(read(input)) === limit();
    case 'NE':
      return (input) => Math.trunc(read(input)) !== limit();
    case 'GE':
      return (input) => read(input) >= limit();
    default:
      return (input) => read(input) <= limit();
  }
}

/** The same request id gives the same verdict on every proxy that it passes, unless independent randomness is wanted. */
function runtimeFilter(fields: Fields): AccessLogFilter {
  const percent = fields.message('percent_sampled');
  const divisor = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 }[
    percent?.oneOf('denominator', ['HUNDRED', 'TEN_THOUSAND', 'MILLION'], 'HUNDRED') ?? 'HUNDRED'
  ];
  const configured = (percent?.number('numerator', 0) ?? 0) / divisor;
  const key = fields.requiredString('runtime_key');
  const independent = fields.boolean('use_independent_randomness') ?? false;
  return ({ info }) => {
    const share = runtimeShare(key, divisor) ?? configured;
    const random = independent ? undefined : randomOf(info.requestId);
    return (random ?? Math.random()) < share;
  };
}

/** A number in [0, 1) made of a UUID's first eight digits. */
function randomOf(requestId: string | undefined): number | undefined {
  const digits = requestId?.slice(0, 8);
  return digits !== undefined && /^[0-9a-f]{8}$/i.test(digits) ? Number.parseInt(digits, 16) / 2 ** 32 : undefined;
}

function isHealthCheck({ requestHeaders }: FormatInput): boolean {
  return requestHeaders?.get('user-agent')?.startsWith('Envoy/HC') === true;
}

/** The 15th character of the request id says why a request is traced; `4`: it is not. Istio: istio.md §3.4. */
function isTraced({ info }: FormatInput): boolean {
  const mark = info.requestId?.[14];
  return mark === '9' || mark === 'a' || mark === 'b';
}

/** Dynamic metadata; where the path leads nowhere, `match_if_key_not_found` decides, by default yes. */
function metadataFilter(fields: Fields): AccessLogFilter {
  const matcher = fields.requiredMessage('matcher');
  const namespace = matcher.requiredString('filter');
  const path = matcher.messages('path').map((segment) => segment.requiredString('key'));
  const value = matcher.requiredMessage('value');
  const absent = fields.boolean('match_if_key_not_found') ?? true;
  const invert = matcher.boolean('invert') ?? false;
  const matches = valueMatcher(value);
  return ({ info }) => {
    let found: unknown = info.dynamicMetadata?.get(namespace);
    for (const key of path) {
      found =
        found !== null && typeof found === 'object' && Object.hasOwn(found, key)
          ? (found as Record<string, unknown>)[key]
          : undefined;
    }
    return found === undefined ? absent : matches(found) !== invert;
  };
}

function valueMatcher(fields: Fields): (value: unknown) => boolean {
  const exact = fields.message('string_match')?.string('exact');
  if (exact !== undefined) return (value) => value === exact;
  const wanted = fields.boolean('bool_match');
  if (wanted !== undefined) return (value) => value === wanted;
  const number = fields.message('double_match')?.number('exact');
  if (number !== undefined) return (value) => value === number;
  if (fields.has('null_match')) return (value) => value === null;
  if (fields.has('present_match')) return () => true;
  return fields.fail(
    'string_match',
    'string_match.exact, bool_match, double_match.exact, null_match and present_match are supported',
  );
}

function extensionFilter(fields: Fields): AccessLogFilter {
  const config = fields.requiredMessage('typed_config');
  const type = config.requiredString('@type');
  if (type !== EXPRESSION) return config.fail('@type', `access-log filter ${type} is not supported: ${EXPRESSION} is`);
  const text = config.requiredString('expression');
  try {
    const evaluate = compileCel(text, streamAttributes());
    return (input) => isTrue(evaluate(input));
  } catch (error) {
    if (error instanceof ConfigError) throw new ConfigError(config.at('expression'), error.message, { cause: error });
    throw error;
  }
}

/** undefined: every request. */
export function accessLogFilterOf(json: unknown): AccessLogFilter | undefined {
  return json === undefined ? undefined : parseAccessLogFilter(new Fields(json, 'filter'));
}
