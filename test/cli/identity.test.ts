/** Where `run` gets its certificate from: flags, the agent's environment, and a CA that answers. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { durationMs } from '../../cli/go_duration.ts';
import { chooseIdentity } from '../../cli/identity.ts';
import { eventually } from '../support/eventually.ts';
import { FakeIstioCa } from '../support/fake_istio_ca.ts';
import { PillionProcess } from '../support/pillion_process.ts';
import type { Scope } from '../support/scope.ts';
import { askOverTls } from '../support/tls_peers.ts';

function folderOf(t: Scope): string {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-identity-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('the environment of Istio’s agent chooses, in its order', (t) => {
  const folder = folderOf(t);
  const choose = (environment: Record<string, string>, wanted?: string, dev = false) =>
    chooseIdentity(wanted, dev, environment, folder);
  assert.deepEqual(choose({}), { kind: 'none' });
  assert.deepEqual(choose({}, undefined, true), { kind: 'development' });
  assert.deepEqual(choose({}, 'none', true), { kind: 'none' });
  const ca = { CA_ADDR: 'istiod.istio-system.svc:15012' };
  assert.deepEqual(choose(ca), { kind: 'istio-ca', address: 'istiod.istio-system.svc:15012' });
  assert.deepEqual(choose({}, 'istio-ca:ca:1'), { kind: 'istio-ca', address: 'ca:1' });
  assert.deepEqual(choose({}, 'sds:/run/spire/socket'), { kind: 'sds', socket: '/run/spire/socket' });
  mkdirSync(join(folder, 'var/run/secrets/workload-spiffe-uds'), { recursive: true });
  writeFileSync(join(folder, 'var/run/secrets/workload-spiffe-uds/spire'), '');
  const socket = join(folder, 'var/run/secrets/workload-spiffe-uds/spire');
  assert.deepEqual(choose({ ...ca, WORKLOAD_IDENTITY_SOCKET_FILE: 'spire' }), { kind: 'sds', socket });
  const credentials = join(folder, 'var/run/secrets/workload-spiffe-credentials');
  mkdirSync(credentials);
  for (const name of ['certificates.pem', 'private_key.pem', 'ca_certificates.pem']) {
    writeFileSync(join(credentials, name), '');
  }
  const gke = {
    chain: join(credentials, 'certificates.pem'),
    key: join(credentials, 'private_key.pem'),
    roots: join(credentials, 'ca_certificates.pem'),
  };
  assert.deepEqual(choose(ca), { kind: 'files', files: gke });
  assert.deepEqual(choose({}, `files:${credentials}`), { kind: 'files', files: gke });
  const mounted = join(folder, 'etc/certs');
  assert.deepEqual(choose({ ...ca, FILE_MOUNTED_CERTS: 'true' }), {
    kind: 'files',
    files: {
      chain: join(mounted, 'cert-chain.pem'),
      key: join(mounted, 'key.pem'),
      roots: join(mounted, 'root-cert.pem'),
    },
  });
  assert.throws(() => choose({}, 'magic'), /--identity wants auto, none, development/);
});

test('durations are those of Go', () => {
  assert.equal(durationMs('24h', 'SECRET_TTL'), 86_400_000);
  assert.equal(durationMs('1h30m', 'SECRET_TTL'), 5_400_000);
  assert.equal(durationMs('100ms', 'FILE_DEBOUNCE_DURATION'), 100);
  assert.equal(durationMs('', 'SECRET_TTL'), undefined);
  assert.throws(() => durationMs('1 day', 'SECRET_TTL'), /SECRET_TTL wants a duration such as 24h/);
});

const yaml = `
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec:
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec: { serviceAccountName: web, containers: [{ name: app, ports: [{ containerPort: 8080 }] }] }
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: default, namespace: shop }
spec: { mtls: { mode: STRICT } }
`;

test('run serves with a certificate of Istio’s CA, and shows it in /certs', async (t) => {
  const folder = folderOf(t);
  const fake = await FakeIstioCa.start(t);
  const application = createServer((_, response) => void response.end('hello')).listen(0, '127.0.0.1');
  await once(application, 'listening');
  t.after(() => application.close());
  writeFileSync(join(folder, 'mesh.yaml'), yaml);
  writeFileSync(join(folder, 'token'), fake.token);
  const process = new PillionProcess(
    t,
    [
      ...['run', '-c', join(folder, 'mesh.yaml'), '--workload', 'web.shop', '--inbound', '127.0.0.1:0=8080'],
      ...['--app', `127.0.0.1:${(application.address() as AddressInfo).port}`, '--outbound', '127.0.0.1:0'],
      ...['--admin', '127.0.0.1:0', '--status', '127.0.0.1:0', '--metrics', '127.0.0.1:0', '--concurrency', '1'],
    ],
    {
      env: {
        CA_ADDR: `http://127.0.0.1:${fake.port}`,
        CA_TOKEN_PATH: join(folder, 'token'),
        SECRET_TTL: '2h',
        ISTIO_META_CLUSTER_ID: 'east',
      },
    },
  );
  const [, admin] = await process.until(/admin listens on 127\.0\.0\.1:(\d+)/);
  const [, inbound] = await process.until(/inbound_8080 listens on 127\.0\.0\.1:(\d+)/);
  await process.until(/spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web: certificate from 127\.0\.0\.1:\d+, good until/);
  assert.deepEqual(
    fake.calls.map(({ clusterId, spiffeId, lifetimeS, keyType }) => ({ clusterId, spiffeId, lifetimeS, keyType })),
    [{ clusterId: 'east', spiffeId: 'spiffe://cluster.local/ns/shop/sa/web', lifetimeS: 7200, keyType: 'ec' }],
  );
  const client = fake.ca.issue('spiffe://cluster.local/ns/other/sa/client');
  const answer = await askOverTls(
    Number(inbound),
    { cert: client.chain, key: client.key, ALPNProtocols: ['istio-http/1.1'] },
    undefined,
    'hello',
  );
  assert.match(answer.text, /^HTTP\/1\.1 200 OK/);
  const certs = await (await fetch(`http://127.0.0.1:${admin}/certs`)).text();
  assert.match(certs, /spiffe:\/\/cluster\.local\/ns\/shop\/sa\/web/);
  await eventually('the first expiry is a statistic', async () => {
    const stats = await fetch(`http://127.0.0.1:${admin}/stats?filter=days_until_first_cert_expiring`);
    return /server\.days_until_first_cert_expiring: 0\n/.test(await stats.text());
  });
  const dump = await (await fetch(`http://127.0.0.1:${admin}/config_dump?resource=dynamic_active_secrets`)).text();
  assert.match(dump, /"name": ?"ROOTCA"/);
  assert.doesNotMatch(dump + process.stderr, /PRIVATE KEY|token-1/);
});

test('while the CA is away nothing is served in the clear, and the log says why', async (t) => {
  const folder = folderOf(t);
  writeFileSync(join(folder, 'mesh.yaml'), yaml);
  writeFileSync(join(folder, 'token'), 'x');
  const process = new PillionProcess(
    t,
    [
      ...['run', '-c', join(folder, 'mesh.yaml'), '--workload', 'web.shop', '--inbound', '127.0.0.1:0=8080'],
      ...['--outbound', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--status', '127.0.0.1:0'],
      ...['--metrics', '127.0.0.1:0', '--concurrency', '1'],
    ],
    { env: { CA_ADDR: 'http://127.0.0.1:1', CA_TOKEN_PATH: join(folder, 'token') } },
  );
  await process.until(/Cannot get a certificate from 127\.0\.0\.1:1: UNAVAILABLE.*trying again in/);
  assert.doesNotMatch(process.stderr, /inbound_8080 listens/, 'its secret has not arrived');
});
