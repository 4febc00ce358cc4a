/** What makes no sense in retries, breakers, outlier detection and load balancing is refused with its field. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { buildCluster } from '../../config/build/cluster.ts';
import { buildRouteTable } from '../../config/build/route_configuration.ts';
import type { Json } from '../../config/resources.ts';
import { ConfigError } from '../../proxy/config_error.ts';

function refused(path: string, build: () => unknown): void {
  assert.throws(build, (error) => {
    assert.ok(error instanceof ConfigError);
    assert.equal(error.path, path);
    return true;
  });
}

const cluster = (json: Json) => () => buildCluster({ name: 'c', type: 'STATIC', ...json }, 'test');
const route =
  (action: Json, host: Json = {}) =>
  () =>
    buildRouteTable(
      {
        virtual_hosts: [
          {
            name: 'v',
            domains: ['*'],
            ...host,
            routes: [{ match: { prefix: '/' }, route: { cluster: 'c', ...action } }],
          },
        ],
      },
      { origin: 'test', filterConfig: () => ({ disabled: false, config: undefined }) },
    );
const AT = 'virtual_hosts[0].routes[0].route';

for (const [name, json] of [
  ['max_ejection_percent', { max_ejection_percent: -1 }],
  ['max_ejection_percent', { max_ejection_percent: 101 }],
  ['enforcing_consecutive_5xx', { enforcing_consecutive_5xx: -5 }],
  ['interval', { interval: '0s' }],
  ['base_ejection_time', { base_ejection_time: '-1s' }],
  ['consecutive_5xx', { consecutive_5xx: -1 }],
  ['failure_percentage_threshold', { failure_percentage_threshold: 200 }],
  ['monitors', { monitors: [{}] }],
] as const) {
  test(`outlier_detection refuses ${JSON.stringify(json)}`, () => {
    refused(`outlier_detection.${name}`, cluster({ outlier_detection: json }));
  });
}

for (const [path, json] of [
  ['circuit_breakers.thresholds[0].max_retries', { circuit_breakers: { thresholds: [{ max_retries: -1 }] } }],
  [
    'circuit_breakers.thresholds[0].retry_budget.budget_percent.value',
    { circuit_breakers: { thresholds: [{ retry_budget: { budget_percent: { value: -20 } } }] } },
  ],
  ['common_lb_config.healthy_panic_threshold.value', { common_lb_config: { healthy_panic_threshold: { value: 101 } } }],
  [
    'least_request_lb_config.slow_start_config.aggression',
    { least_request_lb_config: { slow_start_config: { slow_start_window: '1s', aggression: { default_value: 0 } } } },
  ],
  ['lb_subset_config.list_as_any', { lb_subset_config: { list_as_any: true, subset_selectors: [{ keys: ['a'] }] } }],
] as const) {
  test(`a cluster refuses ${path} in ${JSON.stringify(json)}`, () => refused(path, cluster(json)));
}

for (const [path, action, host] of [
  [`${AT}.retry_policy.num_retries`, { retry_policy: { retry_on: '5xx', num_retries: -1 } }, {}],
  [`${AT}.retry_policy.per_try_timeout`, { retry_policy: { per_try_timeout: '-1s' } }, {}],
  [`${AT}.retry_policy.retry_back_off.base_interval`, { retry_policy: { retry_back_off: {} } }, {}],
  [
    `${AT}.retry_policy.retry_back_off.base_interval`,
    { retry_policy: { retry_back_off: { base_interval: '0s' } } },
    {},
  ],
  [
    `${AT}.retry_policy.retry_back_off.max_interval`,
    { retry_policy: { retry_back_off: { base_interval: '1s', max_interval: '0.5s' } } },
    {},
  ],
  [
    `${AT}.retry_policy.rate_limited_retry_back_off.reset_headers`,
    { retry_policy: { rate_limited_retry_back_off: {} } },
    {},
  ],
  [
    `${AT}.retry_policy.retry_host_predicate[0].typed_config`,
    {
      retry_policy: { retry_host_predicate: [{ name: 'mine', typed_config: { '@type': 'type.googleapis.com/mine' } }] },
    },
    {},
  ],
  [`${AT}.hedge_policy.initial_requests`, { hedge_policy: { initial_requests: 0 } }, {}],
  ['virtual_hosts[0].hedge_policy.initial_requests', {}, { hedge_policy: { initial_requests: 0 } }],
  [`${AT}.request_mirror_policies[0].cluster`, { request_mirror_policies: [{}] }, {}],
  [
    `${AT}.request_mirror_policies[0].runtime_fraction.default_value.numerator`,
    { request_mirror_policies: [{ cluster: 'm', runtime_fraction: { default_value: { numerator: -1 } } }] },
    {},
  ],
  [`${AT}.rate_limits[0].actions[0].metadata`, { rate_limits: [{ actions: [{ metadata: {} }] }] }, {}],
] as const) {
  test(`a route refuses ${path} in ${JSON.stringify({ ...action, ...host })}`, () =>
    refused(path, route(action, host)));
}

test('an empty percent is 0, as istiod sends it', () => {
  assert.equal(cluster({ common_lb_config: { healthy_panic_threshold: {} } })().panicThresholdPercent, 0);
  assert.equal(cluster({ common_lb_config: {} })().panicThresholdPercent, 50);
});
