/** Istio YAML in, traffic through: the compiler, the explicit listeners and the data plane together. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { request } from 'node:http';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { Configuration } from '../../cli/configuration.ts';
import { createEchoServer } from '../../cli/echo_server.ts';
import { Mocks } from '../../cli/mocks.ts';
import { readProxyFlags } from '../../cli/proxy_flags.ts';
import { startProxy } from '../../proxy/main.ts';
import type { RunningProxy } from '../../proxy/proxy_options.ts';
import { fileScope, type Scope } from '../support/scope.ts';

const scope = fileScope();
const shop = new URL('../../examples/shop', import.meta.url).pathname;

interface Mesh {
  readonly running: RunningProxy;
  readonly configuration: Configuration;
  /** A request to the outbound proxy for a host. */
  ask(host: string, path?: string, headers?: Record<string, string>): Promise<Response>;
}

async function startMesh(
  on: Scope,
  values: Record<string, string | string[]>,
  folder: string,
  mock = true,
): Promise<Mesh> {
  const flags = readProxyFlags({ outbound: '127.0.0.1:0', ...values }, [folder], {});
  const mocks = mock ? new Mocks() : undefined;
  const configuration = new Configuration(flags, { dev: true, watch: false, ...(mocks !== undefined && { mocks }) });
  await configuration.source.prepare();
  const running = startProxy({
    concurrency: 1,
    sources: [configuration.source],
    admin: undefined,
    status: undefined,
    metrics: undefined,
    log: { enabled: () => false, log: () => {} },
    node: { id: '', cluster: '', metadata: {} },
    commandLine: {},
    drainTimeMs: 500,
    poisonReadBuffers: true,
  });
  await running.ready;
  on.after(() => running.stop('now'));
  on.after(() => mocks?.close());
  return {
    running,
    configuration,
    ask(host, path = '/', headers = {}) {
      const { port } = running.addresses.get('outbound') as { port: number };
      return new Promise((resolve, reject) => {
        // fetch sets the Host itself.
        const sent = request({ port, host: '127.0.0.1', path, headers: { ...headers, host } }, (response) => {
          response.toArray().then((chunks) => {
            const body = response.statusCode === 204 ? null : Buffer.concat(chunks as Buffer[]);
            resolve(
              new Response(body, {
                status: response.statusCode ?? 0,
                headers: response.headers as Record<string, string>,
              }),
            );
          }, reject);
        });
        sent.once('error', reject).end();
      });
    },
  };
}

function folderWith(on: Scope, yaml: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-mesh-'));
  on.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'mesh.yaml'), yaml);
  return folder;
}

async function workload(response: Response): Promise<string> {
  const body = (await response.json()) as { workload: string };
  return body.workload;
}

let mesh: Mesh;
before(async () => {
  mesh = await startMesh(scope, { accessLog: 'off' }, shop);
});

test('the shop shares reviews by weight and sends testers to v3', async () => {
  const counts = new Map<string, number>();
  for (let i = 0; i < 300; i++) {
    const name = await workload(await mesh.ask('reviews:9080'));
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const canary = counts.get('reviews-v2') ?? 0;
  // 30 wanted; more than 12 off happens once in 50,000 runs (binomial, 4.2 sigma is 22 off).
  assert.ok(canary >= 8 && canary <= 60, `${canary} of 300`);
  assert.equal(counts.get('reviews-v3'), undefined);
  assert.equal(await workload(await mesh.ask('reviews:9080', '/', { 'end-user': 'tester' })), 'reviews-v3');
});

test('the shop rewrites, redirects, sets headers and keeps a customer with one copy', async () => {
  const catalog = (await (await mesh.ask('catalog:8080', '/catalog/7?x=1')).json()) as { path: string };
  assert.equal(catalog.path, '/products/7?x=1');
  const moved = await mesh.ask('web', '/shop-2019/hats');
  assert.equal(moved.status, 301);
  assert.equal(moved.headers.get('location'), 'http://web/');
  assert.equal((await mesh.ask('cart:7070', '/', { customer: 'ann' })).headers.get('cache-control'), 'no-store');
  assert.equal((await mesh.ask('cart:7070', '/delay/2500')).status, 504);
});

test('a service is found by its short name, its namespace, its full name, and port 80 where none is given', async () => {
  for (const host of [
    'web',
    'web:80',
    'web.default',
    'web.default.svc',
    'web.default.svc.cluster.local',
    'web.default.svc.cluster.local:80',
    'WEB',
  ]) {
    assert.equal(await workload(await mesh.ask(host)), 'web', host);
  }
  for (const host of ['reviews:9080', 'reviews.default:9080', 'reviews.default.svc.cluster.local:9080']) {
    assert.match(await workload(await mesh.ask(host)), /^reviews-v[12]$/, host);
  }
});

const REGISTRY_ONLY = `
apiVersion: v1
kind: ConfigMap
metadata: { name: istio, namespace: istio-system }
data:
  mesh: |
    outboundTrafficPolicy: { mode: REGISTRY_ONLY }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { selector: { app: web }, ports: [{ name: http, port: 80, targetPort: 8080 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web, version: v7 } }
    spec: { containers: [{ name: web, ports: [{ containerPort: 8080 }] }] }
`;

test('a host that no service has is answered 502 under REGISTRY_ONLY', async (t) => {
  const only = await startMesh(t, { accessLog: 'off' }, folderWith(t, REGISTRY_ONLY));
  assert.equal((await only.ask('nobody.example')).status, 502);
  assert.equal(await workload(await only.ask('web')), 'web');
});

test('a host that no service has is called by DNS under ALLOW_ANY, but not our own ports', async () => {
  const server = createEchoServer({ workload: 'outside', version: '' });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  scope.after(() => server.close());
  scope.after(() => server.closeAllConnections());
  const { port } = server.address() as { port: number };
  assert.equal(await workload(await mesh.ask(`localhost:${port}`)), 'outside');
  assert.equal(await workload(await mesh.ask(`127.0.0.1:${port}`)), 'outside');
  const own = mesh.running.addresses.get('outbound') as { port: number };
  assert.equal((await mesh.ask(`127.0.0.1:${own.port}`)).status, 403);
  assert.equal((await mesh.ask(`localhost:${own.port}`)).status, 403);
  assert.equal((await mesh.ask('169.254.169.254')).status, 403);
});

test('the inbound side of a port reaches the application of the workload', async (t) => {
  const inbound = await startMesh(
    t,
    { accessLog: 'off', inbound: ['127.0.0.1:0=8080'], workload: 'web.default' },
    folderWith(t, REGISTRY_ONLY),
  );
  const { port } = inbound.running.addresses.get('inbound_8080') as { port: number };
  const response = await fetch(`http://127.0.0.1:${port}/x`);
  assert.equal(response.headers.get('server'), 'istio-envoy');
  assert.equal(await workload(response), 'web');
  assert.equal(inbound.configuration.identity?.labels['version'], 'v7');
});

test('--workload names nobody: a warning, not an error', async (t) => {
  const lost = await startMesh(
    t,
    { accessLog: 'off', workload: 'nobody.here', labels: 'a=b' },
    folderWith(t, REGISTRY_ONLY),
  );
  assert.match(
    lost.configuration.warnings.join('\n'),
    /No Pod, Deployment or WorkloadEntry is named "nobody" in namespace "here"/,
  );
  assert.deepEqual({ ...lost.configuration.identity?.labels }, { a: 'b' });
});
