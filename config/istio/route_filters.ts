/** What a route says to the cors and fault filters. */
import type { Json } from '../resources.ts';
import { any, seconds } from './envoy_json.ts';
import { stringMatcher } from './route_match.ts';
import { fail, within } from './shape.ts';
import type { HttpRoute } from './virtual_service.ts';

/**
 * typed_per_filter_config; undefined: none.
 * @throws {ConfigError}
 */
export function perFilterConfig(route: HttpRoute): Json | undefined {
  const fault = route.fault === undefined ? undefined : faultConfig(route.fault);
  const config: Json = {
    ...(route.corsPolicy !== undefined && { 'envoy.filters.http.cors': corsPolicy(route.corsPolicy) }),
    ...(fault !== undefined && { 'envoy.filters.http.fault': fault }),
  };
  return Object.keys(config).length === 0 ? undefined : config;
}

function corsPolicy(cors: NonNullable<HttpRoute['corsPolicy']>): Json {
  const origins = cors.allowOrigins?.map(stringMatcher) ?? cors.allowOrigin?.map((exact) => ({ exact })) ?? [];
  const joined = (list: readonly string[] | undefined) => (list ?? []).join(',');
  return any('envoy.extensions.filters.http.cors.v3.CorsPolicy', {
    ...(origins.length > 0 && { allow_origin_string_match: origins }),
    ...(joined(cors.allowMethods) !== '' && { allow_methods: joined(cors.allowMethods) }),
    ...(joined(cors.allowHeaders) !== '' && { allow_headers: joined(cors.allowHeaders) }),
    ...(joined(cors.exposeHeaders) !== '' && { expose_headers: joined(cors.exposeHeaders) }),
    ...(cors.maxAge !== undefined && { max_age: String(Math.floor(cors.maxAge / 1000)) }),
    ...(cors.allowCredentials !== undefined && { allow_credentials: cors.allowCredentials }),
    filter_enabled: { default_value: { numerator: 100 } },
    forward_not_matching_preflights: cors.unmatchedPreflights !== 'IGNORE',
  });
}

/** gRPC statuses by name (grpc/grpc: doc/statuscodes.md). */
const GRPC_STATUS: Readonly<Record<string, number>> = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
};

function faultConfig(fault: NonNullable<HttpRoute['fault']>): Json {
  const { delay, abort } = fault;
  return any('envoy.extensions.filters.http.fault.v3.HTTPFault', {
    ...(delay?.fixedDelay !== undefined && {
      delay: {
        fixed_delay: seconds(delay.fixedDelay),
        percentage:
          delay.percentage === undefined ? { numerator: delay.percent ?? 0 } : millionths(delay.percentage.value ?? 0),
      },
    }),
    ...(abort !== undefined && {
      abort: {
        ...(abort.httpStatus === undefined ? { grpc_status: grpcStatus(abort) } : { http_status: abort.httpStatus }),
        ...(abort.percentage !== undefined && { percentage: millionths(abort.percentage.value ?? 0) }),
      },
    }),
  });
}

function grpcStatus(abort: NonNullable<NonNullable<HttpRoute['fault']>['abort']>): number {
  const name = abort.grpcStatus ?? '';
  const status = Object.hasOwn(GRPC_STATUS, name) ? GRPC_STATUS[name] : undefined;
  return (
    status ?? fail(within(abort.at, 'grpcStatus'), `a gRPC status name such as "UNAVAILABLE" is wanted, got "${name}"`)
  );
}

/** Percent to a fraction of a million. */
export function millionths(percent: number): Json {
  return { numerator: Math.floor(percent * 10000), denominator: 'MILLION' };
}
