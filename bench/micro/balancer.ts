/** A choice among 10 hosts and among 10,000 by each policy. */
import { createLoadBalancer } from '../../proxy/load_balancers/index.ts';
import type { LoadBalancerConfig, LoadBalancerContext } from '../../proxy/load_balancers/load_balancer.ts';
import { ClusterHost } from '../../proxy/upstream/cluster_hosts.ts';
import { plainEndpoint } from '../../proxy/upstream/load_assignment.ts';
import { bench } from './harness.ts';

const POLICIES: readonly LoadBalancerConfig[] = [
  { policy: 'round_robin' },
  { policy: 'least_request', choiceCount: 2, activeRequestBias: 1 },
  { policy: 'random' },
  {
    policy: 'ring_hash',
    minimumRingSize: 1024,
    maximumRingSize: 8_388_608,
    hashFunction: 'xx_hash',
    useHostnameForHashing: false,
  },
  { policy: 'maglev', tableSize: 65_537, useHostnameForHashing: false },
];
const hostsOf = (count: number): ClusterHost[] =>
  Array.from({ length: count }, (_, index) => new ClusterHost(plainEndpoint(`10.0.${index >> 8}.${index & 255}`, 80)));
const context = {
  hashHigh: 0,
  hashLow: 0,
  hasHash: true,
  attempt: 0,
  metadataMatch: undefined,
  shouldSkip: () => false,
} as LoadBalancerContext & { hashHigh: number; hashLow: number };
for (const config of POLICIES) {
  for (const count of [10, 10_000]) {
    const balancer = createLoadBalancer(config, { hosts: hostsOf(count), random: Math.random });
    bench(`${config.policy}, ${count} hosts`, (index) => {
      context.hashHigh = Math.imul(index, 0x9e3779b1) >>> 0;
      context.hashLow = Math.imul(index, 0x85ebca6b) >>> 0;
      return balancer.chooseHost(context);
    });
  }
}
