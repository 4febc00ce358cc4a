/** Priorities and weights of localities, as istiod gives them to a client where it stands. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Compiled, dig, digList, istio, service } from './compiled.ts';

/** Pods of one service, one in each place: `region/zone/subzone`. */
const PLACES = ['r1/z1/s1', 'r1/z1/s2', 'r1/z2', 'r2/z3', 'r3/z4'];
const PODS = PLACES.map((place, index) => pod(`web-${index}`, `10.0.0.${index + 1}`, place)).join('');

function pod(name: string, ip: string, place: string, labels = ''): string {
  return `
---
apiVersion: v1
kind: Pod
metadata: { name: ${name}, labels: { app: web, istio-locality: ${place.replaceAll('/', '.')}${labels} } }
spec: { containers: [{ name: app }] }
status: { podIP: ${ip} }`;
}

const CLIENT = {
  name: 'client-0',
  namespace: 'default',
  labels: { 'istio-locality': 'r1.z1.s1', version: 'v1' } as Record<string, string>,
  serviceAccount: 'client',
  ips: ['10.9.9.9'],
};

const OUTLIER = 'outlierDetection: { consecutive5xxErrors: 1 }';
const rule = (setting: string, outlier = OUTLIER): string =>
  istio(
    'DestinationRule',
    'web',
    `host: web\ntrafficPolicy:\n  loadBalancer: { localityLbSetting: ${setting} }\n  ${outlier}`,
  );

interface Group {
  readonly place: string;
  readonly priority: number;
  readonly weight: number;
  readonly hosts: number;
}

function groups(
  yaml: string,
  { mesh = {}, proxy = CLIENT }: { mesh?: Record<string, unknown>; proxy?: typeof CLIENT } = {},
): Group[] {
  const json = new Compiled(service('web', 80) + yaml, { mesh, proxy }).json(
    'endpoint',
    'outbound|80||web.default.svc.cluster.local',
  );
  return digList(json, 'endpoints').map((group) => ({
    place: ['region', 'zone', 'sub_zone'].flatMap((part) => dig(group, 'locality', part) ?? []).join('/'),
    priority: Number(dig(group, 'priority') ?? 0),
    weight: Number(dig(group, 'load_balancing_weight')),
    hosts: digList(group, 'lb_endpoints').length,
  }));
}

const priorities = (...parameters: Parameters<typeof groups>): number[] =>
  groups(...parameters).map(({ priority }) => priority);

describe('localities', () => {
  it('are all alike without outlier detection, or where the setting is off', () => {
    assert.deepEqual(priorities(PODS), [0, 0, 0, 0, 0]);
    assert.deepEqual(priorities(PODS + rule('{ enabled: true }', '')), [0, 0, 0, 0, 0]);
    assert.deepEqual(priorities(PODS + rule('{ enabled: false }')), [0, 0, 0, 0, 0]);
    const off = { localityLbSetting: { enabled: false } };
    assert.deepEqual(
      priorities(PODS + istio('DestinationRule', 'web', `host: web\ntrafficPolicy: { ${OUTLIER} }`), { mesh: off }),
      [0, 0, 0, 0, 0],
    );
  });

  it('come in the order sub-zone, zone, region, others with outlier detection alone, as the mesh has it by default', () => {
    const outlier = istio('DestinationRule', 'web', `host: web\ntrafficPolicy: { ${OUTLIER} }`);
    assert.deepEqual(priorities(PODS + outlier), [0, 1, 2, 3, 3]);
    // Without gaps: from r2 there is nothing in its sub-zone's zone but itself.
    const elsewhere = { ...CLIENT, labels: { 'istio-locality': 'r2.z3' } };
    assert.deepEqual(priorities(PODS + outlier, { proxy: elsewhere }), [1, 1, 1, 0, 1]);
    const nowhere = { ...CLIENT, labels: {} };
    assert.deepEqual(priorities(PODS + outlier, { proxy: nowhere }), [0, 0, 0, 0, 0]);
  });

  it('go over to the region that failover names before all others', () => {
    assert.deepEqual(priorities(PODS + rule('{ failover: [{ from: r1, to: r3 }] }')), [0, 1, 2, 4, 3]);
    assert.deepEqual(priorities(PODS + rule('{ failover: [{ from: r2, to: r3 }] }')), [0, 1, 2, 3, 3]);
  });

  it('are split by labels in the order of failoverPriority, each endpoint for itself', () => {
    const pods =
      pod('a', '10.0.0.1', 'r1/z1', ', version: v1') +
      pod('b', '10.0.0.2', 'r1/z1', ', version: v2') +
      pod('c', '10.0.0.3', 'r1/z2', ', version: v1') +
      pod('d', '10.0.0.4', 'r2/z3', ', version: v2');
    const by = (list: string): Group[] => groups(pods + rule(`{ failoverPriority: [${list}] }`));
    assert.deepEqual(
      by('version, topology.kubernetes.io/zone').map(({ place, priority, hosts }) => [place, priority, hosts]),
      [
        ['r1/z1', 0, 1],
        ['r1/z1', 2, 1],
        ['r1/z2', 1, 1],
        ['r2/z3', 2, 1],
      ],
    );
    assert.deepEqual(
      by('version=v2').map(({ priority }) => priority),
      [1, 0, 1, 0],
    );
  });

  it('get the shares that distribute gives them, and nothing where it gives none', () => {
    const setting = '{ distribute: [{ from: "r1/z1/*", to: { "r1/z1/*": 70, "r1/z2": 20, "r2/*": 10 } }] }';
    assert.deepEqual(
      groups(PODS + rule(setting, '')).map(({ place, weight, priority }) => [place, weight, priority]),
      [
        // Two groups share what one pattern names.
        ['r1/z1/s1', 35, 0],
        ['r1/z1/s2', 35, 0],
        ['r1/z2', 20, 0],
        ['r2/z3', 10, 0],
      ],
    );
    const elsewhere = { ...CLIENT, labels: { 'istio-locality': 'r3.z4' } };
    assert.equal(groups(PODS + rule(setting, ''), { proxy: elsewhere }).length, 5);
  });

  it('are preferred by a service that asks for near endpoints, without outlier detection', () => {
    const near = service('web', 80).replace('spec: { selector', 'spec: { trafficDistribution: PreferClose, selector');
    const json = new Compiled(near + PODS, { proxy: CLIENT }).json(
      'endpoint',
      'outbound|80||web.default.svc.cluster.local',
    );
    assert.deepEqual(
      digList(json, 'endpoints').map((group) => Number(dig(group, 'priority') ?? 0)),
      [0, 1, 2, 3, 3],
    );
  });

  it("take the client's place from its Pod's Node", () => {
    const node = `
---
apiVersion: v1
kind: Node
metadata: { name: n1, labels: { topology.kubernetes.io/region: r2, topology.kubernetes.io/zone: z3 } }
---
apiVersion: v1
kind: Pod
metadata: { name: client-0, labels: { app: client } }
spec: { nodeName: n1, containers: [{ name: app }] }
status: { podIP: 10.9.9.9 }`;
    const outlier = istio('DestinationRule', 'web', `host: web\ntrafficPolicy: { ${OUTLIER} }`);
    assert.deepEqual(priorities(PODS + node + outlier, { proxy: { ...CLIENT, labels: {} } }), [1, 1, 1, 0, 1]);
  });
});
