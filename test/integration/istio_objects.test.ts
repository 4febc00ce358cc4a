/** What Istio and Gateway API objects do to traffic: YAML in, requests through, the backend that answered. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import type { AddressInfo, ListenOptions } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, it } from 'node:test';
import { createEchoServer } from '../../cli/echo_server.ts';
import { compile } from '../../config/istio/compile.ts';
import type { CompileMode, ProxyIdentity, Workload } from '../../config/istio/target.ts';
import type { Resource } from '../../config/resources.ts';
import { istio, service } from '../config/istio/compiled.ts';
import { kubeObjects } from '../support/kube_objects.ts';
import { startTestProxy, type TestProxy } from '../support/running_proxy.ts';
import type { Scope } from '../support/scope.ts';

const CLIENT: ProxyIdentity = {
  name: 'client-0',
  namespace: 'default',
  labels: { app: 'client' },
  serviceAccount: 'client',
  ips: ['10.0.0.100'],
};

async function echo(t: Scope, workload: string, at: ListenOptions = { host: '127.0.0.1', port: 0 }): Promise<number> {
  const server = createEchoServer({ workload, version: '' });
  server.listen(at);
  await once(server, 'listening');
  t.after(() => server.close());
  t.after(() => server.closeAllConnections());
  return (server.address() as AddressInfo).port;
}

interface Mesh {
  readonly proxy: TestProxy;
  /** `STATUS WORKLOAD`; the workload that answered, '' if none did. */
  ask(host: string, path?: string, headers?: Record<string, string>): Promise<string>;
}

/** Every workload of the YAML is an echo server that says its name. */
async function start(t: Scope, yaml: string, more: { proxy?: ProxyIdentity; mode?: CompileMode } = {}): Promise<Mesh> {
  const objects = kubeObjects(yaml);
  const ports = new Map<string, number>();
  const addressOf = ({ name }: Workload): { ip: string; port: number } | undefined => {
    const port = ports.get(name);
    return port === undefined ? undefined : { ip: '127.0.0.1', port };
  };
  const build = () =>
    compile({
      objects,
      mesh: {},
      proxy: more.proxy ?? CLIENT,
      domain: 'cluster.local',
      mode: more.mode ?? {
        kind: 'explicit',
        outbound: { ip: '127.0.0.1', port: 0 },
        inbound: [],
        accessLog: undefined,
      },
      endpointAddress: addressOf,
    });
  for (const { name } of build().workloads) ports.set(name, await echo(t, name));
  // Ports that are fixed in every mesh are not this test's to open.
  const isFixed = ({ type, name }: Resource): boolean => type === 'listener' && name.startsWith('virtual');
  const proxy = await startTestProxy(
    t,
    build().resources.filter((resource) => !isFixed(resource)),
  );
  return {
    proxy,
    ask: (host, path = '/', headers = {}) =>
      askAt({ host: '127.0.0.1', port: proxy.port('outbound') }, host, path, headers),
  };
}

function askAt(
  at: { host: string; port: number } | { socketPath: string },
  host: string,
  path = '/',
  headers: Record<string, string> = {},
): Promise<string> {
  return new Promise((resolve, reject) => {
    const sent = request({ ...at, path, agent: false, headers: { ...headers, host } }, (response) => {
      response.toArray().then((chunks) => {
        const text = Buffer.concat(chunks as Buffer[]).toString();
        const workload = text.startsWith('{') ? (JSON.parse(text) as { workload: string }).workload : '';
        resolve(`${response.statusCode} ${workload}`.trim());
      }, reject);
    });
    sent.once('error', reject).end();
  });
}

const gateway = (kind: string, name: string, spec: string, namespace = 'default'): string => `
---
apiVersion: gateway.networking.k8s.io/v1${kind === 'ReferenceGrant' ? 'beta1' : ''}
kind: ${kind}
metadata: { name: ${name}, namespace: ${namespace} }
spec:
${spec.trim().replaceAll(/^/gm, '  ')}
`;

const CART_AND_WEB = service('cart', 8000, ['10.0.0.1']) + service('web', 80, ['10.0.0.2']);

describe('routes of the Gateway API for services', () => {
  it('an HTTPRoute sends what it matches elsewhere, and answers 500 where its weights add up to nothing', async (t) => {
    const route = gateway(
      'HTTPRoute',
      'cart',
      `
parentRefs: [{ group: "", kind: Service, name: cart, port: 8000 }]
rules:
- matches: [{ path: { type: PathPrefix, value: /new }, headers: [{ name: x-canary, value: "yes" }] }]
  backendRefs: [{ name: web, port: 80 }]
- matches: [{ path: { type: Exact, value: /none } }]
  backendRefs: [{ name: web, port: 80, weight: 0 }]
- backendRefs: [{ name: cart, port: 8000 }]`,
    );
    const { ask } = await start(t, CART_AND_WEB + route);
    assert.equal(await ask('cart:8000', '/new/x', { 'x-canary': 'yes' }), '200 web-0');
    assert.equal(await ask('cart:8000', '/newer', { 'x-canary': 'yes' }), '200 cart-0');
    assert.equal(await ask('cart:8000', '/new/x'), '200 cart-0');
    assert.equal(await ask('cart:8000', '/none'), '500');
  });

  it('a GRPCRoute tells calls apart by service and method', async (t) => {
    const route = gateway(
      'GRPCRoute',
      'cart',
      `
parentRefs: [{ group: "", kind: Service, name: cart, port: 8000 }]
rules:
- matches: [{ method: { service: shop.Cart, method: Get } }]
  backendRefs: [{ name: web, port: 80 }]
- backendRefs: [{ name: cart, port: 8000 }]`,
    );
    const { ask } = await start(t, CART_AND_WEB + route);
    assert.equal(await ask('cart:8000', '/shop.Cart/Get'), '200 web-0');
    assert.equal(await ask('cart:8000', '/shop.Cart/Put'), '200 cart-0');
  });

  it('a backend of another namespace answers only where a ReferenceGrant lets it', async (t) => {
    const yaml =
      CART_AND_WEB +
      service('pay', 80, ['10.0.0.3'], 'ops') +
      gateway(
        'HTTPRoute',
        'cart',
        `
parentRefs: [{ group: "", kind: Service, name: cart, port: 8000 }]
rules: [{ backendRefs: [{ name: pay, namespace: ops, port: 80 }] }]`,
      );
    const grant = gateway(
      'ReferenceGrant',
      'cart',
      `
from: [{ group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default }]
to: [{ group: "", kind: Service, name: pay }]`,
      'ops',
    );
    assert.equal(await (await start(t, yaml)).ask('cart:8000'), '500');
    assert.equal(await (await start(t, yaml + grant)).ask('cart:8000'), '200 pay-0');
  });
});

describe('who sees what', () => {
  const blocked = istio('Sidecar', 'default', 'outboundTrafficPolicy: { mode: REGISTRY_ONLY }');

  it('a service that is not exported is not there for other namespaces, nor a VirtualService', async (t) => {
    const hidden = (exportTo: string): string =>
      service('pay', 80, ['10.0.0.3'], 'ops').replace(
        'name: pay, namespace: ops }\nspec',
        `name: pay, namespace: ops, annotations: { networking.istio.io/exportTo: "${exportTo}" } }\nspec`,
      );
    for (const [exportTo, wanted] of [
      ['*', '200 pay-0'],
      ['default', '200 pay-0'],
      ['.', '502'],
      ['~', '502'],
    ] as const) {
      const { ask } = await start(t, hidden(exportTo) + blocked);
      assert.equal(await ask('pay.ops'), wanted, exportTo);
    }
    const rule = (exportTo: string): string =>
      istio(
        'VirtualService',
        'cart',
        `hosts: [cart]\nexportTo: ["${exportTo}"]\nhttp: [{ directResponse: { status: 299 } }]`,
      );
    assert.equal(await (await start(t, CART_AND_WEB + rule('.'))).ask('cart:8000'), '299');
    assert.equal(await (await start(t, CART_AND_WEB + rule('ops'))).ask('cart:8000'), '200 cart-0');
  });

  it('a Sidecar leaves what its egress names, and nothing else under REGISTRY_ONLY', async (t) => {
    const sidecar = istio(
      'Sidecar',
      'default',
      'outboundTrafficPolicy: { mode: REGISTRY_ONLY }\negress: [{ hosts: ["./cart.default.svc.cluster.local"] }]',
    );
    const { ask } = await start(t, CART_AND_WEB + sidecar);
    assert.equal(await ask('cart:8000'), '200 cart-0');
    assert.equal(await ask('web'), '502');
  });

  it('an ExternalName leads to the service that it names', async (t) => {
    const alias = `
---
apiVersion: v1
kind: Service
metadata: { name: basket }
spec: { type: ExternalName, externalName: cart.default.svc.cluster.local, ports: [{ name: http, port: 8000 }] }
`;
    const { ask } = await start(t, CART_AND_WEB + alias + blocked);
    assert.equal(await ask('basket:8000'), '200 cart-0');
  });

  it("a delegate's routes stand in the root's place", async (t) => {
    const root = istio(
      'VirtualService',
      'root',
      'hosts: [cart]\nhttp:\n- match: [{ uri: { prefix: /team } }]\n  delegate: { name: team, namespace: ops }\n- route: [{ destination: { host: cart } }]',
    );
    const delegate = istio(
      'VirtualService',
      'team',
      'http:\n- match: [{ uri: { prefix: /team/web } }]\n  route: [{ destination: { host: web.default.svc.cluster.local, port: { number: 80 } } }]',
      'ops',
    );
    const { ask } = await start(t, CART_AND_WEB + root + delegate);
    assert.equal(await ask('cart:8000', '/team/web/x'), '200 web-0');
    assert.equal(await ask('cart:8000', '/team/other'), '200 cart-0');
    assert.equal(await ask('cart:8000', '/'), '200 cart-0');
  });
});

describe('where endpoints are', () => {
  const pod = (name: string, ip: string, region: string, ready: string): string => `
---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: web, istio-locality: ${region} } }
spec: { containers: [{ name: app }] }
status: { podIP: ${ip}, conditions: [{ type: Ready, status: "${ready}" }] }`;
  const rule = (setting: string, outlier = ''): string =>
    istio(
      'DestinationRule',
      'web',
      `host: web\ntrafficPolicy:\n  loadBalancer: { localityLbSetting: ${setting} }${outlier}`,
    );
  const proxy = { ...CLIENT, labels: { ...CLIENT.labels, 'istio-locality': 'r1' } };
  const answering = async (mesh: Mesh): Promise<string[]> => {
    const found = new Set<string>();
    for (let asked = 0; asked < 30; asked++) found.add(await mesh.ask('web'));
    return [...found].sort();
  };

  it("requests stay in the client's region, and go elsewhere when nothing is ready there", async (t) => {
    const outlier = '\n  outlierDetection: { consecutive5xxErrors: 5 }';
    const yaml = (near: string): string =>
      service('web', 80) + pod('near', '10.0.0.1', 'r1', near) + pod('far', '10.0.0.2', 'r2', 'True');
    assert.deepEqual(await answering(await start(t, yaml('True') + rule('{}', outlier), { proxy })), ['200 near']);
    assert.deepEqual(await answering(await start(t, yaml('False') + rule('{}', outlier), { proxy })), ['200 far']);
    // Without outlier detection nobody is preferred.
    assert.deepEqual(await answering(await start(t, yaml('True'), { proxy })), ['200 far', '200 near']);
  });

  it('requests are distributed as the rule says', async (t) => {
    const yaml = service('web', 80) + pod('near', '10.0.0.1', 'r1', 'True') + pod('far', '10.0.0.2', 'r2', 'True');
    const all = rule('{ distribute: [{ from: r1, to: { r2: 100 } }] }');
    assert.deepEqual(await answering(await start(t, yaml + all, { proxy })), ['200 far']);
  });
});

describe('ports that a Sidecar binds', () => {
  const SIDECAR: CompileMode = { kind: 'sidecar', hasIdentity: false };
  const egress = (bind: string, mode = 'NONE'): string =>
    istio(
      'Sidecar',
      'default',
      `egress:\n- port: { number: 8000, protocol: HTTP, name: http }\n  bind: ${bind}\n  captureMode: ${mode}\n  hosts: ["./*"]\n- hosts: ["./*"]`,
    );

  for (const [mode, says] of [
    [SIDECAR, 'a sidecar'],
    [undefined, 'a proxy that intercepts nothing'],
  ] as const) {
    it(`are opened by ${says}, and take requests for the services of that port`, async (t) => {
      const yaml = CART_AND_WEB + egress('127.0.0.45');
      const { proxy } = await start(t, yaml, mode === undefined ? {} : { mode });
      assert.equal(proxy.port('127.0.0.45_8000'), 8000);
      assert.equal(await askAt({ host: '127.0.0.45', port: 8000 }, 'cart'), '200 cart-0');
      assert.equal(
        await askAt({ host: '127.0.0.45', port: 8000 }, 'cart.default.svc.cluster.local:8000'),
        '200 cart-0',
      );
    });

    it(`may be a unix socket of ${says}`, async (t) => {
      const folder = mkdtempSync(join(tmpdir(), 'pillion-egress-'));
      t.after(() => rmSync(folder, { recursive: true, force: true }));
      const socketPath = join(folder, 'egress.sock');
      const yaml = CART_AND_WEB + egress(`unix://${socketPath}`, 'DEFAULT');
      await start(t, yaml, mode === undefined ? {} : { mode });
      assert.ok(existsSync(socketPath));
      assert.equal(await askAt({ socketPath }, 'cart:8000'), '200 cart-0');
    });
  }

  it('are not opened where traffic is captured', async (t) => {
    const { proxy } = await start(t, CART_AND_WEB + egress('127.0.0.46', 'IPTABLES'), { mode: SIDECAR });
    assert.throws(() => proxy.port('127.0.0.46_8000'));
  });

  it('carry TCP to the oldest service of the port', async (t) => {
    const raw = (name: string, ip: string): string => service(name, 7000, [ip]).replace('name: http', 'name: tcp');
    const sidecar = istio(
      'Sidecar',
      'default',
      'egress:\n- port: { number: 7000, protocol: TCP, name: tcp }\n  bind: 127.0.0.47\n  captureMode: NONE\n  hosts: ["./*"]',
    );
    await start(t, raw('first', '10.0.0.1') + raw('second', '10.0.0.2') + sidecar, { mode: SIDECAR });
    assert.equal(await askAt({ host: '127.0.0.47', port: 7000 }, 'whoever'), '200 first-0');
  });

  it('ingress reaches the application at its unix socket, or its own port', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'pillion-ingress-'));
    t.after(() => rmSync(folder, { recursive: true, force: true }));
    const socketPath = join(folder, 'app.sock');
    await echo(t, 'by-socket', { path: socketPath });
    const port = await echo(t, 'by-port');
    const sidecar = istio(
      'Sidecar',
      'default',
      `
ingress:
- port: { number: 9080, protocol: HTTP, name: http }
  bind: 127.0.0.48
  captureMode: NONE
  defaultEndpoint: unix://${socketPath}
- port: { number: 9081, protocol: TCP, name: tcp }
  bind: 127.0.0.48
  captureMode: NONE
  defaultEndpoint: 127.0.0.1:${port}`,
    );
    const { proxy } = await start(t, CART_AND_WEB + sidecar, { mode: SIDECAR });
    assert.equal(await askAt({ host: '127.0.0.48', port: 9080 }, 'anything'), '200 by-socket');
    assert.equal(await askAt({ host: '127.0.0.48', port: 9081 }, 'anything'), '200 by-port');
    assert.equal(proxy.port('127.0.0.48_9081'), 9081);
  });
});
