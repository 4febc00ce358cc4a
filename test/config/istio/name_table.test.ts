import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Compiled, istio, service, SIDECAR } from './compiled.ts';

const PROXY = { name: 'web-0', namespace: 'shop', labels: {}, serviceAccount: 'web', ips: ['10.0.0.9'] };
const HEADLESS = `
---
apiVersion: v1
kind: Service
metadata: { name: db, namespace: shop }
spec: { clusterIP: None, selector: { app: db }, ports: [{ name: tcp, port: 5432 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: db-0, namespace: shop, labels: { app: db } }
spec: { containers: [] }
status: { podIP: 10.0.0.7, conditions: [{ type: Ready, status: "True" }] }
`;

function names(yaml: string, dnsCapture = true) {
  return new Compiled(yaml, { mode: SIDECAR, proxy: PROXY, dnsCapture }).result.names;
}

describe('nameTable', () => {
  it('has services by all the names that a client of the namespace may use', () => {
    const yaml = service('cart', 80, [], 'shop').replace('spec: {', 'spec: { clusterIP: 10.96.0.2,');
    const cart = names(yaml).get('cart.shop.svc.cluster.local');
    assert.deepEqual(cart?.ips, ['10.96.0.2']);
    assert.deepEqual(cart?.altHosts, ['cart', 'cart.shop', 'cart.shop.svc']);
    const other = names(yaml.replaceAll('namespace: shop', 'namespace: ops')).get('cart.ops.svc.cluster.local');
    assert.deepEqual(other?.altHosts, ['cart.ops', 'cart.ops.svc']);
  });

  it('has the pods of a headless service, together and each by its name', () => {
    const table = names(HEADLESS);
    assert.deepEqual(table.get('db.shop.svc.cluster.local')?.ips, ['10.0.0.7']);
    assert.deepEqual(table.get('db-0.db.shop.svc.cluster.local')?.ips, ['10.0.0.7']);
  });

  it('has both addresses of the pods of a headless service of two families', () => {
    const dual = HEADLESS.replace('clusterIP: None,', 'clusterIP: None, ipFamilies: [IPv4, IPv6],').replace(
      'podIP: 10.0.0.7,',
      'podIP: 10.0.0.7, podIPs: [{ ip: 10.0.0.7 }, { ip: "fd00::7" }],',
    );
    for (const host of ['db.shop.svc.cluster.local', 'db-0.db.shop.svc.cluster.local']) {
      assert.deepEqual(names(dual).get(host)?.ips, ['10.0.0.7', 'fd00::7']);
    }
  });

  it('gives entries without an address one of their own, the same every time', () => {
    const entry = (name: string, host: string) =>
      istio(
        'ServiceEntry',
        name,
        `hosts: [${host}]\nports: [{ number: 443, name: tls, protocol: TLS }]\nresolution: DNS`,
        'shop',
      );
    const first = names(entry('a', 'api.example.com')).get('api.example.com')?.ips ?? [];
    assert.match(first[0] ?? '', /^240\.240\.\d+\.\d+$/);
    const both = names(entry('b', 'www.example.com') + entry('a', 'api.example.com'));
    assert.deepEqual(both.get('api.example.com')?.ips, first);
    assert.notDeepEqual(both.get('www.example.com')?.ips, first);
    assert.equal(names(entry('a', 'api.example.com'), false).get('api.example.com'), undefined);
    assert.equal(names(entry('a', '"*.example.com"').replace('DNS', 'NONE')).size, 0);
  });
});
