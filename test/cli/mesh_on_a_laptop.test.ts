/** Two Pillions, one machine, YAML alone: mutual TLS between them with certificates of the development CA. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fetchText } from '../support/fetch_text.ts';
import { PillionProcess } from '../support/pillion_process.ts';
import type { Scope } from '../support/scope.ts';
import { askOverTls } from '../support/tls_peers.ts';
import { freePort } from '../support/free_port.ts';

const yaml = (port: number, mode: string): string => `
apiVersion: apps/v1
kind: Deployment
metadata: { name: backend, namespace: shop }
spec:
  selector: { matchLabels: { app: backend } }
  template:
    metadata: { labels: { app: backend } }
    spec:
      serviceAccountName: backend
      containers: [{ name: app, ports: [{ containerPort: 8080 }] }]
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: frontend, namespace: web }
spec:
  selector: { matchLabels: { app: frontend } }
  template:
    metadata: { labels: { app: frontend } }
    spec:
      serviceAccountName: frontend
      containers: [{ name: app, ports: [{ containerPort: 8081 }] }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: backend, namespace: shop }
spec:
  hosts: [backend.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{ number: 80, name: http, protocol: HTTP }]
  endpoints:
    - address: 127.0.0.1
      ports: { http: ${port} }
      serviceAccount: backend
      labels: { security.istio.io/tlsMode: istio }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: shop }
spec: { mtls: { mode: ${mode} } }
`;

const NOWHERE = ['--admin', '127.0.0.1:0', '--status', '127.0.0.1:0', '--metrics', '127.0.0.1:0', '--concurrency', '1'];

async function startMesh(t: Scope, mode: string) {
  const seen: IncomingMessage[] = [];
  const application = createServer((request, response) => {
    seen.push(request);
    response.end('from the backend');
  }).listen(0, '127.0.0.1');
  await once(application, 'listening');
  t.after(() => application.close());
  const inbound = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'pillion-mesh-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'mesh.yaml');
  writeFileSync(file, yaml(inbound, mode));
  const app = `127.0.0.1:${(application.address() as AddressInfo).port}`;
  const server = new PillionProcess(t, [
    ...['run', '-c', file, '--workload', 'backend.shop', '--identity', 'development', '--app', app],
    ...['--inbound', `127.0.0.1:${inbound}=8080`, '--outbound', '127.0.0.1:0', ...NOWHERE],
  ]);
  const client = new PillionProcess(t, [
    'dev',
    file,
    '--workload',
    'frontend.web',
    '--outbound',
    '127.0.0.1:0',
    ...NOWHERE,
  ]);
  await server.until(/inbound_8080 listens on/);
  const [, port] = await client.until(/outbound\s+http:\/\/127\.0\.0\.1:(\d+)/);
  return { inbound, outbound: Number(port), seen, server, client };
}

test('a request between two workloads goes over mutual TLS, and strangers are reset', async (t) => {
  const { inbound, outbound, seen, server, client } = await startMesh(t, 'STRICT');
  const { status, body } = await fetchText(outbound, '/', { host: 'backend.shop' });
  assert.deepEqual([status, body], [200, 'from the backend']);
  const header = String(seen[0]?.headers['x-forwarded-client-cert']);
  assert.match(
    header,
    /^By=spiffe:\/\/cluster\.local\/ns\/shop\/sa\/backend;Hash=[0-9a-f]{64};Subject="";URI=spiffe:\/\/cluster\.local\/ns\/web\/sa\/frontend$/,
  );
  await assert.rejects(fetchText(inbound, '/'), /ECONNRESET|socket hang up/);
  await server.until(/the client 127\.0\.0\.1:\d+ spoke plain text, which no filter chain takes/);
  const stranger = await askOverTls(inbound, { ALPNProtocols: ['istio-http/1.1'] });
  assert.equal(stranger.text, '');
  await server.until(
    /was refused by mutual TLS as spiffe:\/\/cluster\.local\/ns\/shop\/sa\/backend: it showed no certificate/,
  );
  assert.match(server.stderr, /chain .{0,2}"inbound_8080_mtls.{0,2}" \(\S+mesh\.yaml:38\)/);
  for (const text of [server.stderr, server.stdout, client.stderr, client.stdout])
    assert.doesNotMatch(text, /PRIVATE KEY/);
});

test('PERMISSIVE takes both', async (t) => {
  const { inbound, outbound, seen } = await startMesh(t, 'PERMISSIVE');
  assert.equal((await fetchText(outbound, '/', { host: 'backend.shop' })).status, 200);
  assert.equal((await fetchText(inbound, '/')).status, 200);
  assert.notEqual(seen[0]?.headers['x-forwarded-client-cert'], undefined);
  assert.equal(seen[1]?.headers['x-forwarded-client-cert'], undefined);
});

test('without a certificate STRICT is refused at the start, naming the policy', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-mesh-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, 'mesh.yaml');
  writeFileSync(file, yaml(1, 'STRICT'));
  const process = new PillionProcess(t, [
    ...['run', '-c', file, '--workload', 'backend.shop', '--inbound', '127.0.0.1:0=8080', '--identity', 'none'],
    ...['--outbound', '127.0.0.1:0', ...NOWHERE],
  ]);
  const { code, stderr } = await process.ended;
  assert.notEqual(code, 0);
  assert.match(
    stderr,
    /PeerAuthentication "default" \(\S+mesh\.yaml:\d+.*wants mutual TLS, and the proxy has no certificate/,
  );
});
