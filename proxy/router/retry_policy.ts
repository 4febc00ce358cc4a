/**
 * When a request is sent again. Envoy: envoy.config.route.v3.RetryPolicy; names from the router filter's documentation
 * (x-envoy-retry-on, x-envoy-retry-grpc-on).
 */
import type { HeaderMatcher } from '../http/matchers.ts';
import type { RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import type { ResetReason } from '../http/codec.ts';
import type { Host } from '../upstream/host.ts';

/** Bits of RetryPolicy.on, by the name that stands in `retry_on`. */
export const RETRY_ON = {
  '5xx': 1 << 0,
  'gateway-error': 1 << 1,
  'connect-failure': 1 << 2,
  'retriable-4xx': 1 << 3,
  'refused-stream': 1 << 4,
  cancelled: 1 << 5,
  'deadline-exceeded': 1 << 6,
  'resource-exhausted': 1 << 7,
  unavailable: 1 << 8,
  internal: 1 << 9,
  'retriable-status-codes': 1 << 10,
  reset: 1 << 11,
  'retriable-headers': 1 << 12,
  'envoy-ratelimited': 1 << 13,
  /** Nothing that HTTP/1.1 and HTTP/2 know; accepted. */
  'http3-post-connect-failure': 1 << 14,
  'reset-before-request': 1 << 15,
} as const;

const GRPC =
  RETRY_ON.cancelled |
  RETRY_ON['deadline-exceeded'] |
  RETRY_ON['resource-exhausted'] |
  RETRY_ON.unavailable |
  RETRY_ON.internal;

/** Conditions that only a request that was sent can meet. */
const AFTER_SENDING =
  RETRY_ON['5xx'] |
  RETRY_ON['gateway-error'] |
  RETRY_ON['retriable-4xx'] |
  RETRY_ON.reset |
  RETRY_ON['retriable-headers'] |
  RETRY_ON['envoy-ratelimited'];

/** Durations in ms. */
export interface RetryPolicy {
  /** RETRY_ON bits. */
  readonly on: number;
  /** Default 1; 0: none. */
  readonly retries: number;
  /** 0: none. */
  readonly perTryTimeoutMs: number;
  /** 0: none. */
  readonly perTryIdleTimeoutMs: number;
  readonly statusCodes: ReadonlySet<number>;
  readonly responseHeaders: readonly HeaderMatcher[];
  /** Not empty: only requests that match one are sent again. */
  readonly requestHeaders: readonly HeaderMatcher[];
  /** Default 25. */
  readonly backOffBaseMs: number;
  /** Default ten times the base. */
  readonly backOffMaxMs: number;
  readonly rateLimited: RateLimitedBackOff | undefined;
  /** undefined: every host will do. */
  readonly hosts: HostPredicate | undefined;
  /** previous_priorities: attempts after which another priority is tried; 0: off. */
  readonly priorityUpdateFrequency: number;
}

/** envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff. */
export interface RateLimitedBackOff {
  /** Default 300,000; what asks for more is not believed. */
  readonly maxMs: number;
  readonly headers: readonly { readonly name: string; readonly format: 'seconds' | 'unix_timestamp' }[];
}

/** Which hosts another attempt avoids. */
export interface HostPredicate {
  readonly previousHosts: boolean;
  /** Hosts that are never chosen (omit_host_metadata, omit_canary_hosts). */
  readonly omits: ((host: Host) => boolean) | undefined;
}

/** Unknown names are passed over, as Envoy does. */
export function retryOnBits(list: string): number {
  let bits = 0;
  for (const part of list.split(',')) {
    const name = part.trim();
    if (Object.hasOwn(RETRY_ON, name)) bits |= RETRY_ON[name as keyof typeof RETRY_ON];
  }
  return bits;
}

/** Whether a request on a connection may have to be sent again: its body is kept only then. */
export function mayRetryAfterSending(policy: RetryPolicy, isGrpc: boolean, isHttp2: boolean): boolean {
  const { on } = policy;
  return (
    (on & AFTER_SENDING) !== 0 ||
    ((on & RETRY_ON['retriable-status-codes']) !== 0 && policy.statusCodes.size > 0) ||
    (isGrpc && (on & GRPC) !== 0) ||
    (isHttp2 && (on & (RETRY_ON['refused-stream'] | RETRY_ON['reset-before-request'])) !== 0)
  );
}

/** Whether a response's head asks for another attempt. */
export function retriesHeaders(policy: RetryPolicy, headers: ResponseHeaders): boolean {
  const { on } = policy;
  const { status } = headers;
  // An answer of another Envoy's rate limit is final, unless the policy says that it is not.
  if (status >= 400 && headers.has('x-envoy-ratelimited')) return (on & RETRY_ON['envoy-ratelimited']) !== 0;
  if (status >= 500 && (on & RETRY_ON['5xx']) !== 0) return true;
  if (status >= 502 && status <= 504 && (on & RETRY_ON['gateway-error']) !== 0) return true;
  if (status === 409 && (on & RETRY_ON['retriable-4xx']) !== 0) return true;
  if ((on & RETRY_ON['retriable-status-codes']) !== 0 && policy.statusCodes.has(status)) return true;
  if ((on & RETRY_ON['retriable-headers']) !== 0) {
    for (const matcher of policy.responseHeaders) if (matcher.matches(headers)) return true;
  }
  return (on & GRPC) !== 0 && retriesGrpcStatus(on, headers.get('grpc-status'));
}

function retriesGrpcStatus(on: number, status: string | undefined): boolean {
  switch (status) {
    case '1':
      return (on & RETRY_ON.cancelled) !== 0;
    case '4':
      return (on & RETRY_ON['deadline-exceeded']) !== 0;
    case '8':
      return (on & RETRY_ON['resource-exhausted']) !== 0;
    case '13':
      return (on & RETRY_ON.internal) !== 0;
    case '14':
      return (on & RETRY_ON.unavailable) !== 0;
    default:
      return false;
  }
}

/** Whether a reset before the response asks for another attempt. `sent`: the request's head was on its way. */
export function retriesReset(policy: RetryPolicy, reason: ResetReason, sent: boolean): boolean {
  const { on } = policy;
  // What our own limits refuse would only be refused again.
  if (reason === 'overflow' || reason === 'overload manager') return false;
  if ((on & (RETRY_ON.reset | RETRY_ON['5xx'] | RETRY_ON['gateway-error'])) !== 0) return true;
  if (!sent && (on & RETRY_ON['reset-before-request']) !== 0) return true;
  if (reason === 'remote refused stream reset' && (on & RETRY_ON['refused-stream']) !== 0) return true;
  return (
    (reason === 'connection failure' || reason === 'connection timeout') && (on & RETRY_ON['connect-failure']) !== 0
  );
}

const NO_CODES: ReadonlySet<number> = new Set();

/** What x-envoy-retry-on and its kind of an internal request start from where the route says nothing. */
const BARE: RetryPolicy = {
  on: 0,
  retries: 1,
  perTryTimeoutMs: 0,
  perTryIdleTimeoutMs: 0,
  statusCodes: NO_CODES,
  responseHeaders: [],
  requestHeaders: [],
  backOffBaseMs: 25,
  backOffMaxMs: 250,
  rateLimited: undefined,
  hosts: undefined,
  priorityUpdateFrequency: 0,
};

const CONSUMED = [
  'x-envoy-retry-on',
  'x-envoy-retry-grpc-on',
  'x-envoy-max-retries',
  'x-envoy-retriable-status-codes',
  'x-envoy-retriable-header-names',
  'x-envoy-hedge-on-per-try-timeout',
];

/** The route's policy with what an internal request adds in its headers, which end here. */
export function withRequestHeaders(route: RetryPolicy | undefined, headers: RequestHeaders): RetryPolicy | undefined {
  const on = headers.get('x-envoy-retry-on');
  const grpcOn = headers.get('x-envoy-retry-grpc-on');
  let policy = route;
  if (on !== undefined || grpcOn !== undefined || route !== undefined) {
    const base = route ?? BARE;
    const most = headers.get('x-envoy-max-retries');
    const codes = headers.get('x-envoy-retriable-status-codes');
    const names = headers.get('x-envoy-retriable-header-names');
    policy = {
      ...base,
      on: base.on | retryOnBits(on ?? '') | retryOnBits(grpcOn ?? ''),
      retries: most !== undefined && /^\d{1,9}$/.test(most) ? Number(most) : base.retries,
      statusCodes:
        codes === undefined
          ? base.statusCodes
          : new Set([...base.statusCodes, ...codes.split(',').map(Number).filter(Number.isInteger)]),
      responseHeaders:
        names === undefined ? base.responseHeaders : [...base.responseHeaders, ...names.split(',').map(presence)],
    };
  }
  for (const name of CONSUMED) headers.remove(name);
  return policy;
}

function presence(text: string): HeaderMatcher {
  const name = text.trim().toLowerCase();
  return { name, exact: undefined, regex: undefined, matches: (headers) => headers.has(name), matchesValue: undefined };
}

/** When the upstream wants to be asked again, in ms from now; undefined: it does not say, or too far away. */
export function rateLimitResetMs(
  { headers: wanted, maxMs }: RateLimitedBackOff,
  headers: ResponseHeaders,
  epochMs: number,
): number | undefined {
  for (const { name, format } of wanted) {
    const value = headers.get(name);
    if (value === undefined || !/^\d{1,15}$/.test(value)) continue;
    const ms = format === 'seconds' ? Number(value) * 1000 : Number(value) * 1000 - epochMs;
    if (ms > 0 && ms <= maxMs) return ms;
  }
  return undefined;
}
