/** `pillion run --intercept`: the sidecar of a pod, from Istio's YAML. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { type NamespaceProcess, type NetNamespace, skipWithoutNetNamespaces } from '../support/net_namespace.ts';
import { APP, ask, network, PEER, serve, startProxy } from '../support/pod_network.ts';
import { fileScope } from '../support/scope.ts';

const mesh = `
apiVersion: v1
kind: Pod
metadata: { name: web, namespace: shop, labels: { app: web } }
spec: { serviceAccountName: web, containers: [{ name: app, ports: [{ containerPort: 9000 }, { containerPort: 9001 }] }] }
status: { podIP: 10.77.0.2, podIPs: [{ ip: 10.77.0.2 }, { ip: 'fd77::2' }] }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec:
  clusterIP: 10.99.0.1
  selector: { app: web }
  ports: [{ name: tcp, port: 80, targetPort: 9000 }, { name: tcp-strict, port: 81, targetPort: 9001 }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: db, namespace: shop }
spec:
  hosts: [db.example.com]
  addresses: [10.99.0.5]
  resolution: STATIC
  ports: [{ number: 5432, name: tcp, protocol: TCP, targetPort: 7000 }]
  endpoints: [{ address: 10.77.0.1 }]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: { name: api, namespace: shop }
spec:
  hosts: [api.example.com]
  resolution: STATIC
  ports: [{ number: 8080, name: http, protocol: HTTP }]
  endpoints: [{ address: 10.77.0.1 }]
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: { name: strict, namespace: shop }
spec: { selector: { matchLabels: { app: web } }, portLevelMtls: { '9001': { mode: STRICT } } }
`;

describe('run --intercept', { skip: skipWithoutNetNamespaces }, () => {
  const scope = fileScope();
  let outside: NetNamespace;
  let pod: NetNamespace;
  let proxy: NamespaceProcess;

  it('run --intercept is the sidecar of a pod from YAML', async () => {
    ({ outside, pod } = network(scope));
    const flags = ['--intercept', '--workload', 'web.shop', '--access-log', 'text', '--admin', '127.0.0.1:15000'];
    proxy = await startProxy(scope, pod, 'mesh.yaml', mesh, flags);
    await Promise.all([
      serve(outside, '10.77.0.1', 7000, 'db'),
      serve(pod, '0.0.0.0', 9000, 'app', APP),
      serve(pod, '0.0.0.0', 9001, 'strict', APP),
      serve(pod, 'fd77::2', 9000, 'app6', APP),
      outside.start([process.execPath, PEER, 'h1', '10.77.0.1', '8080']).until(/serving/),
    ]);
  });

  it('a TCP service answers at its virtual IP', async () => {
    assert.match(await ask(pod, '10.99.0.5', 5432, 'hi'), /db hello\ndb 10\.77\.0\.2: hi/);
  });

  it('an HTTP service answers by its Host, wherever the client believes it to be', () => {
    const url = 'http://10.99.0.77:8080/abc';
    const body = pod.run(['curl', '-s', '--max-time', '30', '-H', 'Host: api.example.com', url], { id: APP });
    assert.equal(body, 'HTTP/1.1 /abc');
  });

  it('what no service has passes through', async () => {
    assert.match(await ask(pod, '10.77.0.1', 7000, 'hi'), /db hello\ndb 10\.77\.0\.2: hi/);
  });

  it('a client from outside reaches the application by its inbound cluster', async () => {
    assert.match(await ask(outside, '10.77.0.2', 9000, 'hi'), /app hello\napp 127\.0\.0\.6: hi/);
  });

  it('a client from outside over IPv6 reaches the application, from ::6 and not in circles', async () => {
    assert.match(await ask(outside, 'fd77::2', 9000, 'hi'), /app6 hello\napp6 ::6: hi/);
  });

  it('the pod calls itself by its own service', async () => {
    assert.match(await ask(pod, '10.99.0.1', 80, 'hi'), /app hello\napp 127\.0\.0\.6: hi/);
  });

  it('a port that asks for certificates stays closed where nobody has any', async () => {
    assert.match(await ask(outside, '10.77.0.2', 9001, 'hi'), /closed without a word|error ECONNRESET/);
  });

  it('the log names services, and what is none of them', async () => {
    await proxy.until(/outbound\|5432\|\|db\.example\.com .*10\.99\.0\.5:5432/);
    await proxy.until(/PassthroughCluster .*10\.77\.0\.1:7000/);
    await proxy.until(/inbound\|9000\|\| /);
  });
});
