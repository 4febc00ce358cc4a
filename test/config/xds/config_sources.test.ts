/** Where resources may come from, other than one aggregated stream: a stream of their own, another server, TLS, files. */
import assert from 'node:assert/strict';
import { mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { Json } from '../../../config/resources.ts';
import { xdsSource } from '../../../config/xds/bootstrap_source.ts';
import { AdsServer } from '../../support/ads_server.ts';
import { staticCluster } from '../../support/envoy_resources.ts';
import { MeshCa } from '../../support/mesh_ca.ts';
import { grpcCluster } from '../../support/pushed_proxy.ts';
import { answering, RawUpstream } from '../../support/raw_peers.ts';
import { beginTestProxy, type TestProxy } from '../../support/running_proxy.ts';
import type { Scope } from '../../support/scope.ts';
import { adsListener, assignment, edsCluster, get, routesTo } from '../../support/xds_resources.ts';

const URL = 'type.googleapis.com/';

function begin(t: Scope, bootstrap: Json): { proxy: TestProxy; logs: string[] } {
  const logs: string[] = [];
  const node = { id: 'test', cluster: 'test', version: 'test' };
  const source = xdsSource(bootstrap, node, { log: (level, message) => void logs.push(`${level}: ${message}`) });
  const proxy = beginTestProxy(t, [], { sources: [source] });
  proxy.running.ready.catch(() => {});
  return { proxy, logs };
}

/** Names `source` wherever resources name where others come from. */
function from(source: Json, json: Json): Json {
  const ads = JSON.stringify({ ads: {}, resource_api_version: 'V3', initial_fetch_timeout: '0s' });
  return JSON.parse(JSON.stringify(json).replaceAll(ads, JSON.stringify(source))) as Json;
}

const api = (type: string, service: Json = { envoy_grpc: { cluster_name: 'xds' } }): Json => ({
  resource_api_version: 'V3',
  initial_fetch_timeout: '0s',
  api_config_source: { api_type: type, transport_api_version: 'V3', grpc_services: [service] },
});

for (const [type, streams] of [
  ['GRPC', 4],
  ['DELTA_GRPC', 4],
  ['AGGREGATED_GRPC', 1],
  ['AGGREGATED_DELTA_GRPC', 1],
] as const) {
  test(`${type}: ${streams === 1 ? 'one stream' : 'a stream of its own'} for each type`, async (t) => {
    const upstream = await RawUpstream.start(t, answering());
    const ads = await AdsServer.start(t);
    const source = api(type);
    ads.set({
      clusters: [from(source, edsCluster('c'))],
      endpoints: [assignment('c', upstream.port)],
      listeners: [from(source, adsListener('l', 'r'))],
      routes: [routesTo('r', 'c')],
    });
    const { proxy } = begin(t, {
      dynamic_resources: { cds_config: source, lds_config: source },
      static_resources: { clusters: [grpcCluster('xds', ads.port)] },
    });
    await proxy.running.ready;
    assert.equal((await get(proxy.port('l'))).status, 200);
    assert.equal(ads.streamCount, streams);
    assert.equal(ads.nodes.length, streams, 'each stream says who it is');
  });
}

test('google_grpc over TLS, with a token and headers', async (t) => {
  const mesh = new MeshCa();
  const server = mesh.issue(undefined, { dnsNames: ['localhost'] });
  const ads = await AdsServer.start(t, { tls: server });
  ads.set({ clusters: [staticCluster('c', [1]).json] });
  const google_grpc = {
    target_uri: `localhost:${ads.port}`,
    stat_prefix: 'xds',
    channel_credentials: { ssl_credentials: { root_certs: { inline_string: mesh.pem } } },
    call_credentials: [{ access_token: 'secret' }],
  };
  const { proxy } = begin(t, {
    dynamic_resources: {
      ads_config: {
        api_type: 'DELTA_GRPC',
        transport_api_version: 'V3',
        grpc_services: [{ google_grpc, initial_metadata: [{ key: 'X-Who', value: 'me' }] }],
      },
      cds_config: { ads: {}, resource_api_version: 'V3' },
    },
  });
  await proxy.running.ready;
  assert.deepEqual(ads.tokens, ['Bearer secret']);
});

test('files that a config source names are read, and read again when they change', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-path-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const [one, two] = [await RawUpstream.start(t, answering('one')), await RawUpstream.start(t, answering('two'))];
  const file = (name: string, type: string, resources: readonly Json[]): Json => {
    const path = join(folder, name);
    const content = { version_info: '1', resources: resources.map((json) => ({ '@type': `${URL}${type}`, ...json })) };
    // As Kubernetes and config agents do it: whole files take each other's place.
    writeFileSync(`${path}.new`, JSON.stringify(content));
    renameSync(`${path}.new`, path);
    return { path_config_source: { path }, resource_api_version: 'V3' };
  };
  const eds = (port: number): Json =>
    file('eds.json', 'envoy.config.endpoint.v3.ClusterLoadAssignment', [assignment('c', port)]);
  const endpoints = eds(one.port);
  const routes = file('rds.json', 'envoy.config.route.v3.RouteConfiguration', [routesTo('r', 'c')]);
  const { proxy, logs } = begin(t, {
    dynamic_resources: {
      cds_config: file('cds.json', 'envoy.config.cluster.v3.Cluster', [from(endpoints, edsCluster('c'))]),
      lds_config: file('lds.json', 'envoy.config.listener.v3.Listener', [from(routes, adsListener('l', 'r'))]),
    },
  });
  await proxy.running.ready;
  assert.equal((await get(proxy.port('l'))).body, 'one');
  const reported = proxy.reports.length;
  eds(two.port);
  while (proxy.reports.length === reported) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.equal((await get(proxy.port('l'))).body, 'two');
  writeFileSync(join(folder, 'eds.json'), '{ "resources": [');
  while (!logs.some((line) => line.includes('Cannot use'))) await new Promise((resolve) => setTimeout(resolve, 10));
  assert.match(logs.find((line) => line.includes('Cannot use')) ?? '', /eds\.json/);
  assert.equal((await get(proxy.port('l'))).body, 'two', 'what cannot be read changes nothing');
});

const BAD: readonly (readonly [what: string, dynamic: Json, complaint: RegExp])[] = [
  ['REST', { cds_config: api('REST') }, /api_type: REST is not supported: use GRPC or DELTA_GRPC/],
  [
    'a cluster that is not static',
    { cds_config: api('GRPC', { envoy_grpc: { cluster_name: 'nobody' } }) },
    /cluster_name: "nobody" is no cluster of static_resources/,
  ],
  ['version 2', { cds_config: { ads: {}, resource_api_version: 'V2' } }, /resource_api_version: V2 is gone/],
  ['xdstp names', { cds_resources_locator: 'xdstp://x' }, /cds_resources_locator: xdstp names are not supported/],
  [
    'no service',
    { ads_config: { api_type: 'GRPC', transport_api_version: 'V3' } },
    /ads_config\.grpc_services: one service is required/,
  ],
];
describe('what cannot be used is refused at the start', () => {
  for (const [what, dynamic_resources, complaint] of BAD) {
    test(`when it is ${what}`, () => {
      const node = { id: 'a', cluster: 'b', version: 'c' };
      assert.throws(() => xdsSource({ dynamic_resources }, node, { log: () => {} }), complaint);
    });
  }

  test('when nobody knows who the proxy is', () => {
    const dynamic_resources = { cds_config: { ads: {} } };
    const nobody = { id: '', cluster: '', version: '' };
    assert.throws(() => xdsSource({ dynamic_resources }, nobody, { log: () => {} }), /id and cluster are required/);
  });
});
