import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { Resolver } from 'node:dns/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { it } from 'node:test';
import { readProxyFlags } from '../../cli/proxy_flags.ts';
import { PillionProcess } from '../support/pillion_process.ts';

const SERVICE = (ip: string) => `apiVersion: v1
kind: Service
metadata: { name: cart, namespace: shop }
spec: { clusterIP: ${ip}, ports: [{ name: http, port: 80 }] }
`;

it('ISTIO_META_DNS_CAPTURE asks for the port of the agent, which a flag may move', () => {
  const dnsOf = (values: Record<string, string>, environment: Record<string, string>) =>
    readProxyFlags(values, [], environment).dns;
  assert.deepEqual(dnsOf({}, { ISTIO_META_DNS_CAPTURE: 'true' }), { ip: '127.0.0.1', port: 15053 });
  assert.equal(dnsOf({}, { ISTIO_META_DNS_CAPTURE: 'false' }), undefined);
  assert.deepEqual(dnsOf({ dns: '127.0.0.1:0' }, { ISTIO_META_DNS_CAPTURE: 'true' }), { ip: '127.0.0.1', port: 0 });
});

it('pillion run --dns answers the names of the YAML, and new ones when it changes', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'pillion-dns-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'mesh.yaml');
  writeFileSync(file, SERVICE('10.96.0.1'));
  const free = ['--outbound', '--admin', '--status', '--metrics'].flatMap((flag) => [flag, '127.0.0.1:0']);
  const pillion = new PillionProcess(t, ['run', '-c', file, '--workload', 'web.shop', '--dns', '127.0.0.1:0', ...free]);
  const [, address = ''] = await pillion.until(/dns listens on (127\.0\.0\.1:\d+)/);
  const resolver = new Resolver({ timeout: 20_000, tries: 1 });
  resolver.setServers([address]);
  assert.deepEqual(await resolver.resolve4('cart'), ['10.96.0.1']);
  writeFileSync(file, SERVICE('10.96.0.2'));
  await pillion.until(/changed/);
  assert.deepEqual(await resolver.resolve4('cart.shop.svc.cluster.local'), ['10.96.0.2']);
});
