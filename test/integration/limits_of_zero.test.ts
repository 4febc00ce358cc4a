/** Limits of 0: each has one meaning, and it is Envoy's (asked where it is installed). */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Json, Resource } from '../../config/resources.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { startEnvoy, withoutEnvoy } from '../support/envoy_process.ts';
import { startTestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { SwitchedUpstream } from '../support/switched_upstream.ts';

interface Case {
  readonly cluster?: Json;
  readonly route?: Json;
  /** Answers to three requests, one after the other, the upstream's first being 503: `status` and Envoy's overload header. */
  readonly answers: readonly string[];
}

const threshold = (json: Json): Json => ({ circuit_breakers: { thresholds: [json] } });
const retry = (json: Json = {}): Json => ({ retry_policy: { retry_on: '5xx', num_retries: 1, ...json } });
const http = (common: Json): Json => ({
  typed_extension_protocol_options: {
    'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
      '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
      common_http_protocol_options: common,
      explicit_http_config: { http_protocol_options: {} },
    },
  },
});

const PASSES = ['503', '200', '200'];
const RETRIED = ['200', '200', '200'];
const REFUSED = ['503 overloaded', '503 overloaded', '503 overloaded'];

const CASES: Readonly<Record<string, Case>> = {
  'max_connections 0: a connection for those who have none': {
    cluster: threshold({ max_connections: 0 }),
    answers: PASSES,
  },
  'max_pending_requests 0: nobody may wait for a connection': {
    cluster: threshold({ max_pending_requests: 0 }),
    answers: REFUSED,
  },
  'max_requests 0: nobody is served': { cluster: threshold({ max_requests: 0 }), answers: REFUSED },
  'max_retries 0: nothing is sent again': { cluster: threshold({ max_retries: 0 }), route: retry(), answers: PASSES },
  'a retry budget of 0 % and none at the least': {
    cluster: threshold({ retry_budget: { budget_percent: { value: 0 }, min_retry_concurrency: 0 } }),
    route: retry(),
    answers: PASSES,
  },
  'num_retries 0': { route: retry({ num_retries: 0 }), answers: PASSES },
  'per_try_timeout 0s: none': { route: retry({ per_try_timeout: '0s' }), answers: RETRIED },
  'per_try_idle_timeout 0s: none': { route: retry({ per_try_idle_timeout: '0s' }), answers: RETRIED },
  'a route timeout of 0s: none': { route: { timeout: '0s' }, answers: PASSES },
  'an idle timeout of 0s: none': { route: { idle_timeout: '0s' }, answers: PASSES },
  'max_stream_duration of 0s: none': { route: { max_stream_duration: { max_stream_duration: '0s' } }, answers: PASSES },
  'a cluster’s idle_timeout of 0s: none': { cluster: http({ idle_timeout: '0s' }), answers: PASSES },
  'a cluster’s max_stream_duration of 0s: none': { cluster: http({ max_stream_duration: '0s' }), answers: PASSES },
  'max_requests_per_connection 0: any number': { cluster: http({ max_requests_per_connection: 0 }), answers: PASSES },
  'max_ejection_percent 0: nobody': {
    cluster: {
      outlier_detection: { consecutive_5xx: 1, max_ejection_percent: 0 },
      common_lb_config: { healthy_panic_threshold: {} },
    },
    answers: PASSES,
  },
  'consecutive_5xx 0: nobody': {
    cluster: {
      outlier_detection: { consecutive_5xx: 0, max_ejection_percent: 100 },
      common_lb_config: { healthy_panic_threshold: {} },
    },
    answers: PASSES,
  },
};

const scope = fileScope();

/** A listener for each case, its cluster and its upstream. */
async function start(): Promise<Resource[]> {
  const resources: Resource[] = [];
  for (const [name, { cluster = {}, route = {} }] of Object.entries(CASES)) {
    const upstream = await SwitchedUpstream.start(scope, 'ok');
    let turn = 0;
    upstream.next = () => (turn++ === 0 ? 503 : 200);
    resources.push(
      httpListener({
        name,
        routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: name, ...route } }], name),
      }),
      staticCluster(name, [upstream.port], { ...cluster }),
    );
  }
  return resources;
}

async function ask(port: number): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/`, { signal: AbortSignal.timeout(30_000) });
  await response.arrayBuffer();
  return `${response.status}${response.headers.get('x-envoy-overloaded') === 'true' && response.status === 503 ? ' overloaded' : ''}`;
}

for (const who of ['Pillion', 'Envoy'] as const) {
  test(`${who}: what limits of 0 mean`, { skip: who === 'Envoy' && withoutEnvoy() }, async (t) => {
    const resources = await start();
    const peer = who === 'Envoy' ? await startEnvoy(t, resources) : await startTestProxy(t, resources);
    for (const [name, { answers }] of Object.entries(CASES)) {
      const port = peer.port(name);
      assert.deepEqual([await ask(port), await ask(port), await ask(port)], answers, name);
    }
    if (!('running' in peer)) return;
    await peer.counted();
    for (const name of Object.keys(CASES)) {
      for (const gauge of ['rq_active', 'rq_pending_active']) {
        assert.equal(peer.value(`cluster.${name}.upstream_${gauge}`), 0, `${name}: ${gauge}`);
      }
    }
  });
}
