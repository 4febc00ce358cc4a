/**
 * In Envoy's place: what Istio's pilot-agent does with its Envoy, done with bin/pillion. Its command line, its bootstrap,
 * ADS and SDS over its unix sockets, readiness through admin, drain, end. Source: istio/istio pkg/envoy/proxy.go,
 * pilot/cmd/pilot-agent/status/ready, pkg/envoy/agent.go.
 */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { type AddressInfo, createServer as createTcpServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { once } from 'node:events';
import { test } from 'node:test';
import { agentBootstrap } from '../support/agent_bootstrap.ts';
import { AdsServer } from '../support/ads_server.ts';
import { staticCluster } from '../support/envoy_resources.ts';
import { FakeSds } from '../support/fake_sds.ts';
import { MeshCa } from '../support/mesh_ca.ts';
import { PillionProcess, root, runPillion } from '../support/pillion_process.ts';
import { answering, RawUpstream } from '../support/raw_peers.ts';
import type { Scope } from '../support/scope.ts';
import { adsListener, get, routesTo } from '../support/xds_resources.ts';
import { eventually } from '../support/eventually.ts';

/** As pilot-agent passes them. */
const FLAGS = [
  '--drain-time-s',
  '45',
  '--drain-strategy',
  'immediate',
  '--local-address-ip-version',
  'v4',
  '--file-flush-interval-msec',
  '1000',
  '--disable-hot-restart',
  '--allow-unknown-static-fields',
  '-l',
  'warning',
  '--component-log-level',
  'misc:error',
  '--skip-deprecated-logs',
  '--concurrency',
  '1',
];

/** status/util: what the agent reads of statistics for readiness, and how. */
const READINESS =
  'usedonly&filter=^(cluster_manager\\.cds|listener_manager\\.lds)\\.(update_success|update_rejected)$|^server\\.state$|^listener_manager\\.workers_started$';

/** examples/istio/envoy with this checkout as what the image has in /opt/pillion. */
function asInTheImage(t: Scope): { readonly program: string; readonly env: Readonly<Record<string, string>> } {
  const home = mkdtempSync(join(tmpdir(), 'pillion-home-'));
  t.after(() => rmSync(home, { recursive: true, force: true }));
  mkdirSync(join(home, 'dist/cli'), { recursive: true });
  symlinkSync(process.execPath, join(home, 'node'));
  writeFileSync(join(home, 'dist/cli/main.js'), `import(${JSON.stringify(join(root, 'cli/main.ts'))});\n`);
  return { program: join(root, 'examples/istio/envoy'), env: { PILLION_HOME: home } };
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

interface Agent {
  readonly ads: AdsServer;
  readonly folder: string;
  readonly bootstrapPath: string;
  readonly admin: string;
  isReady(): Promise<boolean>;
}

async function startAgent(t: Scope): Promise<Agent> {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-agent-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  mkdirSync(join(folder, 'etc/istio/proxy'), { recursive: true });
  mkdirSync(join(folder, 'var/run/secrets/workload-spiffe-uds'), { recursive: true });
  const xdsSocket = join(folder, 'etc/istio/proxy/XDS');
  const ads = await AdsServer.start(t, { address: `unix:${xdsSocket}` });
  const sds = await FakeSds.start(t, join(folder, 'var/run/secrets/workload-spiffe-uds/socket'));
  const mesh = new MeshCa();
  sds.set(mesh.issue('spiffe://cluster.local/ns/shop/sa/web'), mesh.pem);
  const adminPort = await freePort();
  const admin = `http://127.0.0.1:${adminPort}`;
  const isReady = async (): Promise<boolean> => {
    const text = await fetch(`${admin}/stats?${READINESS}`).then(
      (response) => response.text(),
      () => '',
    );
    const value = (name: string): number => Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1] ?? Number.NaN);
    return (
      value('cluster_manager\\.cds\\.update_success') > 0 &&
      value('listener_manager\\.lds\\.update_success') > 0 &&
      value('server\\.state') === 0 &&
      value('listener_manager\\.workers_started') === 1
    );
  };
  const status = createServer((_request, response) => {
    void isReady().then((ready) => response.writeHead(ready ? 200 : 503).end());
  }).listen(0, '127.0.0.1');
  await once(status, 'listening');
  t.after(() => status.close());
  const agentPort = (status.address() as AddressInfo).port;
  const bootstrapPath = join(folder, 'etc/istio/proxy/envoy-rev.json');
  writeFileSync(bootstrapPath, JSON.stringify(agentBootstrap({ adminPort, xdsSocket, agentPort })));
  return { ads, folder, bootstrapPath, admin, isReady };
}

interface Listeners {
  readonly listener_statuses: readonly {
    readonly name: string;
    readonly local_address: { readonly socket_address: { readonly port_value: number } };
  }[];
}

async function portOf(admin: string, name: string): Promise<number> {
  const { listener_statuses } = (await (await fetch(`${admin}/listeners?format=json`)).json()) as Listeners;
  const found = listener_statuses.find((status) => status.name === name);
  assert.ok(found !== undefined, `no listener ${name} among ${listener_statuses.map((status) => status.name).join()}`);
  return found.local_address.socket_address.port_value;
}

/** istiod's inbound listener in small: mutual TLS with the agent's secrets. */
function inbound(): ReturnType<typeof adsListener> {
  const listener = adsListener('inbound', 'r');
  const [chain] = listener['filter_chains'] as object[];
  const sds_config = {
    api_config_source: {
      api_type: 'GRPC',
      transport_api_version: 'V3',
      grpc_services: [{ envoy_grpc: { cluster_name: 'sds-grpc' } }],
      set_node_on_first_message_only: true,
    },
    initial_fetch_timeout: '0s',
    resource_api_version: 'V3',
  };
  const typed_config = {
    '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext',
    common_tls_context: {
      tls_certificate_sds_secret_configs: [{ name: 'default', sds_config }],
      combined_validation_context: {
        default_validation_context: {},
        validation_context_sds_secret_config: { name: 'ROOTCA', sds_config },
      },
    },
    require_client_certificate: true,
  };
  const transport_socket = { name: 'envoy.transport_sockets.tls', typed_config };
  return { ...listener, traffic_direction: 'INBOUND', filter_chains: [{ ...chain, transport_socket }] };
}

test('pilot-agent starts it, feeds it over its sockets, finds it ready, drains it and ends it', async (t) => {
  const upstream = await RawUpstream.start(t, answering());
  const agent = await startAgent(t);
  const { ads, admin } = agent;
  ads.set({
    clusters: [staticCluster('c', [upstream.port]).json],
    listeners: [{ ...adsListener('outbound', 'r'), traffic_direction: 'OUTBOUND' }, inbound()],
  });
  // Routes come later, from the test.
  ads.answersByItself = false;
  const proxy = new PillionProcess(t, ['-c', agent.bootstrapPath, ...FLAGS], {
    cwd: agent.folder,
    ...asInTheImage(t),
  });
  await ads.until('routes are asked for', () => ads.names.has('routes'));
  assert.equal(await agent.isReady(), false, 'it is not ready while a listener warms');
  await ads.push({ routes: [routesTo('r', 'c')] });
  await eventually('it is ready', agent.isReady);
  assert.equal((await get(await portOf(admin, 'outbound'))).status, 200);
  // Its own static listeners lead to the agent and to admin.
  const ready = await fetch(`http://127.0.0.1:${await portOf(admin, 'listeners[1]')}/healthz/ready`);
  assert.equal(ready.status, 200);
  const metrics = await fetch(`http://127.0.0.1:${await portOf(admin, 'listeners[0]')}/stats/prometheus`);
  assert.match(await metrics.text(), /envoy_server_state/);
  // What istioctl reads.
  const dump = (await (await fetch(`${admin}/config_dump`)).json()) as { configs: Record<string, unknown>[] };
  const types = dump.configs.map((config) => String(config['@type']).split('.').at(-1));
  for (const type of [
    'BootstrapConfigDump',
    'ClustersConfigDump',
    'ListenersConfigDump',
    'RoutesConfigDump',
    'SecretsConfigDump',
  ]) {
    assert.ok(types.includes(type), `${type} is missing among ${types.join()}`);
  }
  const secrets = JSON.stringify(dump.configs[types.indexOf('SecretsConfigDump')]);
  assert.match(secrets, /"name":"default"/);
  assert.doesNotMatch(secrets, /PRIVATE KEY/);

  const drained = await fetch(`${admin}/drain_listeners?inboundonly&graceful`, { method: 'POST' });
  assert.equal(drained.status, 200);
  assert.equal((await get(await portOf(admin, 'outbound'))).status, 200, 'outbound goes on');
  const quit = await fetch(`${admin}/quitquitquit`, { method: 'POST' });
  assert.equal(quit.status, 200);
  assert.equal((await proxy.ended).code, 0, proxy.stderr);
  assert.doesNotMatch(proxy.stderr, /"level":"error"/);
});

test('its bootstrap passes --mode validate', async (t) => {
  const { bootstrapPath, folder } = await startAgent(t);
  const { code, stderr } = await runPillion(t, ['-c', bootstrapPath, '--mode', 'validate', ...FLAGS], { cwd: folder });
  assert.equal(code, 0, stderr);
});

test('the example starts Node as bin/pillion does, and its manifest is Istio YAML', async (t) => {
  const flags = (file: string): string[] =>
    readFileSync(join(root, file), 'utf8').match(/--(?:disable|max)-[a-z-]+(?:=\w+)?/g) ?? [];
  assert.deepEqual(flags('examples/istio/envoy'), flags('Dockerfile').slice(-4));
  const { code, stderr } = await runPillion(t, ['validate', '-c', 'examples/istio/web.yaml']);
  assert.equal(code, 0, stderr);
});
