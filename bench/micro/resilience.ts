/**
 * A request through the router with nothing, and with everything that keeps it from failing on and idle: retries,
 * timeouts, hedging, outlier detection, a mirror at 0 %, and before it faults at 0 % and a local rate limit.
 */
import { buildOutlierDetection } from '../../config/build/outlier_detection.ts';
import { parseRetryPolicy } from '../../config/build/retry_policy.ts';
import { buildRouteTable } from '../../config/build/route_configuration.ts';
import fault from '../../filters/fault.ts';
import localRateLimit from '../../filters/local_ratelimit.ts';
import type { Filter, FilterContext, FilterDeps } from '../../proxy/http/filter.ts';
import { RequestHeaders, ResponseHeaders } from '../../proxy/http/headers.ts';
import { StreamInfo } from '../../proxy/http/stream_info.ts';
import type { TerminalContext } from '../../proxy/http/terminal.ts';
import { type ConnectionInfo, socketAddress } from '../../proxy/net/connection_info.ts';
import { Deadlines } from '../../proxy/net/deadlines.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { createBucketMemory, createBucketRow, TokenBuckets } from '../../proxy/http/token_buckets.ts';
import type { Route } from '../../proxy/router/route.ts';
import { createRouter } from '../../proxy/router/router.ts';
import { SlabStatistics } from '../../proxy/telemetry/slab.ts';
import type { Cluster } from '../../proxy/upstream/cluster.ts';
import { ClusterHost } from '../../proxy/upstream/cluster_hosts.ts';
import { ClusterStatistics } from '../../proxy/upstream/cluster_statistics.ts';
import { createReportMemory, createReportRow, HostReports } from '../../proxy/upstream/host_reports.ts';
import { plainEndpoint } from '../../proxy/upstream/load_assignment.ts';
import { OutlierReporter } from '../../proxy/upstream/outlier_reporter.ts';
import type { Pool, PoolRequest } from '../../proxy/upstream/pool.ts';
import { createBreakerMemory, createBreakerRow, SharedBreakers } from '../../proxy/upstream/shared_breakers.ts';
import { bench } from './harness.ts';

/** A filter, and what it gets for the route. */
interface Hooks {
  readonly filter: Filter<unknown>;
  readonly config: unknown;
}

const nothing = (): void => {};
const statistics = new SlabStatistics(nothing);
const deadlines = new Deadlines(() => performance.now());
const breakers = new SharedBreakers(createBreakerMemory(), createBreakerRow());
const reports = createReportMemory();
const host = new ClusterHost(plainEndpoint('10.0.0.1', 80));
const address = socketAddress('10.0.0.1', 80);
const connection = { localAddress: address, remoteAddress: address } as unknown as ConnectionInfo;
const encoder = {
  encodeHeaders: nothing,
  encodeData: () => true,
  encodeTrailers: nothing,
  reset: nothing,
  readDisable: nothing,
  encode1xx: nothing,
};
/** Answers each request at once. */
const pool = {
  request(request: PoolRequest) {
    request.poolReady(encoder, connection, true, 'HTTP/1.1');
    const headers = new ResponseHeaders();
    headers.status = 200;
    headers.append('content-type', 'text/plain');
    request.decodeHeaders(headers, true);
  },
  cancel: () => false,
} as unknown as Pool;

const FILTER_CONTEXT = { route: () => undefined } as unknown as FilterContext;
const RESPONSE = new ResponseHeaders();
const buckets = createBucketMemory();
const filterDeps = {
  counter: (name: string) => statistics.counter(name),
  gauge: (name: string) => statistics.gauge(name),
  statistics,
  random: Math.random,
  nowMs: () => performance.now(),
  tokenBuckets: new TokenBuckets(buckets, createBucketRow(buckets)),
} as unknown as FilterDeps;

function cluster(outlier: OutlierReporter | undefined): Cluster {
  const breaker = breakers.open('up', 'default', {
    maxConnections: 1024,
    maxPendingRequests: 1024,
    maxRequests: 1024,
    maxRetries: 3,
  });
  return {
    name: 'up',
    altStatName: 'up',
    metadata: undefined,
    statistics: new ClusterStatistics(statistics, 'up'),
    maxStreamDurationMs: outlier === undefined ? 0 : 60_000,
    outlier,
    chooseHost: () => host,
    pool: () => pool,
    breaker: () => breaker,
  } as unknown as Cluster;
}

function one(action: object, outlier: OutlierReporter | undefined, filters: readonly Hooks[] = []): () => void {
  const table = buildRouteTable(
    {
      virtual_hosts: [
        {
          name: 'v',
          domains: ['*'],
          routes: [{ match: { prefix: '/' }, route: { cluster: 'up', timeout: '0s', ...action } }],
        },
      ],
    },
    { origin: '', filterConfig: () => ({ disabled: false, config: undefined }) },
  );
  const up = cluster(outlier);
  const router = createRouter(
    { suppressEnvoyHeaders: false },
    {
      clusters: { get: () => up },
      deadlines,
      statistics: {
        rqTotal: statistics.counter('a'),
        noRoute: statistics.counter('b'),
        noCluster: statistics.counter('c'),
        rqRedirect: statistics.counter('d'),
        rqDirectResponse: statistics.counter('e'),
      },
      sentAgain: (method, route, reason) => statistics.counter('sent_again', { method, route, reason }),
      sheds: () => false,
      random: Math.random,
      nowMs: () => performance.now(),
    },
  );
  return () => {
    const headers = new RequestHeaders();
    headers.authority = 'a';
    const info = new StreamInfo(connection, 0, 0);
    let route: Route | undefined;
    const stream = {
      info,
      connection,
      upgrade: undefined,
      bufferLimitBytes: 1_048_576,
      route: () => (route ??= table.match(headers, { info, randomValue: 0.5 })),
      respondHeaders: nothing,
      setMaxDuration: nothing,
      pauseRequest: nothing,
    } as unknown as TerminalContext;
    for (const { filter, config } of filters) {
      const state = filter.newState?.();
      const ctx = { ...FILTER_CONTEXT, routeConfig: () => config } as unknown as FilterContext;
      filter.decodeHeaders?.(ctx, headers, true, state);
      filter.encodeHeaders?.(ctx, RESPONSE, false, state);
      filter.onDestroy?.(ctx, state);
    }
    router.open(stream).headers(headers, true);
  };
}

const outlierConfig = buildOutlierDetection(new Fields({ enforcing_failure_percentage: 100 }));
if (outlierConfig === undefined) throw new Error('there is no outlier detection to measure');
const reporter = new OutlierReporter('up', outlierConfig, new HostReports(reports, createReportRow(reports)), nothing);
const policy = {
  retry_on: '5xx,reset,connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes',
  retriable_status_codes: [418],
  num_retries: 6,
  per_try_timeout: '2s',
  per_try_idle_timeout: '1s',
  retry_host_predicate: [
    {
      name: 'envoy.retry_host_predicates.previous_hosts',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
      },
    },
  ],
};
if (parseRetryPolicy(new Fields(policy)) === undefined) throw new Error('there is no retry policy to measure');
bench('the router with nothing', one({}, undefined));
bench('retries, three timeouts, outlier detection, idle', one({ timeout: '10s', retry_policy: policy }, reporter));
const NEVER = { numerator: 0 };
const ALWAYS = { default_value: { numerator: 100 } };
const all = {
  timeout: '10s',
  retry_policy: policy,
  hedge_policy: { hedge_on_per_try_timeout: true },
  request_mirror_policies: [{ cluster: 'up', runtime_fraction: { default_value: NEVER } }],
};
bench(
  'the same, hedging, faults and a mirror at 0 %, rate limit',
  one(all, reporter, [
    {
      filter: fault.create(fault.parse({}), filterDeps) as Filter<unknown>,
      config: fault.parseRoute({
        delay: { fixed_delay: '1s', percentage: NEVER },
        abort: { http_status: 503, percentage: NEVER },
      }),
    },
    {
      filter: localRateLimit.create(
        localRateLimit.parse({
          stat_prefix: 'bench',
          token_bucket: { max_tokens: 1e9, tokens_per_fill: 1e9, fill_interval: '1s' },
          filter_enabled: ALWAYS,
          filter_enforced: ALWAYS,
        }),
        filterDeps,
      ) as Filter<unknown>,
      config: undefined,
    },
  ]),
);
