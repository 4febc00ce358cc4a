/** Retries and timeouts as tables: what is asked, of which route, of an upstream that does what. Envoy is asked the same. */
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, staticCluster } from '../support/envoy_resources.ts';

export interface RetryCase {
  readonly says: string;
  /** Of the route `/<name>/`; the upstream's deeds come behind it. */
  readonly route: string;
  readonly deeds: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

const quick = { retry_back_off: { base_interval: '0.001s', max_interval: '0.001s' } };
const on = (retryOn: string, more: Json = {}): Json => ({
  retry_policy: { retry_on: retryOn, num_retries: 2, ...quick, ...more },
});

const HEDGED: Json = { hedge_policy: { hedge_on_per_try_timeout: true, initial_requests: 3 } };

/** Route actions by name, beside `cluster: up`. */
const ROUTES: Readonly<Record<string, Json>> = {
  none: {},
  '5xx': on('5xx'),
  gateway: on('gateway-error'),
  connect: { cluster: 'dead', ...on('connect-failure') },
  'connect-none': { cluster: 'dead' },
  refused: on('connect-failure,refused-stream'),
  'reset-before': on('reset-before-request'),
  'reset-before-dead': { cluster: 'dead', ...on('reset-before-request') },
  reset: on('reset'),
  'retriable-4xx': on('retriable-4xx'),
  codes: on('retriable-status-codes', { retriable_status_codes: [418, 429] }),
  headers: on('retriable-headers', { retriable_headers: [{ name: 'x-again', string_match: { exact: 'yes' } }] }),
  'request-headers': on('5xx', { retriable_request_headers: [{ name: 'x-may', present_match: true }] }),
  ratelimited: on('envoy-ratelimited'),
  istio: on('connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes'),
  grpc: on('cancelled,deadline-exceeded,resource-exhausted,unavailable,internal'),
  zero: on('5xx', { num_retries: 0 }),
  timeout: { timeout: '0.15s' },
  'timeout-retry': { timeout: '0.1s', ...on('5xx', { num_retries: 20, per_try_timeout: '0.06s' }) },
  'per-try': on('5xx', { per_try_timeout: '0.06s' }),
  'per-try-connect-only': on('connect-failure', { per_try_timeout: '0.06s' }),
  'per-try-idle': on('5xx', { per_try_idle_timeout: '0.08s', num_retries: 1 }),
  idle: { idle_timeout: '0.15s' },
  hedge: { ...on('5xx', { num_retries: 1, per_try_timeout: '0.1s' }), timeout: '0.8s', ...HEDGED },
  'hedge-connect-only': { ...on('connect-failure', { num_retries: 1, per_try_timeout: '0.1s' }), ...HEDGED },
  'hedge-idle': { ...on('5xx', { num_retries: 1, per_try_idle_timeout: '0.1s' }), timeout: '0.8s', ...HEDGED },
  'hedge-no-policy': { timeout: '0.3s', ...HEDGED },
  'hedge-header': { ...on('5xx', { num_retries: 1, per_try_timeout: '0.1s' }), timeout: '0.8s' },
  'max-duration': { max_stream_duration: { max_stream_duration: '0.15s' } },
  'grpc-header-max': { max_stream_duration: { max_stream_duration: '0s', grpc_timeout_header_max: '0.2s' } },
  'grpc-old': { max_grpc_timeout: '0.3s', timeout: '5s' },
  'upstream-duration': { cluster: 'short', timeout: '0s' },
};

export const RETRY_CASES: readonly RetryCase[] = [
  { says: 'nothing is sent again without a policy', route: 'none', deeds: 'status:503/ok' },
  ...['5xx', 'gateway', 'reset', 'codes', 'retriable-4xx', 'istio', 'refused', 'zero'].flatMap((route) =>
    ['status:503/ok', 'status:500/ok', 'status:504/ok', 'status:429/ok', 'status:409/ok', 'reset/ok', 'close/ok'].map(
      (deeds) => ({ says: `${route}: ${deeds}`, route, deeds }),
    ),
  ),
  { says: '5xx: two failures, then an answer', route: '5xx', deeds: 'status:503/reset/ok' },
  { says: '5xx: all attempts fail', route: '5xx', deeds: 'status:503' },
  { says: '5xx: all attempts are reset', route: '5xx', deeds: 'reset' },
  { says: '5xx: garbage, then an answer', route: '5xx', deeds: 'garbage/ok' },
  { says: '5xx: an answer that is cut is not asked for again', route: '5xx', deeds: 'cut/ok' },
  { says: '5xx: a body is sent again', route: '5xx', deeds: 'status:503/ok', method: 'POST', body: 'the body' },
  { says: '5xx: a POST is sent again when it was reset', route: '5xx', deeds: 'reset/ok', method: 'POST', body: 'x' },
  { says: 'connect-failure: nobody listens', route: 'connect', deeds: 'ok' },
  { says: 'no policy: nobody listens', route: 'connect-none', deeds: 'ok' },
  { says: 'reset-before-request: nobody listens', route: 'reset-before-dead', deeds: 'ok' },
  { says: 'reset-before-request: a request that was sent is not sent again', route: 'reset-before', deeds: 'reset/ok' },
  { says: 'connect-failure does not mean resets', route: 'refused', deeds: 'reset/ok' },
  { says: 'retriable-headers: with the header', route: 'headers', deeds: 'header:x-again=yes/ok' },
  { says: 'retriable-headers: with another value', route: 'headers', deeds: 'header:x-again=no/ok' },
  { says: 'retriable_request_headers: without', route: 'request-headers', deeds: 'status:503/ok' },
  {
    says: 'retriable_request_headers: with',
    route: 'request-headers',
    deeds: 'status:503/ok',
    headers: { 'x-may': '1' },
  },
  { says: 'ratelimited answers are final', route: '5xx', deeds: 'answer:503,x-envoy-ratelimited=true/ok' },
  { says: 'envoy-ratelimited', route: 'ratelimited', deeds: 'answer:429,x-envoy-ratelimited=true/ok' },
  ...['0', '1', '4', '8', '13', '14', '16'].flatMap((status) =>
    ['grpc', 'istio'].map((route) => ({
      says: `${route}: grpc status ${status}`,
      route,
      deeds: `grpc:${status}/grpc:0`,
      method: 'POST',
      headers: { 'content-type': 'application/grpc' },
    })),
  ),
  { says: 'codes of the policy', route: 'codes', deeds: 'status:418/status:429/ok' },
  { says: 'route timeout', route: 'timeout', deeds: 'stall' },
  {
    says: 'route timeout of a gRPC call',
    route: 'timeout',
    deeds: 'stall',
    headers: { 'content-type': 'application/grpc' },
  },
  { says: 'route timeout after half an answer', route: 'timeout', deeds: 'half' },
  { says: 'route timeout ends retries', route: 'timeout-retry', deeds: 'stall' },
  { says: 'per try timeout, then an answer', route: 'per-try', deeds: 'stall/ok' },
  { says: 'per try timeout, every time', route: 'per-try', deeds: 'stall' },
  { says: 'per try timeout without a policy that means it', route: 'per-try-connect-only', deeds: 'stall/ok' },
  { says: 'per try idle timeout, every time', route: 'per-try-idle', deeds: 'stall' },
  { says: 'per try idle timeout after half an answer', route: 'per-try-idle', deeds: 'half' },
  // Tries begin at 0 and 100 ms, and are overdue at 100 and 200 ms.
  { says: 'hedging: the second try answers first', route: 'hedge', deeds: 'stall/ok' },
  { says: 'hedging: the first try answers first', route: 'hedge', deeds: 'late:350,200/stall' },
  { says: 'hedging: nobody answers', route: 'hedge', deeds: 'stall' },
  {
    says: 'hedging: a bad answer waits for a good one',
    route: 'hedge',
    deeds: 'late:350,503/late:450,200',
    method: 'POST',
    body: 'the body',
  },
  { says: 'hedging: two bad answers', route: 'hedge', deeds: 'late:350,503/late:450,502' },
  { says: 'hedging: an answer that is not sent again wins', route: 'hedge', deeds: 'late:350,404/late:450,200' },
  { says: 'hedging: a reset waits for a good answer', route: 'hedge', deeds: 'late:350,reset/late:450,200' },
  { says: 'hedging: two resets', route: 'hedge', deeds: 'late:350,reset/late:450,reset' },
  { says: 'hedging: the second try is reset, the first answers', route: 'hedge', deeds: 'late:450,200/late:150,reset' },
  { says: 'hedging whatever the policy asks for', route: 'hedge-connect-only', deeds: 'stall/ok' },
  { says: 'hedging when a try is idle', route: 'hedge-idle', deeds: 'late:350,200/stall' },
  { says: 'hedging without a retry policy is none', route: 'hedge-no-policy', deeds: 'late:150,200' },
  {
    says: 'hedging: the expected timeout is that of the whole',
    route: 'hedge',
    deeds: 'echo:x-envoy-expected-rq-timeout-ms',
  },
  ...['true', 'false', 'maybe'].flatMap((value) =>
    ['hedge', 'hedge-header'].map((route) => ({
      says: `hedging by header, ${value} on ${route}`,
      route,
      deeds: 'late:350,200/stall',
      headers: { 'x-forwarded-for': '10.1.2.3', 'x-envoy-hedge-on-per-try-timeout': value },
    })),
  ),
  {
    says: 'hedging by the header of a stranger',
    route: 'hedge-header',
    deeds: 'late:350,200/stall',
    headers: { 'x-envoy-hedge-on-per-try-timeout': 'true' },
  },
  { says: 'stream idle timeout', route: 'idle', deeds: 'stall' },
  { says: 'max stream duration', route: 'max-duration', deeds: 'stall' },
  { says: 'max stream duration after half an answer', route: 'max-duration', deeds: 'half' },
  {
    says: 'grpc-timeout counts by grpc_timeout_header_max',
    route: 'grpc-header-max',
    deeds: 'stall',
    headers: { 'content-type': 'application/grpc', 'grpc-timeout': '100m' },
  },
  {
    says: 'grpc-timeout is capped by grpc_timeout_header_max',
    route: 'grpc-header-max',
    deeds: 'stall',
    headers: { 'content-type': 'application/grpc', 'grpc-timeout': '20S' },
  },
  {
    says: 'grpc-timeout is forwarded as it counts',
    route: 'grpc-header-max',
    deeds: 'echo:grpc-timeout',
    headers: { 'content-type': 'application/grpc', 'grpc-timeout': '20S' },
  },
  {
    says: 'grpc-timeout counts by max_grpc_timeout',
    route: 'grpc-old',
    deeds: 'stall',
    headers: { 'content-type': 'application/grpc', 'grpc-timeout': '100m' },
  },
  {
    says: 'grpc-timeout is capped by max_grpc_timeout',
    route: 'grpc-old',
    deeds: 'stall',
    headers: { 'content-type': 'application/grpc' },
  },
  { says: 'upstream stream duration', route: 'upstream-duration', deeds: 'stall' },
  { says: 'the expected timeout is told', route: 'timeout', deeds: 'echo:x-envoy-expected-rq-timeout-ms' },
  { says: 'the expected timeout of a try is told', route: 'per-try', deeds: 'echo:x-envoy-expected-rq-timeout-ms' },
  { says: 'the attempt is told', route: '5xx', deeds: 'status:503/echo:x-envoy-attempt-count' },
  {
    says: 'retry headers of strangers count for nothing',
    route: 'none',
    deeds: 'status:503/ok',
    headers: { 'x-envoy-retry-on': '5xx' },
  },
  ...(
    [
      ['5xx', 'status:503/ok', { 'x-envoy-retry-on': '5xx' }],
      ['max retries', 'status:503/status:503/status:503/ok', { 'x-envoy-retry-on': '5xx', 'x-envoy-max-retries': '3' }],
      ['grpc', 'grpc:14/grpc:0', { 'x-envoy-retry-grpc-on': 'unavailable', 'content-type': 'application/grpc' }],
      [
        'codes',
        'status:418/ok',
        { 'x-envoy-retry-on': 'retriable-status-codes', 'x-envoy-retriable-status-codes': '418, 419' },
      ],
      [
        'header names',
        'header:x-a=1/ok',
        { 'x-envoy-retry-on': 'retriable-headers', 'x-envoy-retriable-header-names': 'x-b, x-a' },
      ],
      ['timeout', 'stall', { 'x-envoy-upstream-rq-timeout-ms': '120' }],
      ['try timeout', 'stall/ok', { 'x-envoy-retry-on': '5xx', 'x-envoy-upstream-rq-per-try-timeout-ms': '60' }],
      ['they end here', 'echo:x-envoy-retry-on', { 'x-envoy-retry-on': '5xx' }],
      ['nonsense', 'status:503/ok', { 'x-envoy-retry-on': 'what', 'x-envoy-max-retries': '-1' }],
    ] as const
  ).map(([says, deeds, headers]) => ({
    says: `retry headers of internal requests: ${says}`,
    route: 'none',
    deeds,
    headers: { 'x-forwarded-for': '10.1.2.3', ...headers },
  })),
];

/** The routes behind one listener, an upstream, and a port on which nobody listens. */
export function retryResources(upstreamPort: number, deadPort: number, accessLog: Json): Resource[] {
  const actions = Object.entries(ROUTES).map(([name, action]) => ({
    match: { prefix: `/${name}/` },
    route: { cluster: 'up', timeout: '5s', ...action },
  }));
  const common = (options: Json): Json => ({
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        common_http_protocol_options: options,
        explicit_http_config: { http_protocol_options: {} },
      },
    },
  });
  return [
    httpListener({
      routes: {
        name: 'routes',
        virtual_hosts: [
          {
            name: 'all',
            domains: ['*'],
            include_request_attempt_count: true,
            include_attempt_count_in_response: true,
            routes: actions,
          },
        ],
      },
      manager: {
        access_log: [accessLog],
        internal_address_config: { cidr_ranges: [{ address_prefix: '10.0.0.0', prefix_len: 8 }] },
      },
    }),
    // Each request has a connection of its own: that a dead kept-alive one costs Pillion no attempt is tested elsewhere.
    staticCluster('up', [upstreamPort], common({ max_requests_per_connection: 1 })),
    staticCluster('dead', [deadPort]),
    staticCluster('short', [upstreamPort], common({ max_stream_duration: '0.15s' })),
  ];
}
