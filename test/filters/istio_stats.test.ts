/** Istio's metrics as a scrape of the running proxy sees them. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';

const scope = fileScope();
let proxy: TestProxy;

before(async () => {
  const upstream = await RawUpstream.start(scope, answering());
  const stats = { name: 'istio.stats', typed_config: { '@type': 'type.googleapis.com/stats.PluginConfig' } };
  const cluster = staticCluster('reviews', [upstream.port], {
    metadata: {
      filter_metadata: {
        istio: { services: [{ host: 'reviews.shop.svc.cluster.local', name: 'reviews', namespace: 'shop' }] },
      },
    },
    load_assignment: {
      cluster_name: 'reviews',
      endpoints: [
        {
          lb_endpoints: [
            {
              endpoint: { address: { socket_address: { address: '127.0.0.1', port_value: upstream.port } } },
              metadata: { filter_metadata: { istio: { workload: 'reviews-v2;shop;reviews;v2;cluster1' } } },
            },
          ],
        },
      ],
    },
  });
  const inbound = httpListener({
    name: 'in',
    routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'reviews' } }]),
    filters: [stats],
  });
  proxy = await startTestProxy(scope, [
    httpListener({
      routes: routeConfig([
        { match: { prefix: '/gone' }, route: { cluster: 'gone' } },
        { match: { prefix: '/' }, route: { cluster: 'reviews' } },
      ]),
      filters: [stats],
    }),
    resource('listener', { ...inbound.json, traffic_direction: 'INBOUND' }),
    cluster,
  ]);
});

/** The labels and value of each series of a metric. */
async function scrape(metric: string): Promise<{ labels: Record<string, string>; value: number }[]> {
  const text = await (await fetch(`http://127.0.0.1:${proxy.port('admin')}/stats/prometheus`)).text();
  return [...text.matchAll(new RegExp(`^${metric}\\{(.*)\\} (\\S+)$`, 'gm'))].map(([, labels, value]) => ({
    labels: Object.fromEntries(
      [...(labels as string).matchAll(/(\w+)="([^"]*)"/g)].map(([, name, text]) => [name, text]),
    ),
    value: Number(value),
  }));
}

test('istio.stats reports a client with the 25 labels of istio_requests_total', async () => {
  for (let i = 0; i < 3; i++) await (await fetch(`http://127.0.0.1:${proxy.port()}/x`)).text();
  const [series] = await scrape('istio_requests_total');
  assert.equal(series?.value, 3);
  assert.deepEqual(series?.labels, {
    reporter: 'source',
    source_workload: 'unknown',
    source_workload_namespace: 'unknown',
    source_principal: 'unknown',
    source_app: 'unknown',
    source_version: 'unknown',
    source_canonical_service: 'unknown',
    source_canonical_revision: 'latest',
    source_cluster: 'unknown',
    destination_workload: 'reviews-v2',
    destination_workload_namespace: 'shop',
    destination_principal: 'unknown',
    destination_app: 'reviews',
    destination_version: 'v2',
    destination_service: 'reviews.shop.svc.cluster.local',
    destination_service_name: 'reviews',
    destination_service_namespace: 'shop',
    destination_canonical_service: 'reviews',
    destination_canonical_revision: 'v2',
    destination_cluster: 'cluster1',
    request_protocol: 'http',
    response_code: '200',
    grpc_response_status: '',
    response_flags: '-',
    connection_security_policy: 'unknown',
  });
});

test('istio.stats tells codes, flags, protocols and directions apart', async () => {
  await (await fetch(`http://127.0.0.1:${proxy.port()}/gone`, { headers: { host: 'who.example' } })).text();
  await (
    await fetch(`http://127.0.0.1:${proxy.port()}/x`, {
      method: 'POST',
      headers: { 'content-type': 'application/grpc' },
    })
  ).text();
  await (await fetch(`http://127.0.0.1:${proxy.port('in')}/x`)).text();
  const all = await scrape('istio_requests_total');
  const gone = all.find(({ labels }) => labels['response_flags'] === 'NC');
  assert.equal(gone?.labels['response_code'], '503');
  assert.equal(gone?.labels['destination_service'], `127.0.0.1:${proxy.port()}`);
  assert.ok(all.some(({ labels }) => labels['request_protocol'] === 'grpc'));
  const inbound = all.find(({ labels }) => labels['reporter'] === 'destination');
  assert.equal(inbound?.labels['connection_security_policy'], 'none');
  assert.equal(inbound?.labels['source_workload'], 'unknown');
});

test('istio.stats records duration, and bytes with heads', async () => {
  const [count] = await scrape('istio_request_duration_milliseconds_count');
  assert.ok(count !== undefined && count.value >= 3);
  const [sum] = await scrape('istio_response_bytes_sum');
  const [answers] = await scrape('istio_response_bytes_count');
  // A head and two bytes of body each.
  assert.ok((sum?.value ?? 0) / (answers?.value ?? 1) > 50);
});
