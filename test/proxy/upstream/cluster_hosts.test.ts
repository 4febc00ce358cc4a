/** Who is chosen: priorities, localities, subsets, slow start, panic, and what it costs with ten thousand hosts. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { LoadBalancerContext } from '../../../proxy/load_balancers/load_balancer.ts';
import { ClusterHosts, type ClusterHostsOptions, type HostVerdict } from '../../../proxy/upstream/cluster_hosts.ts';
import { DEFAULT_SESSION_HEALTH, type Host } from '../../../proxy/upstream/host.ts';
import { type Endpoint, plainEndpoint } from '../../../proxy/upstream/load_assignment.ts';

let clockMs = 1;

/** mulberry32: the same numbers every time. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

const random = seeded(7);

function options(more: Partial<ClusterHostsOptions> = {}): ClusterHostsOptions {
  return {
    loadBalancer: { policy: 'least_request', choiceCount: 2, activeRequestBias: 1 },
    panicThresholdPercent: 0,
    failOnPanic: false,
    localityWeighted: false,
    sessionHealth: DEFAULT_SESSION_HEALTH,
    slowStart: undefined,
    subsets: undefined,
    random,
    nowMs: () => clockMs,
    ...more,
  };
}

function endpoint(index: number, more: Partial<Endpoint> = {}): Endpoint {
  return { ...plainEndpoint(`10.${(index >> 16) & 255}.${(index >> 8) & 255}.${index & 255}`, 80), ...more };
}

function context(more: Partial<LoadBalancerContext> = {}): LoadBalancerContext {
  return {
    hashHigh: 0,
    hashLow: 0,
    hasHash: false,
    attempt: 0,
    metadataMatch: undefined,
    shouldSkip: () => false,
    ...more,
  };
}

class Subject {
  readonly verdicts = new Map<string, HostVerdict>();
  readonly hosts: ClusterHosts;

  constructor(endpoints: readonly Endpoint[], more: Partial<ClusterHostsOptions> = {}) {
    this.hosts = new ClusterHosts(options(more), this.verdicts);
    this.update(endpoints);
  }

  update(endpoints: readonly Endpoint[]): void {
    this.hosts.update({ clusterName: 'c', endpoints, overprovisioningFactor: 140 });
  }

  eject(index: number, ejected = true): void {
    const address = `${endpoint(index).ip}:80`;
    if (ejected) this.verdicts.set(address, { ejected, failedActiveCheck: false });
    else this.verdicts.delete(address);
    this.hosts.verdictChanged(address);
  }

  /** Shares in percent, by what `of` makes of a host. */
  shares(of: (host: Host) => string, asked = context(), count = 4000): Map<string, number> {
    const counts = new Map<string, number>();
    for (let i = 0; i < count; i++) {
      const host = this.hosts.choose(asked);
      const key = host === undefined ? 'nobody' : of(host);
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    return new Map([...counts].map(([key, value]) => [key, (100 * value) / count]));
  }
}

const near = (actual: number | undefined, wanted: number): void =>
  assert.ok(Math.abs((actual ?? 0) - wanted) < 4, `${actual} %, wanted ${wanted} %`);
const byPriority = ({ priority }: Host): string => `P${priority}`;

test('priorities fail over in proportion: 1.4 × what is healthy is enough', () => {
  const all = [0, 1, 2, 3, 4]
    .map((index) => endpoint(index))
    .concat([5, 6].map((index) => endpoint(index, { priority: 1 })));
  const subject = new Subject(all);
  assert.deepEqual([...subject.shares(byPriority)], [['P0', 100]]);
  subject.eject(0);
  // 4 of 5 are healthy: 1.4 × 80 % is more than all.
  assert.deepEqual([...subject.shares(byPriority)], [['P0', 100]]);
  subject.eject(1);
  subject.eject(2);
  near(subject.shares(byPriority).get('P0'), 56);
  subject.eject(3);
  subject.eject(4);
  assert.deepEqual([...subject.shares(byPriority)], [['P1', 100]]);
  for (let index = 0; index < 5; index++) subject.eject(index, false);
  assert.deepEqual([...subject.shares(byPriority)], [['P0', 100]]);
});

test('localities get their weights, and less when their hosts are gone', () => {
  const zone = (name: string, localityWeight: number) => ({
    locality: { region: 'r', zone: name, subZone: '' },
    localityWeight,
  });
  const subject = new Subject(
    [
      ...[0, 1].map((index) => endpoint(index, zone('a', 80))),
      ...[2, 3].map((index) => endpoint(index, zone('b', 20))),
      endpoint(4, { locality: { region: 'r', zone: 'c', subZone: '' } }),
    ],
    { localityWeighted: true },
  );
  const byZone = ({ locality }: Host): string => locality.zone;
  near(subject.shares(byZone).get('a'), 80);
  assert.equal(subject.shares(byZone).get('c'), undefined);
  subject.eject(0);
  // Half of a: 80 × 1.4 × 0.5 = 56 against 20.
  near(subject.shares(byZone).get('a'), (100 * 56) / 76);
  subject.eject(1);
  assert.deepEqual([...subject.shares(byZone)], [['b', 100]]);
});

test('subsets are chosen by the route, with their fallback', () => {
  const labels = (version: string) => ({ metadata: { 'envoy.lb': { version, stage: 'prod' } } });
  const endpoints = [endpoint(0, labels('v1')), endpoint(1, labels('v2')), endpoint(2)];
  const asked = (wanted: Record<string, string>) => context({ metadataMatch: { 'envoy.lb': wanted } });
  const byIp = ({ address }: Host): string => address.ip;
  const selectors = [{ keys: ['version'], fallback: undefined }];
  const make = (fallback: 'none' | 'any_endpoint' | 'default_subset') =>
    new Subject(endpoints, { subsets: { fallback, defaultSubset: { version: 'v1' }, selectors } });
  assert.deepEqual([...make('none').shares(byIp, asked({ version: 'v2' }))], [['10.0.0.1', 100]]);
  assert.deepEqual([...make('none').shares(byIp, asked({ version: 'v3' }))], [['nobody', 100]]);
  assert.deepEqual([...make('default_subset').shares(byIp, asked({ version: 'v3' }))], [['10.0.0.0', 100]]);
  assert.equal(make('any_endpoint').shares(byIp, asked({ version: 'v3' })).size, 3);
  const subject = make('any_endpoint');
  subject.eject(1);
  assert.equal(subject.shares(byIp, asked({ version: 'v2' })).get('10.0.0.1'), undefined);
});

test('a host that has just come takes little at first, and its share after the window', () => {
  for (const policy of ['least_request', 'round_robin'] as const) {
    clockMs = 1000;
    const subject = new Subject([endpoint(0), endpoint(1)], {
      slowStart: { windowMs: 10_000, aggression: 1, minWeight: 0.1, nowMs: () => clockMs, random },
      loadBalancer: policy === 'round_robin' ? { policy } : { policy, choiceCount: 2, activeRequestBias: 1 },
    });
    const byIp = ({ address }: Host): string => address.ip;
    near(subject.shares(byIp).get('10.0.0.0'), 50);
    subject.update([endpoint(0), endpoint(1), endpoint(2)]);
    near(subject.shares(byIp).get('10.0.0.2'), 100 / 21);
    clockMs += 5000;
    near(subject.shares(byIp).get('10.0.0.2'), 20);
    clockMs += 5001;
    near(subject.shares(byIp).get('10.0.0.2'), 33.3);
  }
});

test('in panic everybody is chosen, or nobody where that is asked for', () => {
  const endpoints = [0, 1, 2, 3].map((index) => endpoint(index));
  const subject = new Subject(endpoints, { panicThresholdPercent: 50 });
  for (const index of [0, 1, 2]) subject.eject(index);
  assert.equal(subject.shares(({ address }) => address.ip).size, 4);
  const strict = new Subject(endpoints, { panicThresholdPercent: 50, failOnPanic: true });
  for (const index of [0, 1, 2, 3]) strict.eject(index);
  assert.equal(strict.hosts.choose(context()), undefined);
});

test('with ten thousand hosts, ejecting one builds nothing again and nobody gets the ejected one', () => {
  for (const policy of ['least_request', 'round_robin', 'random', 'ring_hash', 'maglev'] as const) {
    const loadBalancer = {
      least_request: { policy: 'least_request', choiceCount: 2, activeRequestBias: 1 },
      round_robin: { policy: 'round_robin' },
      random: { policy: 'random' },
      ring_hash: {
        policy: 'ring_hash',
        minimumRingSize: 1024,
        maximumRingSize: 8_388_608,
        hashFunction: 'xx_hash',
        useHostnameForHashing: false,
      },
      maglev: { policy: 'maglev', tableSize: 65_537, useHostnameForHashing: false },
    }[policy] as ClusterHostsOptions['loadBalancer'];
    const subject = new Subject(
      Array.from({ length: 10_000 }, (_, index) => endpoint(index)),
      { loadBalancer },
    );
    const buildStartMs = performance.now();
    subject.hosts.choose(context());
    const buildMs = performance.now() - buildStartMs;
    subject.eject(0);
    const startMs = performance.now();
    for (let index = 1; index <= 1000; index++) subject.eject(index);
    const ejectMs = performance.now() - startMs;
    // A table that were built again each time would take a thousand times as long.
    assert.ok(ejectMs < Math.max(200, buildMs * 20), `${policy}: ${ejectMs} ms for a thousand, ${buildMs} ms to build`);
    for (let i = 0; i < 2000; i++) {
      const host = subject.hosts.choose(context({ hasHash: true, hashHigh: i * 2_654_435, hashLow: i }));
      assert.equal(host?.health, 'healthy');
    }
    assert.equal(subject.hosts.healthyCount, 8999);
  }
});
