/** CONNECT on the outbound listener of explicit mode: where tunnels go, and where they do not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Compiled, dig, digList, service } from './compiled.ts';

const tunnel = (compiled: Compiled, domain: string): unknown => {
  const route = digList(compiled.wholeHost(domain), 'routes').find(
    (item) => dig(item, 'match', 'connect_matcher') !== undefined,
  );
  return dig(route, 'route', 'cluster') ?? dig(route, 'direct_response', 'status');
};

const TLS = `
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: api, namespace: default}
spec:
  hosts: [api.example.com]
  ports: [{number: 443, name: tls, protocol: TLS}]
  location: MESH_EXTERNAL
  resolution: DNS
`;

test('a tunnel goes where the requests of its service go when the service is known', () => {
  assert.equal(tunnel(new Compiled(service('web', 80)), 'web:80'), 'outbound|80||web.default.svc.cluster.local');
});

test('a port that is not HTTP takes tunnels when the registry has it', () => {
  assert.equal(tunnel(new Compiled(TLS), 'api.example.com:443'), 'outbound|443||api.example.com');
});

test('unknown hosts are resolved and reached, and refused under REGISTRY_ONLY', () => {
  assert.equal(tunnel(new Compiled(TLS), '*'), 'dynamic_forward_proxy');
  const closed = new Compiled(TLS, { mesh: { outboundTrafficPolicy: { mode: 'REGISTRY_ONLY' } } });
  assert.equal(tunnel(closed, '*'), 502);
  assert.equal(tunnel(closed, 'api.example.com:443'), 'outbound|443||api.example.com');
});
