/** `https_proxy=http://127.0.0.1:PORT curl https://…` through `pillion dev`, within the outbound traffic policy. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { findProgram } from '../support/find_program.ts';
import { MeshCa } from '../support/mesh_ca.ts';
import { PillionProcess } from '../support/pillion_process.ts';
import type { Scope } from '../support/scope.ts';

const skip = findProgram('curl') === undefined ? 'curl is not installed: apt-get install curl' : false;

async function startHttps(t: Scope): Promise<number> {
  const { chain, key } = new MeshCa().issue(undefined, { dnsNames: ['localhost'] });
  const server = createServer({ cert: chain, key }, (_request, response) => response.end('through the tunnel'));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** Starts with these documents. @returns the outbound port. */
async function startProxy(t: Scope, yaml: string): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-test-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  writeFileSync(join(folder, 'mesh.yaml'), yaml);
  const free = ['--admin', '127.0.0.1:0', '--status', '127.0.0.1:0', '--metrics', '127.0.0.1:0'];
  const process = new PillionProcess(t, ['run', folder, '--concurrency', '1', '--outbound', '127.0.0.1:0', ...free]);
  const [, port] = await process.until(/outbound listens on 127\.0\.0\.1:(\d+)/);
  return Number(port);
}

async function curl(proxy: number, url: string): Promise<{ body: string; connect: string }> {
  const args = ['-sk', '-m', '5', '-w', '\n%{http_connect}', '-x', `http://127.0.0.1:${proxy}`, url];
  const { stdout } = await promisify(execFile)('curl', args).catch((error: { stdout: string }) => error);
  const [body = '', connect = ''] = stdout.split('\n');
  return { body, connect };
}

const SERVICE = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: default}
spec:
  hosts: [api.example.com]
  addresses: [127.0.0.1]
  ports: [{number: PORT, name: tls, protocol: TLS}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
`;

test('https_proxy reaches a host that nobody registered', { skip }, async (t) => {
  const upstream = await startHttps(t);
  const proxy = await startProxy(t, SERVICE.replace('PORT', '443'));
  assert.deepEqual(await curl(proxy, `https://localhost:${upstream}/`), { body: 'through the tunnel', connect: '200' });
});

test('https_proxy reaches a registered host by its endpoints', { skip }, async (t) => {
  const upstream = await startHttps(t);
  const proxy = await startProxy(t, SERVICE.replace('PORT', String(upstream)));
  assert.deepEqual(await curl(proxy, `https://api.example.com:${upstream}/`), {
    body: 'through the tunnel',
    connect: '200',
  });
});

test('https_proxy does not lead back into the proxy or to link-local addresses', { skip }, async (t) => {
  const proxy = await startProxy(t, SERVICE.replace('PORT', '443'));
  assert.equal((await curl(proxy, `https://127.0.0.1:${proxy}/`)).connect, '403');
  assert.equal((await curl(proxy, 'https://169.254.169.254/')).connect, '403');
});

const REGISTRY_ONLY = `
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: default}
spec:
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
  egress: [{hosts: ["*/*"]}]
`;

test('https_proxy is refused for unknown hosts, and only for those, under REGISTRY_ONLY', { skip }, async (t) => {
  const upstream = await startHttps(t);
  const proxy = await startProxy(t, SERVICE.replace('PORT', String(upstream)) + REGISTRY_ONLY);
  assert.equal((await curl(proxy, `https://localhost:${upstream}/`)).connect, '502');
  assert.equal((await curl(proxy, `https://api.example.com:${upstream}/`)).connect, '200');
});
