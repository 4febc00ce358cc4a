/** The proof of part 5: three replicas, one dies and comes back every second, another fails every other time. */
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { load, Replica } from '../support/fault_harness.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

/** What istiod makes of `retries: {attempts: 6, retryOn: "5xx,reset,connect-failure"}`. */
export const ISTIO_RETRIES: Json = {
  retry_on: '5xx,reset,connect-failure',
  num_retries: 6,
  retry_host_predicate: [
    {
      name: 'envoy.retry_host_predicates.previous_hosts',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
      },
    },
  ],
  host_selection_retry_max_attempts: '5',
};

/** What istiod makes of an outlierDetection with maxEjectionPercent 67. */
export const ISTIO_OUTLIER: Json = {
  max_ejection_percent: 67,
  enforcing_consecutive_5xx: 100,
  enforcing_success_rate: 0,
};

export function replicaResources(ports: readonly number[], retries: Json = ISTIO_RETRIES, more: Json = {}): Resource[] {
  return [
    httpListener({
      routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'up', timeout: '0s', retry_policy: retries } }]),
    }),
    staticCluster('up', ports, {
      lb_policy: 'LEAST_REQUEST',
      outlier_detection: ISTIO_OUTLIER,
      common_lb_config: { healthy_panic_threshold: {} },
      circuit_breakers: { thresholds: [UNLIMITED] },
      ...more,
    }),
  ];
}

export const HTTP2: Json = {
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      explicit_http_config: { http2_protocol_options: {} },
    },
  },
};

const MOST = 4_294_967_295;
const UNLIMITED = { max_connections: MOST, max_pending_requests: MOST, max_requests: MOST, max_retries: MOST };

export interface Proof {
  readonly asked: number;
  readonly failed: ReadonlyMap<string, number>;
  /** Requests that upstreams got, for each that was asked. */
  readonly attemptsEach: number;
  readonly tookMs: number;
  readonly kills: number;
}

/** `everyMs`: how often the one replica dies; it is away for half of that. */
export async function prove(
  scope: Scope,
  requests: number,
  everyMs: number,
  concurrency: number,
  protocol: 'http1' | 'http2' = 'http1',
  meanwhile: (proxy: TestProxy) => void = () => {},
): Promise<Proof> {
  const replicas = await Promise.all([1, 2, 3].map(() => Replica.start(scope, protocol)));
  const [dying, failing] = replicas as [Replica, Replica];
  failing.misdeed = 'half503';
  const proxy = await startTestProxy(
    scope,
    replicaResources(
      replicas.map(({ port }) => port),
      ISTIO_RETRIES,
      protocol === 'http2' ? HTTP2 : {},
    ),
    { concurrency },
  );
  let kills = 0;
  const timer = setInterval(() => {
    kills++;
    dying.kill();
    setTimeout(() => void dying.restart().catch(() => {}), everyMs / 2);
  }, everyMs);
  meanwhile(proxy);
  try {
    const { asked, failed, tookMs } = await load({
      port: proxy.port(),
      requests,
      concurrency: 16,
      leastMs: everyMs * 3,
    });
    const attemptsEach = proxy.value('cluster.up.upstream_rq_total') / asked;
    return { asked, failed, attemptsEach, tookMs, kills };
  } finally {
    clearInterval(timer);
  }
}
