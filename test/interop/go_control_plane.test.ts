/** What istioctl does: /config_dump, /clusters and their kin decoded with Envoy's own Go types, unknown fields refused. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { ask } from '../support/admin_client.ts';
import { httpListener, routeConfig, staticCluster } from '../support/envoy_resources.ts';
import { MeshCa } from '../support/mesh_ca.ts';
import { PillionProcess } from '../support/pillion_process.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import { fileScope } from '../support/scope.ts';
import { resource } from '../support/static_source.ts';

const scope = fileScope();
const folder = mkdtempSync(join(tmpdir(), 'pillion-go-'));
scope.after(() => rmSync(folder, { recursive: true, force: true }));
const program = join(folder, 'go_decode');
const skip = withoutGo();
let proxy: TestProxy;

/** Builds the decoder: modules come from Go's proxy the first time, from its cache afterwards. */
function withoutGo(): string | false {
  if (spawnSync('go', ['version']).status !== 0) return 'Go is not installed: apt-get install golang-go';
  const source = fileURLToPath(new URL('./go_decode', import.meta.url));
  const built = spawnSync('go', ['build', '-o', program, '.'], { cwd: source, encoding: 'utf8', timeout: 100_000 });
  return built.status === 0 ? false : `go build cannot have its modules: ${built.stderr.split('\n')[0]}`;
}

before(async () => {
  if (skip !== false) return;
  const upstream = await RawUpstream.start(scope, answering());
  const pair = new MeshCa().issue('spiffe://cluster.local/ns/shop/sa/web');
  proxy = await startTestProxy(scope, [
    httpListener({ routes: routeConfig([{ match: { prefix: '/' }, route: { cluster: 'web' } }]) }),
    { ...httpListener({ routes: 'routes', name: 'fixed' }), isStatic: true },
    resource('route', routeConfig([{ match: { prefix: '/' }, route: { cluster: 'web' } }])),
    staticCluster('web', [upstream.port]),
    { ...staticCluster('fixed', [9]), isStatic: true },
    resource('cluster', { name: 'eds', type: 'EDS', eds_cluster_config: { eds_config: { ads: {} } } }),
    resource('endpoint', {
      cluster_name: 'eds',
      endpoints: [
        {
          locality: { region: 'r', zone: 'z', sub_zone: 's' },
          priority: 1,
          load_balancing_weight: 3,
          lb_endpoints: [
            {
              endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: 80 } }, hostname: 'a' },
              health_status: 'DRAINING',
              load_balancing_weight: 2,
              metadata: { filter_metadata: { istio: { workload: 'a;b;c;d;e' } } },
            },
          ],
        },
      ],
    }),
    resource('secret', {
      name: 'keys',
      tls_certificate: { certificate_chain: { inline_string: pair.chain }, private_key: { inline_string: pair.key } },
    }),
  ]);
  await (await fetch(`http://127.0.0.1:${proxy.port('test')}/`)).text();
});

async function decoded(kind: string, path: string): Promise<string[]> {
  const { body, status } = await ask(proxy.port('admin'), path);
  assert.equal(status, 200);
  const { stdout, stderr, status: exit } = spawnSync(program, [kind], { input: body, encoding: 'utf8' });
  assert.equal(exit, 0, stderr);
  return stdout.trim().split('\n');
}

test('/config_dump?include_eds is a ConfigDump, part by part', { skip }, async () => {
  assert.deepEqual(await decoded('config_dump', '/config_dump?include_eds'), [
    'envoy.admin.v3.BootstrapConfigDump',
    'envoy.admin.v3.ClustersConfigDump',
    'envoy.admin.v3.EndpointsConfigDump',
    'envoy.admin.v3.ListenersConfigDump',
    'envoy.admin.v3.ScopedRoutesConfigDump',
    'envoy.admin.v3.RoutesConfigDump',
    'envoy.admin.v3.SecretsConfigDump',
  ]);
});

for (const [path, types] of [
  ['/config_dump?resource=dynamic_active_clusters', ['envoy.admin.v3.ClustersConfigDump.DynamicCluster']],
  ['/config_dump?resource=dynamic_listeners', ['envoy.admin.v3.ListenersConfigDump.DynamicListener']],
  [
    '/config_dump?resource=dynamic_endpoint_configs&include_eds',
    ['envoy.admin.v3.EndpointsConfigDump.DynamicEndpointConfig'],
  ],
  ['/config_dump?resource=dynamic_active_secrets', ['envoy.admin.v3.SecretsConfigDump.DynamicSecret']],
  [
    '/config_dump?resource=static_route_configs&mask=route_config.name',
    ['envoy.admin.v3.RoutesConfigDump.StaticRouteConfig'],
  ],
  ['/config_dump?mask=bootstrap', ['envoy.admin.v3.BootstrapConfigDump']],
] as const) {
  test(`${path} decodes`, { skip }, async () => {
    assert.deepEqual([...new Set(await decoded('config_dump', path))], types);
  });
}

test('/server_info of the command line is a ServerInfo', { skip }, async () => {
  const parameters = ['run', '-c', 'examples/shop', '--component-log-level', 'http:debug'];
  const ports = ['--admin', '--status', '--metrics', '--outbound'].flatMap((flag) => [flag, '127.0.0.1:0']);
  const running = new PillionProcess(scope, [...parameters, ...ports]);
  const [, port] = await running.until(/admin listens on \S*:(\d+)/);
  const { body } = await ask(Number(port), '/server_info');
  const { stderr, status } = spawnSync(program, ['server_info'], { input: body, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
});

for (const [kind, path, type] of [
  ['clusters', '/clusters?format=json', 'envoy.admin.v3.Clusters'],
  ['listeners', '/listeners?format=json', 'envoy.admin.v3.Listeners'],
  ['server_info', '/server_info', 'envoy.admin.v3.ServerInfo'],
  ['certs', '/certs', 'envoy.admin.v3.Certificates'],
  ['memory', '/memory', 'envoy.admin.v3.Memory'],
  ['init_dump', '/init_dump', 'envoy.admin.v3.UnreadyTargetsDumps'],
] as const) {
  test(`${path} is ${type}`, { skip }, async () => assert.deepEqual(await decoded(kind, path), [type]));
}
