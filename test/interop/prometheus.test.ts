/** A real Prometheus server scrapes two Pillions; what dashboards ask is answered. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { freePort } from '../support/free_port.ts';

const scope = fileScope();
const skip = withoutPrometheus();
let server: string;
let proxies: TestProxy[];

function withoutPrometheus(): string | false {
  return spawnSync('prometheus', ['--version']).status === 0
    ? false
    : 'Prometheus is not installed: apt-get install prometheus';
}

before(async () => {
  if (skip !== false) return;
  const upstream = await RawUpstream.start(scope, answering());
  const stats = { name: 'istio.stats', typed_config: { '@type': 'type.googleapis.com/stats.PluginConfig' } };
  const resources = [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'web' } }]), filters: [stats] }),
    staticCluster('web', [upstream.port], {
      metadata: {
        filter_metadata: {
          istio: { services: [{ host: 'web.shop.svc.cluster.local', name: 'web', namespace: 'shop' }] },
        },
      },
    }),
  ];
  proxies = [await startTestProxy(scope, resources), await startTestProxy(scope, resources)];
  for (const [index, proxy] of proxies.entries()) {
    for (let i = 0; i < 3 + index; i++) await (await fetch(`http://127.0.0.1:${proxy.port()}/`)).text();
  }
  const folder = mkdtempSync(join(tmpdir(), 'pillion-prometheus-'));
  const config = join(folder, 'prometheus.yml');
  const targets = proxies.map((proxy) => `127.0.0.1:${proxy.port('admin')}`);
  // JSON is YAML.
  writeFileSync(
    config,
    JSON.stringify({
      global: { scrape_interval: '1s', scrape_timeout: '1s' },
      scrape_configs: [{ job_name: 'pillion', metrics_path: '/stats/prometheus', static_configs: [{ targets }] }],
    }),
  );
  const port = await freePort();
  server = `http://127.0.0.1:${port}`;
  const child: ChildProcess = spawn(
    'prometheus',
    [
      `--config.file=${config}`,
      `--storage.tsdb.path=${join(folder, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=error',
    ],
    { stdio: 'ignore' },
  );
  scope.after(() => {
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true, force: true });
  });
});

interface Sample {
  readonly metric: Readonly<Record<string, string>>;
  readonly value: readonly [number, string];
}

/** Asked again until there are so many answers: scrapes come every second. */
async function query(expression: string, wanted: number): Promise<Sample[]> {
  let found: Sample[] = [];
  for (let attempt = 0; attempt < 600; attempt++) {
    try {
      const response = await fetch(`${server}/api/v1/query?query=${encodeURIComponent(expression)}`);
      found = ((await response.json()) as { data?: { result: Sample[] } }).data?.result ?? [];
      if (found.length >= wanted) return found;
    } catch {
      // It has not begun to listen.
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.fail(`${expression} has ${found.length} answers, ${wanted} are wanted`);
}

test('both targets are up, and what they said was understood whole', { skip }, async () => {
  const up = await query('up == 1', 2);
  assert.equal(up.length, 2);
  const samples = await query('scrape_samples_scraped{job="pillion"} > 50', 2);
  assert.equal(samples.length, 2);
});

test("Istio's dashboards find requests by service, code and quantile", { skip }, async () => {
  const requests = await query(
    'sum by (instance) (istio_requests_total{destination_service_name="web",response_code="200",reporter="source"})',
    2,
  );
  assert.deepEqual(requests.map(({ value }) => value[1]).sort(), ['3', '4']);
  const total = await query('sum(istio_requests_total{destination_service_namespace="shop"})', 1);
  assert.equal(total[0]?.value[1], '7');
  const quantile = await query('histogram_quantile(0.99, sum by (le) (istio_request_duration_milliseconds_bucket))', 1);
  assert.ok(Number(quantile[0]?.value[1]) > 0);
  assert.equal((await query('istio_build{component="proxy"}', 2)).length, 2);
});

test("Envoy's dashboards find clusters, connection managers and the server", { skip }, async () => {
  const clusters = await query('envoy_cluster_upstream_rq_total{envoy_cluster_name="web"}', 2);
  assert.deepEqual(clusters.map(({ value }) => value[1]).sort(), ['3', '4']);
  const codes = await query('envoy_cluster_upstream_rq_xx{envoy_response_code_class="2"}', 2);
  assert.equal(codes.length, 2);
  const classes = await query(
    'envoy_http_downstream_rq_xx{envoy_http_conn_manager_prefix="test",envoy_response_code_class="2"}',
    2,
  );
  assert.deepEqual(classes.map(({ value }) => value[1]).sort(), ['3', '4']);
  for (const metric of [
    'envoy_server_live',
    'envoy_server_uptime',
    'envoy_server_memory_allocated',
    'envoy_server_concurrency',
  ]) {
    assert.equal((await query(metric, 2)).length, 2);
  }
});
