/** stats.PluginConfig: labels by CEL, labels removed, metrics dropped and defined, for requests and connections. */
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { parseIstioMetrics } from '../../../proxy/telemetry/istio_metrics.ts';
import { Fields } from '../../../proxy/resource_fields.ts';
import { httpListener, routeConfig, staticCluster } from '../../support/envoy_resources.ts';
import { answering, RawUpstream } from '../../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../../support/running_proxy.ts';
import { fileScope } from '../../support/scope.ts';

const scope = fileScope();
let proxy: TestProxy;

before(async () => {
  const upstream = await RawUpstream.start(scope, answering());
  const stats = {
    name: 'istio.stats',
    typed_config: {
      '@type': 'type.googleapis.com/stats.PluginConfig',
      metrics: [
        {
          name: 'requests_total',
          dimensions: {
            request_host: 'request.host',
            request_method: 'request.method',
            destination_port: 'string(destination.port)',
            response_code: 'string(response.code / 100) + "xx"',
            missing: 'request.headers["x-none"]',
          },
          tags_to_remove: ['source_version'],
        },
        { name: 'request_bytes', drop: true },
        { name: 'response_bytes', match: 'request.method == "POST"', dimensions: { posted: '"yes"' } },
        { tags_to_remove: ['destination_canonical_revision'] },
      ],
      definitions: [
        { name: 'hats_total', value: 'request.url_path == "/hats" ? 3 : 0', type: 'COUNTER' },
        { name: 'path_length', value: 'size(request.path)', type: 'HISTOGRAM' },
        { name: 'last_code', value: 'response.code', type: 'GAUGE' },
      ],
    },
  };
  proxy = await startTestProxy(scope, [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'web' } }]), filters: [stats] }),
    staticCluster('web', [upstream.port]),
  ]);
  for (const [path, method] of [
    ['/hats', 'GET'],
    ['/hats', 'GET'],
    ['/shoes', 'POST'],
  ] as const) {
    await (await fetch(`http://127.0.0.1:${proxy.port()}${path}`, { method })).text();
  }
});

interface Found {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

async function scrape(metric: string): Promise<Found[]> {
  const text = await (await fetch(`http://127.0.0.1:${proxy.port('admin')}/stats/prometheus`)).text();
  return [...text.matchAll(new RegExp(`^${metric}\\{(.*)\\} (\\S+)$`, 'gm'))].map(([, labels, value]) => ({
    labels: Object.fromEntries(
      [...(labels as string).matchAll(/(\w+)="([^"]*)"/g)].map(([, name, text]) => [name, text]),
    ),
    value: Number(value),
  }));
}

test('labels are set by expressions, new ones too, unknown where there is no value, and removed', async () => {
  const found = await scrape('istio_requests_total');
  const byMethod = Object.fromEntries(found.map((item) => [item.labels['request_method'], item]));
  assert.equal(byMethod['GET']?.value, 2);
  assert.equal(byMethod['POST']?.value, 1);
  const { labels = {} } = byMethod['GET'] ?? {};
  assert.equal(labels['request_host'], `127.0.0.1:${proxy.port()}`);
  assert.equal(labels['destination_port'], String(proxy.port()));
  assert.equal(labels['response_code'], '2xx');
  assert.equal(labels['missing'], 'unknown');
  assert.equal('source_version' in labels, false);
  assert.equal('destination_canonical_revision' in labels, false);
  assert.equal(labels['reporter'], 'source');
});

test('a dropped metric is not there; an override without a name holds for all; match decides request by request', async () => {
  assert.deepEqual(await scrape('istio_request_bytes_count'), []);
  const [duration] = await scrape('istio_request_duration_milliseconds_count');
  assert.equal(duration?.value, 3);
  assert.equal(duration !== undefined && 'destination_canonical_revision' in duration.labels, false);
  const bytes = await scrape('istio_response_bytes_count');
  assert.deepEqual(bytes.map(({ labels, value }) => [labels['posted'] ?? 'no', value]).sort(), [
    ['no', 2],
    ['yes', 1],
  ]);
});

test('defined metrics add, set or record what their expression gives', async () => {
  const [hats] = await scrape('istio_hats_total');
  assert.equal(hats?.value, 6);
  const [lengths] = await scrape('istio_path_length_count');
  assert.equal(lengths?.value, 3);
  const [sum] = await scrape('istio_path_length_sum');
  assert.equal(sum?.value, 5 + 5 + 6);
  assert.equal((await scrape('istio_last_code'))[0]?.value, 200);
});

for (const [json, says] of [
  [{ metrics: [{ dimensions: { a: 'request.' } }] }, /metrics\[0\]\.dimensions\.a: .*a name is wanted/],
  [{ metrics: [{ dimensions: { a: 7 } }] }, /is a CEL expression as text/],
  [{ metrics: [{ match: 'nothing' }] }, /metrics\[0\]\.match: .*no attribute "nothing"/],
  [{ definitions: [{ name: 'a', value: '(' }] }, /definitions\[0\]\.value/],
  [{ definitions: [{ name: 'a', value: '1', type: 'SUMMARY' }] }, /one of COUNTER, GAUGE, HISTOGRAM/],
  [
    { metrics: [{ dimensions: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`a${i}`, '1'])) }] },
    /at most 100/,
  ],
] as const) {
  test(`${JSON.stringify(json).slice(0, 70)} is refused with its path`, () => {
    assert.throws(() => parseIstioMetrics(new Fields(json)), says);
  });
}
