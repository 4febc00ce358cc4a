import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { Compiled, dig, istio, SIDECAR, service } from './compiled.ts';

const WEB = 'web.default.svc.cluster.local';
const balancer = (name: string) => `trafficPolicy: { loadBalancer: { simple: ${name} } }`;

function policyOf(yaml: string, namespace = 'client', labels: Record<string, string> = {}): unknown {
  const proxy = { name: 'c', namespace, labels, serviceAccount: 'c', ips: [] };
  return dig(
    new Compiled(service('web', 80) + yaml, { proxy, mode: SIDECAR }).json('cluster', `outbound|80||${WEB}`),
    'lb_policy',
  );
}

const inClient = (host: string, policy: string, more = '') =>
  istio('DestinationRule', `c-${policy}`, `host: "${host}"\n${balancer(policy)}\n${more}`, 'client');
const inService = (host: string, policy: string, more = '') =>
  istio('DestinationRule', `s-${policy}`, `host: "${host}"\n${balancer(policy)}\n${more}`);
const inRoot = (host: string, policy: string) =>
  istio('DestinationRule', `r-${policy}`, `host: "${host}"\n${balancer(policy)}`, 'istio-system');

describe('DestinationRules', () => {
  it("a rule of the client beats the service's, which beats the root namespace's", () => {
    assert.equal(policyOf(inRoot(WEB, 'RANDOM')), 'RANDOM');
    assert.equal(policyOf(inRoot(WEB, 'RANDOM') + inService('web', 'ROUND_ROBIN')), 'ROUND_ROBIN');
    assert.equal(
      policyOf(inRoot(WEB, 'RANDOM') + inService('web', 'ROUND_ROBIN') + inClient(WEB, 'LEAST_REQUEST')),
      'LEAST_REQUEST',
    );
  });

  it('a wildcard of the client hides an exact rule of the service', () => {
    assert.equal(policyOf(inService('web', 'ROUND_ROBIN') + inClient('*.local', 'RANDOM')), 'RANDOM');
  });

  it('the longest wildcard wins, and an exact host over all', () => {
    const wild = inClient('*.local', 'RANDOM') + inClient('*.svc.cluster.local', 'ROUND_ROBIN');
    assert.equal(policyOf(wild), 'ROUND_ROBIN');
    assert.equal(policyOf(wild + inClient(WEB, 'LEAST_REQUEST')), 'LEAST_REQUEST');
  });

  it('a short host is in the namespace of the rule, not of the client', () => {
    assert.equal(policyOf(inClient('web', 'RANDOM')), 'LEAST_REQUEST');
  });

  it('a rule is not seen when it is not exported to the client', () => {
    assert.equal(policyOf(inService('web', 'RANDOM', 'exportTo: ["."]')), 'LEAST_REQUEST');
    assert.equal(policyOf(inService('web', 'RANDOM', 'exportTo: [client]')), 'RANDOM');
  });

  it('a rule with a workload selector holds for those workloads only, and beats one without', () => {
    const yaml =
      inClient(WEB, 'ROUND_ROBIN') + inClient(WEB, 'RANDOM', 'workloadSelector: { matchLabels: { app: a } }');
    assert.equal(policyOf(yaml, 'client', { app: 'a' }), 'RANDOM');
    assert.equal(policyOf(yaml, 'client', { app: 'b' }), 'ROUND_ROBIN');
  });

  it('rules of one host and namespace merge: the first policy, all subsets', () => {
    const yaml =
      istio('DestinationRule', 'a', `host: web\n${balancer('RANDOM')}\nsubsets: [{ name: v1 }]`) +
      istio('DestinationRule', 'b', `host: web\n${balancer('ROUND_ROBIN')}\nsubsets: [{ name: v1 }, { name: v2 }]`);
    const compiled = new Compiled(service('web', 80) + yaml);
    assert.equal(dig(compiled.json('cluster', `outbound|80||${WEB}`), 'lb_policy'), 'RANDOM');
    assert.deepEqual(
      compiled.names('cluster').filter((name) => name.startsWith('outbound')),
      [`outbound|80||${WEB}`, `outbound|80|v1|${WEB}`, `outbound|80|v2|${WEB}`],
    );
  });

  it("a port's settings replace the whole policy, a subset's policy overrides block by block", () => {
    const spec = `
host: web
trafficPolicy:
  loadBalancer: { simple: RANDOM }
  connectionPool: { tcp: { maxConnections: 7 } }
  portLevelSettings: [{ port: { number: 81 }, loadBalancer: { simple: ROUND_ROBIN } }]
subsets: [{ name: v1, trafficPolicy: { loadBalancer: { simple: ROUND_ROBIN } } }]
`;
    const compiled = new Compiled(
      service('web', 80) +
        service('web', 81).replace('name: web,', 'name: web2,') +
        istio('DestinationRule', 'a', spec) +
        istio('DestinationRule', 'b', spec.replace('host: web', 'host: web2')),
    );
    const seen = (name: string) => {
      const json = compiled.json('cluster', name);
      return [dig(json, 'lb_policy'), dig(json, 'circuit_breakers', 'thresholds', 0, 'max_connections')];
    };
    assert.deepEqual(seen(`outbound|80||${WEB}`), ['RANDOM', 7]);
    assert.deepEqual(seen(`outbound|80|v1|${WEB}`), ['ROUND_ROBIN', 7]);
    assert.deepEqual(seen('outbound|81||web2.default.svc.cluster.local'), ['ROUND_ROBIN', 4294967295]);
  });

  it('a consistent hash becomes a ring and a hash policy on the route', () => {
    const hash = (key: string) => {
      const compiled = new Compiled(
        service('web', 80) +
          istio('DestinationRule', 'a', `host: web\ntrafficPolicy: { loadBalancer: { consistentHash: { ${key} } } }`),
      );
      assert.equal(
        dig(compiled.json('cluster', `outbound|80||${WEB}`), 'lb_policy'),
        key.includes('maglev') ? 'MAGLEV' : 'RING_HASH',
      );
      return dig(compiled.host('web'), 'routes', 0, 'route', 'hash_policy', 0);
    };
    assert.deepEqual(hash('httpHeaderName: x'), { header: { header_name: 'x' } });
    assert.deepEqual(hash('useSourceIp: true, maglev: {}'), { connection_properties: { source_ip: true } });
    assert.deepEqual(hash('httpQueryParameterName: q'), { query_parameter: { name: 'q' } });
    assert.deepEqual(hash('httpCookie: { name: c, path: /p, ttl: 0s }'), {
      cookie: { name: 'c', ttl: '0s', path: '/p' },
    });
  });
});
