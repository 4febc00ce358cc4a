/** `pillion run` beside a workload, with istiod as its control plane and its CA, and no agent in between. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Resolver } from 'node:dns/promises';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Json } from '../../config/resources.ts';
import { AdsServer } from '../support/ads_server.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { eventually } from '../support/eventually.ts';
import { FakeIstioCa } from '../support/fake_istio_ca.ts';
import { MeshCa } from '../support/mesh_ca.ts';
import { PillionProcess, runPillion } from '../support/pillion_process.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import type { Scope } from '../support/scope.ts';
import { adsListener, get, routesTo } from '../support/xds_resources.ts';

/** As istiod writes it: the names of pilot-agent's secrets, from pilot-agent's SDS server. */
const SDS = {
  api_config_source: {
    api_type: 'GRPC',
    transport_api_version: 'V3',
    grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
  },
  initial_fetch_timeout: '0s',
  resource_api_version: 'V3',
};

function withMutualTls(listener: Json): Json {
  const [chain] = listener['filter_chains'] as Json[];
  const transport_socket = {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
      common_tls_context: {
        tls_certificate_sds_secret_configs: [{ name: 'default', sds_config: SDS }],
        validation_context_sds_secret_config: { name: 'ROOTCA', sds_config: SDS },
      },
      require_client_certificate: true,
    },
  };
  return { ...listener, name: 'mtls', filter_chains: [{ ...chain, transport_socket }] };
}

interface Istiod {
  readonly ads: AdsServer;
  readonly ca: FakeIstioCa;
  readonly environment: Readonly<Record<string, string>>;
}

/** TLS with a root of its own on both ports, a token in a file. */
async function startIstiod(t: Scope): Promise<Istiod> {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-istiod-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const mesh = new MeshCa('mesh');
  const server = mesh.issue(undefined, { dnsNames: ['localhost', 'istiod.istio-system.svc'] });
  const ads = await AdsServer.start(t, { tls: server });
  const ca = await FakeIstioCa.start(t, server);
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content);
    return join(folder, name);
  };
  const root = file('root-cert.pem', mesh.pem);
  return {
    ads,
    ca,
    environment: {
      PROXY_CONFIG: `discoveryAddress: localhost:${ads.port}\nproxyMetadata: { ISTIO_META_DNS_AUTO_ALLOCATE: "true" }`,
      XDS_ROOT_CA: root,
      CA_ROOT_CA: root,
      CA_ADDR: `localhost:${ca.port}`,
      CA_TOKEN_PATH: file('istio-token', `${ca.token}\n`),
      ISTIOD_SAN: 'istiod.istio-system.svc',
      POD_NAME: 'reviews-v1-6d4f8b7c9d-x2x4z',
      POD_NAMESPACE: 'shop',
      INSTANCE_IP: '10.1.2.3',
      SERVICE_ACCOUNT: 'reviews',
      ISTIO_META_CLUSTER_ID: 'east',
      ISTIO_META_NETWORK: 'net-1',
      ISTIO_META_MESH_ID: 'mesh-1',
      ISTIO_METAJSON_MORE: '{"APP_CONTAINERS":"reviews"}',
      ISTIO_META_LABELS: '{"app":"reviews","version":"v1","topology.istio.io/locality":"eu/west/1"}',
    },
  };
}

const FREE = ['--admin', '127.0.0.1:0', '--status', '127.0.0.1:0', '--metrics', '127.0.0.1:0', '--concurrency', '1'];

/** Free a moment ago. */
async function freeAddress(): Promise<string> {
  const probe = createServer().listen(0, '127.0.0.1');
  await once(probe, 'listening');
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  return `127.0.0.1:${port}`;
}

test('run takes its configuration and its identity from istiod when no file is given', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const { ads, ca, environment } = await startIstiod(t);
  ads.set({
    clusters: [staticCluster('c', [upstream.port]).json],
    listeners: [adsListener('plain', 'r'), withMutualTls(adsListener('mtls', 'r'))],
    routes: [routesTo('r', 'c')],
  });
  // Addresses are printed when it is ready; what it says before is what is asked here.
  const [dns, status] = [await freeAddress(), await freeAddress()];
  const flags = ['--admin', '127.0.0.1:0', '--metrics', '127.0.0.1:0', '--concurrency', '1'];
  const proxy = new PillionProcess(t, ['run', ...flags, '--dns', dns, '--status', status], { env: environment });
  await ads.until('names are asked for', () => ads.names.has('names'));
  const resolver = new Resolver({ timeout: 20_000, tries: 1 });
  resolver.setServers([dns]);
  const readiness = async (): Promise<number> => (await fetch(`http://${status}/healthz/ready`)).status;
  // Before the first table every name is a failure to try again, and the pod is not ready.
  await assert.rejects(resolver.resolve4('reviews.shop.svc.cluster.local'), { code: 'ESERVFAIL' });
  assert.equal(await readiness(), 503);
  await ads.push({
    names: [{ table: { 'reviews.shop.svc.cluster.local': { ips: ['10.0.0.9'], registry: 'Kubernetes' } } }],
  });
  const port = Number((await proxy.until(/plain listens on 127\.0\.0\.1:(\d+)/))[1]);
  await proxy.until(/mtls listens on/);
  assert.equal((await get(port)).status, 200);
  assert.deepEqual(await resolver.resolve4('reviews.shop.svc.cluster.local'), ['10.0.0.9']);
  await eventually('it is ready', async () => (await readiness()) === 200);
  assert.deepEqual(ads.tokens, ['Bearer token-1']);
  const [node] = ads.nodes;
  assert.deepEqual(
    [node?.['id'], node?.['cluster'], node?.['locality']],
    [
      'sidecar~10.1.2.3~reviews-v1-6d4f8b7c9d-x2x4z.shop~shop.svc.cluster.local',
      'reviews.shop',
      { region: 'eu', zone: 'west', sub_zone: '1' },
    ],
  );
  const metadata = node?.['metadata'] as Json;
  const shown = Object.fromEntries(
    [
      'NAME',
      'NAMESPACE',
      'CLUSTER_ID',
      'NETWORK',
      'MESH_ID',
      'APP_CONTAINERS',
      'WORKLOAD_NAME',
      'SERVICE_ACCOUNT',
      'DNS_AUTO_ALLOCATE',
      'INTERCEPTION_MODE',
    ].map((key) => [key, metadata[key]]),
  );
  assert.deepEqual(shown, {
    NAME: 'reviews-v1-6d4f8b7c9d-x2x4z',
    NAMESPACE: 'shop',
    CLUSTER_ID: 'east',
    NETWORK: 'net-1',
    MESH_ID: 'mesh-1',
    APP_CONTAINERS: 'reviews',
    WORKLOAD_NAME: 'reviews-v1',
    SERVICE_ACCOUNT: 'reviews',
    DNS_AUTO_ALLOCATE: 'true',
    INTERCEPTION_MODE: 'REDIRECT',
  });
  assert.equal(ca.calls[0]?.spiffeId, 'spiffe://cluster.local/ns/shop/sa/reviews');
  assert.doesNotMatch(proxy.stderr, /cannot be subscribed|Cannot use/);
  proxy.signal('SIGTERM');
  assert.equal((await proxy.ended).code, 0);
});

test('run waits for istiod when its certificate is not to be trusted, and says why', async (t) => {
  const { ads, environment } = await startIstiod(t);
  const folder = mkdtempSync(join(tmpdir(), 'pillion-other-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const other = join(folder, 'root.pem');
  writeFileSync(other, new MeshCa('other').pem);
  const proxy = new PillionProcess(t, ['run', ...FREE], { env: { ...environment, XDS_ROOT_CA: other } });
  await proxy.until(/The stream to the config server xds-grpc is lost: /);
  assert.equal(ads.nodes.length, 0, 'it has told nobody who it is');
});

const WRONG: readonly (readonly [string, readonly string[], Readonly<Record<string, string>>, RegExp])[] = [
  ['an address is none', ['--discovery', 'istiod'], {}, /Cannot use the discovery address "istiod": HOST:PORT/],
  ['files are given beside it', ['--discovery', 'istiod:15012', '-c', 'x.yaml'], {}, /--discovery stands alone/],
  ['PROXY_CONFIG is no YAML', [], { PROXY_CONFIG: '{' }, /Cannot read PROXY_CONFIG/],
  [
    'the root is not there',
    ['--discovery', 'istiod:15012'],
    { XDS_ROOT_CA: '/nowhere' },
    /trusted_ca\.filename: cannot be read/,
  ],
  ['metadata is no JSON', ['--discovery', 'istiod:15010'], { ISTIO_METAJSON_X: 'x' }, /Cannot use ISTIO_METAJSON_X/],
];
for (const [what, parameters, env, complaint] of WRONG) {
  test(`run says what is wrong when ${what}`, async (t) => {
    const { code, stderr } = await runPillion(t, ['run', ...FREE, ...parameters], { env });
    assert.match(stderr, complaint);
    assert.ok(code === 2 || code === 3, `exit code ${code}`);
  });
}
