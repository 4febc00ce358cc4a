import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { ConfigError } from '../../../proxy/config_error.ts';
import { Compiled, dig, digList, istio, SIDECAR, service } from './compiled.ts';

const PROXY = { name: 'web-0', namespace: 'shop', labels: { app: 'web' }, serviceAccount: 'web', ips: ['10.0.0.1'] };

const MESH =
  service('web', 80, ['10.0.0.1'], 'shop') +
  service('cart', 8000, ['10.0.0.2'], 'shop') +
  service('pay', 8000, ['10.0.0.3'], 'ops') +
  service('logs', 9000, ['10.0.0.4'], 'ops');

function sidecarOf(spec: string, extra = '', namespace = 'shop'): Compiled {
  return new Compiled(MESH + istio('Sidecar', 'narrow', spec, namespace) + extra, { mode: SIDECAR, proxy: PROXY });
}

function outbound(compiled: Compiled): string[] {
  return compiled.names('cluster').filter((name) => name.startsWith('outbound|'));
}

describe('Sidecar', () => {
  it('leaves only the imported services when egress names hosts', () => {
    assert.deepEqual(outbound(sidecarOf('egress: [{ hosts: ["./cart.shop.svc.cluster.local", "ops/*"] }]')), [
      'outbound|8000||cart.shop.svc.cluster.local',
      'outbound|8000||pay.ops.svc.cluster.local',
      'outbound|9000||logs.ops.svc.cluster.local',
    ]);
  });

  it('leaves nothing when the only import is ~/*', () => {
    assert.deepEqual(outbound(sidecarOf('egress: [{ hosts: ["~/*"] }]')), []);
  });

  it('takes services out again when a host is excluded', () => {
    assert.deepEqual(outbound(sidecarOf('egress: [{ hosts: ["ops/*", "~ops/logs.ops.svc.cluster.local"] }]')), [
      'outbound|8000||pay.ops.svc.cluster.local',
    ]);
  });

  it('imports destinations with the VirtualService that routes to them', () => {
    const rule = istio(
      'VirtualService',
      'cart',
      `hosts: [cart]
http: [{ route: [{ destination: { host: pay.ops.svc.cluster.local } }] }]`,
      'shop',
    );
    assert.deepEqual(outbound(sidecarOf('egress: [{ hosts: ["./cart.shop.svc.cluster.local"] }]', rule)), [
      'outbound|8000||cart.shop.svc.cluster.local',
      'outbound|8000||pay.ops.svc.cluster.local',
    ]);
  });

  it('gives a port to the listener that names it when two listeners import services of that port', () => {
    const compiled = sidecarOf(
      'egress: [{ port: { number: 8000, protocol: HTTP, name: http }, hosts: ["ops/*"] }, { hosts: ["./*"] }]',
    );
    const names = digList(compiled.json('route', '8000'), 'virtual_hosts').map((host) => dig(host, 'name'));
    assert.deepEqual(names, ['pay.ops.svc.cluster.local:8000', 'allow_any']);
  });

  it('holds for another workload of the namespace only when its selector fits', () => {
    const narrow = istio(
      'Sidecar',
      'other',
      'workloadSelector: { labels: { app: other } }\negress: [{ hosts: ["~/*"] }]',
      'shop',
    );
    const compiled = new Compiled(MESH + narrow, { mode: SIDECAR, proxy: PROXY });
    assert.equal(outbound(compiled).length, 4);
  });

  it('is overruled by the one of the own namespace when the root namespace has another', () => {
    const root = istio('Sidecar', 'default', 'egress: [{ hosts: ["~/*"] }]', 'istio-system');
    assert.deepEqual(outbound(new Compiled(MESH + root, { mode: SIDECAR, proxy: PROXY })), []);
    assert.equal(outbound(sidecarOf('egress: [{ hosts: ["./*"] }]', root)).length, 2);
  });

  it('blocks unknown hosts when outboundTrafficPolicy is REGISTRY_ONLY', () => {
    const compiled = sidecarOf('outboundTrafficPolicy: { mode: REGISTRY_ONLY }');
    const last = digList(compiled.json('route', '8000'), 'virtual_hosts').at(-1);
    assert.equal(dig(last, 'routes', 0, 'direct_response', 'status'), 502);
  });

  it('sends unknown hosts to the egress proxy when one is named', () => {
    const compiled = sidecarOf(
      'outboundTrafficPolicy: { mode: ALLOW_ANY, egressProxy: { host: logs.ops.svc.cluster.local, port: { number: 9000 } } }',
    );
    const last = digList(compiled.json('route', '8000'), 'virtual_hosts').at(-1);
    assert.equal(dig(last, 'routes', 0, 'route', 'cluster'), 'outbound|9000||logs.ops.svc.cluster.local');
  });

  it('replaces the ports of services by its own when it has ingress', () => {
    const compiled = sidecarOf(`ingress:
- port: { number: 9080, protocol: HTTP, name: http }
  defaultEndpoint: 127.0.0.1:8080
  connectionPool: { http: { http1MaxPendingRequests: 7 } }
- port: { number: 9443, protocol: TCP, name: tcp }
  defaultEndpoint: unix:///run/app.sock`);
    assert.deepEqual(
      compiled.names('cluster').filter((name) => name.startsWith('inbound|')),
      ['inbound|9080||', 'inbound|9443||'],
    );
    const http = compiled.json('cluster', 'inbound|9080||');
    const place = digList(http, 'load_assignment', 'endpoints', 0, 'lb_endpoints')[0];
    assert.deepEqual(dig(place, 'endpoint', 'address', 'socket_address'), { address: '127.0.0.1', port_value: 8080 });
    assert.equal(dig(http, 'circuit_breakers', 'thresholds', 0, 'max_pending_requests'), 7);
    const pipe = digList(compiled.json('cluster', 'inbound|9443||'), 'load_assignment', 'endpoints', 0, 'lb_endpoints');
    assert.deepEqual(dig(pipe[0], 'endpoint', 'address'), { pipe: { path: '/run/app.sock' } });
  });

  for (const [spec, complaint] of [
    ['egress: [{ hosts: [reviews] }]', /with its namespace is wanted/],
    ['egress: [{ hosts: [] }]', /at least one host/],
    ['egress: [{ hosts: ["./*"] }, { hosts: ["ops/*"] }]', /without a port must be the last/],
    ['egress: [{ bind: 127.0.0.1, hosts: ["./*"] }]', /bind needs a port/],
    ['ingress: [{ defaultEndpoint: 127.0.0.1:80 }]', /port is required/],
    ['ingress: [{ port: { number: 80, name: a }, defaultEndpoint: 10.1.1.1:80 }]', /unix:\/\/\/PATH is wanted/],
    ['ingress: [{ port: { number: 80, name: a } }, { port: { number: 80, name: b } }]', /there twice/],
    ['egres: []', /did you mean "egress"/],
  ] as const) {
    it(`is refused with its place when it says ${spec}`, () => {
      assert.throws(
        () => sidecarOf(spec),
        (error: unknown) =>
          error instanceof ConfigError && complaint.test(error.message) && /:\d+:\d+$/.test(error.origin ?? ''),
      );
    });
  }
});
