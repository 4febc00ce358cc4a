/** stats_config: tags, matchers, buckets; Istio's own bootstrap. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ISTIO_STATS_CONFIG } from '../../../config/istio/stats_config.ts';
import { parseStatsConfig } from '../../../proxy/telemetry/stats_config.ts';

const defaults = parseStatsConfig(undefined);
const istio = parseStatsConfig(ISTIO_STATS_CONFIG);

for (const [name, rest, tags] of [
  ['cluster.web.upstream_rq_200', 'cluster.upstream_rq', { 'envoy.response_code': '200', 'envoy.cluster_name': 'web' }],
  [
    'cluster.web.upstream_rq_2xx',
    'cluster.upstream_rq_xx',
    { 'envoy.response_code_class': '2', 'envoy.cluster_name': 'web' },
  ],
  [
    'cluster.web.external.upstream_rq_503',
    'cluster.external.upstream_rq',
    { 'envoy.response_code': '503', 'envoy.cluster_name': 'web' },
  ],
  ['http.in.downstream_rq_total', 'http.downstream_rq_total', { 'envoy.http_conn_manager_prefix': 'in' }],
  [
    'listener.127.0.0.1_80.downstream_cx_total',
    'listener.downstream_cx_total',
    { 'envoy.listener_address': '127.0.0.1_80' },
  ],
  [
    'listener.[__1]_80.http.in.downstream_rq_2xx',
    'listener.http.downstream_rq_xx',
    { 'envoy.response_code_class': '2', 'envoy.http_conn_manager_prefix': 'in', 'envoy.listener_address': '[__1]_80' },
  ],
  [
    'listener.0.0.0.0_80.worker_3.downstream_cx_total',
    'listener.worker.downstream_cx_total',
    { 'envoy.worker_id': '3', 'envoy.listener_address': '0.0.0.0_80' },
  ],
  ['tcp.db.downstream_cx_total', 'tcp.downstream_cx_total', { 'envoy.tcp_prefix': 'db' }],
  [
    'vhost.v.route.r.upstream_rq_total',
    'vhost.route.upstream_rq_total',
    { 'envoy.route': 'r', 'envoy.virtual_host': 'v' },
  ],
  ['server.uptime', 'server.uptime', {}],
  ['cluster_manager.active_clusters', 'cluster_manager.active_clusters', {}],
] as const) {
  test(`Envoy's default tags of ${name}`, () => {
    const found = defaults.tags.extract(name);
    assert.equal(found.name, rest);
    assert.deepEqual(Object.fromEntries(found.tags), tags);
  });
}

for (const [name, rest, tags] of [
  [
    'cluster.outbound|80|v1|web.shop.svc.cluster.local.upstream_rq_200',
    'cluster.upstream_rq',
    { cluster_name: 'outbound|80|v1|web.shop.svc.cluster.local', response_code: '200' },
  ],
  ['cluster.xds-grpc.upstream_rq_2xx', 'cluster.upstream_rq', { cluster_name: 'xds-grpc', response_code_class: '2xx' }],
  [
    'http.outbound_0.0.0.0_9080.downstream_rq_total',
    'http.downstream_rq_total',
    { http_conn_manager_prefix: 'outbound_0.0.0.0_9080' },
  ],
  ['listener.0.0.0.0_15006.downstream_cx_total', 'listener.downstream_cx_total', { listener_address: '0.0.0.0_15006' }],
] as const) {
  test(`Istio's tags of ${name}`, () => {
    const found = istio.tags.extract(name);
    assert.equal(found.name, rest);
    assert.deepEqual(Object.fromEntries(found.tags), tags);
  });
}

test('own tags come before the defaults, and fixed ones are on every statistic', () => {
  const { tags } = parseStatsConfig({
    stats_tags: [
      { tag_name: 'shard', regex: '^cluster\\.(shard(\\d+)_)' },
      { tag_name: 'zone', fixed_value: 'eu' },
    ],
  });
  assert.deepEqual(tags.extract('cluster.shard12_web.upstream_rq_total'), {
    name: 'cluster.upstream_rq_total',
    tags: [
      ['shard', '12'],
      ['zone', 'eu'],
      ['envoy.cluster_name', 'shard12_web'],
    ],
  });
});

test('stats_matcher includes, excludes or rejects all', () => {
  const inclusion = parseStatsConfig({
    stats_matcher: {
      inclusion_list: { patterns: [{ prefix: 'server' }, { safe_regex: { regex: 'vhost\\..*\\.route\\..*' } }] },
    },
  });
  assert.equal(inclusion.accepts('server.uptime'), true);
  assert.equal(inclusion.accepts('vhost.a.route.b.upstream_rq_total'), true);
  assert.equal(inclusion.accepts('cluster.a.upstream_rq_total'), false);
  const exclusion = parseStatsConfig({ stats_matcher: { exclusion_list: { patterns: [{ suffix: '_total' }] } } });
  assert.equal(exclusion.accepts('cluster.a.upstream_rq_total'), false);
  assert.equal(exclusion.accepts('server.uptime'), true);
  assert.equal(parseStatsConfig({ stats_matcher: { reject_all: true } }).accepts('server.uptime'), false);
});

test('histogram_bucket_settings choose buckets by name', () => {
  const rules = parseStatsConfig({
    histogram_bucket_settings: [{ match: { suffix: 'rq_time' }, buckets: [100, 10, 1] }],
  });
  assert.deepEqual(rules.bounds('http.a.downstream_rq_time'), [1, 10, 100]);
  assert.equal(rules.bounds('http.a.other'), undefined);
});

for (const [json, says] of [
  [{ stats_tags: [{ tag_name: 'x' }] }, /stats_tags\[0\]\.regex: no regex or fixed_value/],
  [{ stats_tags: [{ tag_name: 'x', regex: '(' }] }, /stats_tags: /],
  [{ stats_matcher: {} }, /reject_all, inclusion_list or exclusion_list is required/],
  [{ stats_matcher: { inclusion_list: {} } }, /at least one pattern/],
  [{ histogram_bucket_settings: [{ match: { prefix: 'a' }, buckets: [] }] }, /between 1 and 512/],
] as const) {
  test(`stats_config ${JSON.stringify(json)} is refused with its path`, () => {
    assert.throws(() => parseStatsConfig(json), says);
  });
}
