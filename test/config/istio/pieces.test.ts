/** The small pure parts of the compiler, as tables. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { seconds } from '../../../config/istio/envoy_json.ts';
import { HostIndex, resolveHost } from '../../../config/istio/hosts.ts';
import { meshConfig } from '../../../config/istio/mesh.ts';
import { byAge } from '../../../config/istio/order.ts';
import { declaredProtocol, kubernetesProtocol } from '../../../config/istio/protocol.ts';
import { duration } from '../../../config/istio/shape.ts';
import { closest } from '../../../config/istio/spelling.ts';
import { isVisible, visibility } from '../../../config/istio/visibility.ts';
import type { KubeObject } from '../../../config/kube_object.ts';
import { fits } from './comparison.ts';

const OBJECT: KubeObject = {
  apiVersion: 'v1',
  kind: 'Service',
  name: 'a',
  namespace: 'n',
  labels: {},
  annotations: {},
  creationMs: undefined,
  order: 0,
  json: {},
  source: { file: 'f.yaml', line: 1, locate: () => 'f.yaml:1:1' },
};

describe('seconds', () => {
  const table: [number, string][] = [
    [0, '0s'],
    [3000, '3s'],
    [30, '0.030s'],
    [1500, '1.500s'],
    [0.25, '0.000250s'],
    [0.000001, '0.000000001s'],
    [3_600_000, '3600s'],
  ];
  for (const [ms, text] of table) {
    it(`seconds writes ${text} when it gets ${ms} ms`, () => assert.equal(seconds(ms), text));
  }
});

describe('duration', () => {
  const at = { object: OBJECT, path: [], allowUnknown: false };
  const table: [string, number][] = [
    ['1s', 1000],
    ['1.5s', 1500],
    ['250ms', 250],
    ['1h30m', 5_400_000],
    ['0s', 0],
    ['10us', 0.01],
  ];
  for (const [text, ms] of table) {
    it(`duration reads ${ms} ms when it gets ${text}`, () => assert.equal(duration(text, at), ms));
  }
  for (const text of ['', '1', '-1s', '1 s', 's', '1d', '1.s']) {
    it(`duration refuses ${JSON.stringify(text)}`, () => assert.throws(() => duration(text, at), /a duration such as/));
  }
});

describe('kubernetesProtocol', () => {
  const table: [string, number, string | undefined, string | undefined, string][] = [
    ['http', 80, undefined, undefined, 'HTTP'],
    ['http-web', 80, undefined, 'TCP', 'HTTP'],
    ['HTTP2-x', 80, undefined, undefined, 'HTTP2'],
    ['grpc-web', 80, undefined, undefined, 'GRPC-Web'],
    ['grpc-web-x', 80, undefined, undefined, 'GRPC-Web'],
    ['grpc-x', 80, undefined, undefined, 'GRPC'],
    ['https', 443, undefined, undefined, 'HTTPS'],
    ['web', 80, undefined, undefined, 'Auto'],
    ['', 80, undefined, undefined, 'Auto'],
    ['', 3306, undefined, undefined, 'TCP'],
    ['http', 3306, undefined, undefined, 'HTTP'],
    ['tcp-x', 80, 'http', undefined, 'HTTP'],
    ['x', 80, 'kubernetes.io/h2c', undefined, 'HTTP2'],
    ['x', 80, 'kubernetes.io/wss', undefined, 'HTTPS'],
    ['http', 80, 'example.com/own', undefined, 'HTTP'],
    ['http', 80, undefined, 'UDP', 'UDP'],
  ];
  for (const [name, number, appProtocol, transport, wanted] of table) {
    it(`kubernetesProtocol is ${wanted} when the port is "${name}" ${number} ${appProtocol ?? ''} ${transport ?? ''}`, () =>
      assert.equal(kubernetesProtocol(number, name, appProtocol, transport), wanted));
  }

  it('declaredProtocol does not mind case, and does not know what it does not know', () => {
    assert.equal(declaredProtocol('gRPC'), 'GRPC');
    assert.equal(declaredProtocol('constructor'), 'Auto');
    assert.equal(declaredProtocol(undefined), 'Auto');
  });
});

describe('HostIndex', () => {
  const index = new HostIndex<string>();
  for (const host of ['a.b.c', '*.b.c', '*.c', '*']) index.set(host, host);
  const table: [string, string][] = [
    ['a.b.c', 'a.b.c'],
    ['x.b.c', '*.b.c'],
    ['x.y.b.c', '*.b.c'],
    ['b.c', '*.c'],
    ['z', '*'],
    ['*.b.c', '*.b.c'],
    ['*.x.b.c', '*.b.c'],
    ['*.d', '*'],
  ];
  for (const [host, wanted] of table) {
    it(`HostIndex finds ${wanted} when asked for ${host}`, () => assert.equal(index.mostSpecific(host), wanted));
  }

  it('resolveHost completes names without a dot only', () => {
    assert.equal(resolveHost('a', 'n', 'cluster.local'), 'a.n.svc.cluster.local');
    assert.equal(resolveHost('a.n', 'm', 'cluster.local'), 'a.n');
    assert.equal(resolveHost('*', 'm', 'cluster.local'), '*');
  });
});

describe('visibility', () => {
  const sees = (exportTo: string[] | undefined, namespace: string) =>
    isVisible(visibility(exportTo, 'own', ['.']), namespace);
  it("visibility is the mesh's default when nothing is given", () => {
    assert.deepEqual([sees(undefined, 'own'), sees([], 'other')], [true, false]);
  });
  it('visibility reads ., ~, * and names', () => {
    assert.deepEqual([sees(['.'], 'own'), sees(['.'], 'other')], [true, false]);
    assert.deepEqual(
      [sees(['~'], 'own'), sees(['*', '.'], 'other'), sees(['other'], 'other'), sees(['other'], 'own')],
      [false, true, true, false],
    );
  });
});

describe('byAge', () => {
  const object = (name: string, order: number, creationMs?: number): KubeObject => ({
    ...OBJECT,
    name,
    order,
    creationMs,
  });
  it('byAge goes by the order of reading when a timestamp is missing', () => {
    assert.ok(byAge(object('b', 1), object('a', 2, 5)) < 0);
  });
  it('byAge goes by timestamp, then by name', () => {
    assert.ok(byAge(object('b', 1, 20), object('a', 2, 10)) > 0);
    assert.ok(byAge(object('b', 1, 10), object('a', 2, 10)) > 0);
  });
});

describe('closest', () => {
  it('closest finds the meant name when it is near, and nothing when it is not', () => {
    assert.equal(closest('retrys', ['route', 'retries', 'rewrite']), 'retries');
    assert.equal(closest('traffic_policy', ['trafficPolicy', 'subsets']), 'trafficPolicy');
    assert.equal(closest('wibble', ['route', 'retries']), undefined);
    assert.equal(closest('', ['a']), 'a');
  });
});

describe('meshConfig', () => {
  it("meshConfig has Istio's defaults when it is empty", () => {
    const mesh = meshConfig({});
    assert.equal(mesh.connectTimeoutMs, 10_000);
    assert.equal(mesh.rootNamespace, 'istio-system');
    assert.equal(mesh.outboundPolicy, 'ALLOW_ANY');
    assert.equal(mesh.pathNormalization, 'BASE');
    assert.equal(mesh.prometheusMetrics, true);
    assert.equal(mesh.autoMtls, true);
  });
  it('meshConfig feeds Prometheus only when a provider of its kind is the default', () => {
    const extensionProviders = [
      { name: 'p', prometheus: {} },
      { name: 'o', opentelemetry: {} },
    ];
    assert.equal(meshConfig({ defaultProviders: { metrics: ['p'] }, extensionProviders }).prometheusMetrics, true);
    assert.equal(meshConfig({ defaultProviders: { metrics: ['o'] }, extensionProviders }).prometheusMetrics, false);
    assert.equal(meshConfig({ defaultProviders: { metrics: [] } }).prometheusMetrics, false);
  });
});

describe('fits', () => {
  it('fits takes * for anything', () => {
    assert.ok(fits('a*c', 'abc') && fits('a*', 'a') && fits('*', '') && fits('a*b*c', 'a1b2c'));
    assert.ok(!fits('a*c', 'ab') && !fits('a', 'ab') && !fits('ab*ba', 'aba'));
  });
});
