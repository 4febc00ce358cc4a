/** The admin interface of a running proxy: shapes, methods, who may ask, odd questions. */
import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { before, test } from 'node:test';
import { ENDPOINTS } from '../../../proxy/admin/endpoints.ts';
import { ask, askJson } from '../../support/admin_client.ts';
import { httpListener, routeConfig, staticCluster } from '../../support/envoy_resources.ts';
import { MeshCa } from '../../support/mesh_ca.ts';
import { answering, RawUpstream } from '../../support/raw_peers.ts';
import { startTestProxy, type TestProxy } from '../../support/running_proxy.ts';
import { fileScope } from '../../support/scope.ts';
import { resource } from '../../support/static_source.ts';

const scope = fileScope();
let proxy: TestProxy;
let port: number;
const pair = new MeshCa().issue('spiffe://cluster.local/ns/shop/sa/web');

type Config = Record<string, unknown> & { readonly '@type': string };

before(async () => {
  const upstream = await RawUpstream.start(scope, answering());
  const routes = routeConfig([{ match: { prefix: '/' }, route: { cluster: 'web' } }]);
  proxy = await startTestProxy(scope, [
    httpListener({ routes, name: 'test' }),
    { ...httpListener({ routes: 'dynamic-routes', name: 'static-one' }), isStatic: true },
    resource('route', { ...routes, name: 'dynamic-routes' }),
    staticCluster('web', [upstream.port]),
    { ...staticCluster('fixed', [9], { alt_stat_name: 'fixed_alt' }), isStatic: true },
    resource('cluster', {
      name: 'eds',
      type: 'EDS',
      eds_cluster_config: { service_name: 'eds-service', eds_config: { ads: {} } },
    }),
    resource('endpoint', {
      cluster_name: 'eds-service',
      endpoints: [
        {
          locality: { region: 'r', zone: 'z' },
          priority: 1,
          lb_endpoints: [
            {
              endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: 80 } } },
              health_status: 'DEGRADED',
            },
          ],
        },
      ],
    }),
    resource('secret', {
      name: 'keys',
      tls_certificate: {
        certificate_chain: { inline_string: pair.chain },
        private_key: { inline_bytes: Buffer.from(pair.key).toString('base64') },
      },
    }),
  ]);
  port = proxy.port('admin');
  await (await fetch(`http://127.0.0.1:${proxy.port('test')}/`)).text();
});

async function dump(query = ''): Promise<Map<string, Config>> {
  const { configs } = (await askJson(port, `/config_dump${query}`)) as { configs: Config[] };
  return new Map(configs.map((config) => [config['@type'].replace('type.googleapis.com/envoy.admin.v3.', ''), config]));
}

test('config_dump has a typed section for each kind, dynamic and static apart', async () => {
  const sections = await dump('?include_eds');
  assert.deepEqual(
    [...sections.keys()],
    [
      'BootstrapConfigDump',
      'ClustersConfigDump',
      'EndpointsConfigDump',
      'ListenersConfigDump',
      'ScopedRoutesConfigDump',
      'RoutesConfigDump',
      'SecretsConfigDump',
    ],
  );
  const names = (section: string, list: string, inner: string): unknown[] =>
    ((sections.get(section)?.[list] ?? []) as Record<string, { name: string }>[]).map((item) => item[inner]?.name);
  assert.deepEqual(names('ClustersConfigDump', 'static_clusters', 'cluster'), ['fixed']);
  assert.deepEqual(names('ClustersConfigDump', 'dynamic_active_clusters', 'cluster'), ['web', 'eds']);
  assert.deepEqual(names('ListenersConfigDump', 'static_listeners', 'listener'), ['static-one']);
  assert.deepEqual(names('RoutesConfigDump', 'static_route_configs', 'route_config'), ['routes']);
  assert.deepEqual(names('RoutesConfigDump', 'dynamic_route_configs', 'route_config'), ['dynamic-routes']);
  const [listener] = (sections.get('ListenersConfigDump')?.['dynamic_listeners'] ?? []) as Record<
    string,
    Record<string, Record<string, unknown>>
  >[];
  assert.equal(
    listener?.['active_state']?.['listener']?.['@type'],
    'type.googleapis.com/envoy.config.listener.v3.Listener',
  );
  assert.equal((await dump()).has('EndpointsConfigDump'), false);
});

test('config_dump with include_eds shows endpoints with health and weight', async () => {
  const endpoints = (await dump('?include_eds')).get('EndpointsConfigDump') as Config & {
    dynamic_endpoint_configs: { endpoint_config: { cluster_name: string; endpoints: { lb_endpoints: object[] }[] } }[];
    static_endpoint_configs: { endpoint_config: { cluster_name: string } }[];
  };
  const [eds] = endpoints.dynamic_endpoint_configs;
  assert.equal(eds?.endpoint_config.cluster_name, 'eds-service');
  assert.deepEqual(eds?.endpoint_config.endpoints[0]?.lb_endpoints, [
    {
      endpoint: { address: { socket_address: { address: '10.0.0.1', port_value: 80 } } },
      health_status: 'DEGRADED',
      load_balancing_weight: 1,
    },
  ]);
  assert.deepEqual(endpoints.static_endpoint_configs.map((item) => item.endpoint_config.cluster_name).sort(), [
    'fixed',
    'web',
  ]);
});

test('config_dump never shows a key, but where secrets are and that they are', async () => {
  const { body } = await ask(port, '/config_dump?include_eds');
  assert.equal(body.includes('PRIVATE KEY'), false);
  assert.equal(body.includes(Buffer.from(pair.key).toString('base64').slice(0, 40)), false);
  const [secret] = ((await dump()).get('SecretsConfigDump')?.['dynamic_active_secrets'] ?? []) as Record<
    string,
    Config
  >[];
  assert.deepEqual(secret?.['secret'], {
    '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret',
    name: 'keys',
    tls_certificate: {
      certificate_chain: { inline_string: pair.chain },
      private_key: { inline_bytes: Buffer.from('[redacted]').toString('base64') },
    },
  });
});

test('config_dump narrows by name_regex, resource and mask', async () => {
  const byName = await dump('?name_regex=we.*');
  assert.equal(((byName.get('ClustersConfigDump')?.['dynamic_active_clusters'] ?? []) as unknown[]).length, 1);
  assert.equal(byName.get('ClustersConfigDump')?.['static_clusters'], undefined);
  const one = (await askJson(port, '/config_dump?resource=dynamic_active_clusters&mask=cluster.name')) as {
    configs: object[];
  };
  assert.deepEqual(one.configs[0], {
    '@type': 'type.googleapis.com/envoy.admin.v3.ClustersConfigDump.DynamicCluster',
    cluster: { '@type': 'type.googleapis.com/envoy.config.cluster.v3.Cluster', name: 'web' },
  });
  assert.deepEqual([...(await dump('?mask=bootstrap')).keys()], ['BootstrapConfigDump']);
  assert.deepEqual(await askJson(port, '/config_dump?resource=dynamic_warming_clusters'), {});
});

test('clusters counts connections and requests of each host, in text and in JSON', async () => {
  const { body } = await ask(port, '/clusters');
  assert.match(body, /^web::default_priority::max_connections::1024$/m);
  assert.match(body, /^web::127\.0\.0\.1:\d+::cx_total::1$/m);
  assert.match(body, /^web::127\.0\.0\.1:\d+::rq_success::1$/m);
  assert.match(body, /^fixed::observability_name::fixed_alt$/m);
  assert.match(body, /^fixed::added_via_api::false$/m);
  assert.match(body, /^eds::10\.0\.0\.1:80::health_flags::\/degraded_eds_health$/m);
  const { cluster_statuses: all } = (await askJson(port, '/clusters?format=json&filter=^web$')) as {
    cluster_statuses: { name: string; added_via_api?: boolean; host_statuses: { stats: object[]; weight: number }[] }[];
  };
  assert.equal(all.length, 1);
  assert.equal(all[0]?.added_via_api, true);
  assert.deepEqual(
    all[0]?.host_statuses[0]?.stats.find((item) => 'name' in item && item.name === 'rq_total'),
    {
      value: '1',
      name: 'rq_total',
    },
  );
});

test('listeners names real addresses', async () => {
  const { body } = await ask(port, '/listeners');
  assert.match(body, new RegExp(`^test::127\\.0\\.0\\.1:${proxy.port('test')}$`, 'm'));
  const { listener_statuses: all } = (await askJson(port, '/listeners?format=json')) as {
    listener_statuses: { name: string; local_address: { socket_address: { port_value: number } } }[];
  };
  const found = all.find(({ name }) => name === 'test');
  assert.equal(found?.local_address.socket_address.port_value, proxy.port('test'));
});

for (const [path, status, pattern] of [
  ['/ready', 200, /^LIVE\n$/],
  ['/server_info', 200, /"state": "LIVE"/],
  ['/memory', 200, /"total_physical_bytes": "\d+"/],
  ['/runtime', 200, /"layers": \[\]/],
  ['/init_dump', 200, /^\{\}/],
  ['/hot_restart_version', 200, /^disabled$/],
  ['/certs', 200, /"certificates": \[/],
  ['/help', 200, /\/config_dump: dump current Envoy configs\n {6}resource: /],
  ['/', 200, /<title>Pillion admin<\/title>/],
  ['/contention', 200, /Mutex contention/],
] as const) {
  test(`${path} answers as Envoy's does`, async () => {
    const { status: got, body } = await ask(port, path);
    assert.equal(got, status);
    assert.match(body, pattern);
  });
}

for (const [path, status, pattern] of [
  ['/nothing', 404, /^invalid path\. admin commands are:\n/],
  ['/stats?format=yaml', 400, /^usage: \/stats\?format=/],
  ['/stats?filter=(', 400, /^Invalid re2 regex/],
  [`/stats?filter=${'a'.repeat(2000)}`, 400, /longer than/],
  ['/stats?histogram_buckets=x', 400, /^usage: \/stats\?histogram_buckets=/],
  ['/stats?type=x', 400, /invalid &type= param/],
  ['/clusters?format=xml', 200, /^web::/m],
  ['/clusters?filter=(', 400, /^Invalid re2 regex/],
  ['/listeners?format=xml', 200, /^test::/m],
  ['//listeners', 200, /^test::/m],
  ['/%6Cist%65ners?format=text', 200, /^test::/m],
  ['/x/%2e%2E/.//listeners', 200, /^test::/m],
  ['/listeners/', 404, /^invalid path/],
  ['/%2flisteners', 404, /^invalid path/],
  ['//listeners%zz', 404, /^invalid path/],
  ['/config_dump?name_regex=(', 400, /^INVALID_ARGUMENT: Error while parsing name_regex/],
  ['/config_dump?resource=bogus', 404, /^bogus not found in config dump$/],
  ['/config_dump?resource=bootstrap', 400, /not a repeated field/],
  ['/config_dump?mask=bogus', 400, /could not be successfully applied/],
  ['/config_dump?mask=static_clusters.cluster.name', 400, /could not be successfully applied/],
  ['/stats?filter=__proto__&usedonly=%00', 200, /^$/],
] as const) {
  test(`${path.slice(0, 60)} is answered ${status}`, async () => {
    const { status: got, body } = await ask(port, path);
    assert.equal(got, status, body.slice(0, 200));
    assert.match(body, pattern);
  });
}

test('whatever changes something wants POST', async () => {
  for (const { path, mutates } of ENDPOINTS) {
    if (!mutates) continue;
    const { status, body } = await ask(port, path);
    assert.equal(status, 405, path);
    assert.equal(body, 'Method GET not allowed, POST required.');
  }
  assert.equal((await ask(port, '/ready', { method: 'POST' })).status, 200);
  assert.equal((await ask(port, '/ready', { method: 'DELETE' })).status, 405);
});

test('a foreign Host or Origin is refused, whatever it asks', async () => {
  const refused = async (headers: Record<string, string>, method = 'GET'): Promise<number> =>
    (await ask(port, '/healthcheck/ok', { headers, method })).status;
  assert.equal(await refused({ host: 'attacker.example' }), 403);
  assert.equal(await refused({ host: 'localhost.attacker.example:15000' }), 403);
  assert.equal(await refused({ origin: 'http://attacker.example' }, 'POST'), 403);
  assert.equal(await refused({ origin: 'null' }, 'POST'), 403);
  assert.equal(await refused({ 'sec-fetch-site': 'cross-site' }, 'POST'), 403);
  assert.equal(await refused({ host: 'localhost:15000', origin: 'http://localhost:15000' }, 'POST'), 200);
});

test('certs shows serial number, names and life of each certificate, and the first to end is a statistic', async () => {
  const { certificates } = (await askJson(port, '/certs')) as {
    certificates: {
      cert_chain: { path: string; serial_number: string; subject_alt_names: object[]; days_until_expiration: string }[];
    }[];
  };
  const [certificate] = certificates[0]?.cert_chain ?? [];
  assert.equal(certificate?.path, '<inline>');
  assert.match(certificate?.serial_number ?? '', /^[0-9a-f]+$/);
  assert.deepEqual(certificate?.subject_alt_names, [{ uri: 'spiffe://cluster.local/ns/shop/sa/web' }]);
  const days = Number(certificate?.days_until_expiration);
  for (let attempt = 0; attempt < 1500; attempt++) {
    if (proxy.value('server.days_until_first_cert_expiring') === days) return;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  assert.equal(proxy.value('server.days_until_first_cert_expiring'), days);
});

test('logging shows and sets levels as istioctl asks for them', async () => {
  const set = async (query: string) => ask(port, `/logging${query}`, { method: 'POST' });
  for (const query of ['', '?paths=']) assert.match((await set(query)).body, /^active loggers:\n {2}access_log: /);
  for (const [query, error] of [
    ['?level=loud', 'unknown logger level'],
    ['?nobody=debug', 'unknown logger name'],
    ['?rbac=loud', 'unknown logger level'],
    ['?rbac=debug&http=debug', 'invalid number of parameters'],
    ['?paths=rbac', 'empty logger name or empty logger level'],
  ] as const) {
    const { status, body } = await set(query);
    assert.equal(status, 400);
    assert.ok(body.startsWith(`error: ${error}\n\nusage: /logging?<name>=<level>`), body.slice(0, 80));
  }
});

test('runtime_modify needs an admin layer', async () => {
  assert.equal((await ask(port, '/runtime_modify?a=b', { method: 'POST' })).status, 503);
});

test('profilers want to be told, run once, and write a profile of every thread', async () => {
  const post = (path: string) => ask(port, path, { method: 'POST' });
  assert.equal((await post('/cpuprofiler')).status, 400);
  assert.equal((await post('/cpuprofiler?enable=y')).body, 'OK\n');
  assert.equal((await post('/cpuprofiler?enable=y')).status, 400);
  const { body } = await post('/cpuprofiler?enable=n');
  assert.match(body, /^OK\n\S+\.control\.cpuprofile\n\S+\.data-0\.cpuprofile\n$/);
  assert.equal((await post('/heapprofiler?enable=y')).status, 200);
  const { body: heap } = await post('/heapprofiler?enable=n');
  assert.match(heap, /data-0\.heapprofile/);
  for (const file of `${body}${heap}`.split('\n').filter((line) => line.startsWith('/'))) {
    JSON.parse(readFileSync(file, 'utf8'));
    rmSync(file);
  }
});

test('reset_counters zeroes counters and leaves gauges', async () => {
  assert.ok(proxy.value('cluster.web.upstream_rq_total') > 0);
  await ask(port, '/reset_counters', { method: 'POST' });
  assert.equal(proxy.value('cluster.web.upstream_rq_total'), 0);
  assert.equal(proxy.value('server.live'), 1);
});

test('healthcheck/fail and ok change readiness', async () => {
  await ask(port, '/healthcheck/fail', { method: 'POST' });
  assert.equal((await ask(port, '/ready')).status, 503);
  await ask(port, '/healthcheck/ok', { method: 'POST' });
  assert.equal((await ask(port, '/ready')).status, 200);
});
