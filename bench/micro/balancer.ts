/** A choice among 100 hosts by each policy. */
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
const hosts = Array.from({ length: 100 }, (_, index) => new ClusterHost(plainEndpoint(`10.0.0.${index + 1}`, 80)));
const context = {
  hashHigh: 0,
  hashLow: 0,
  hasHash: true,
  attempt: 0,
  metadataMatch: undefined,
  shouldSkip: () => false,
} as LoadBalancerContext & { hashHigh: number; hashLow: number };
for (const config of POLICIES) {
  const balancer = createLoadBalancer(config, { hosts, random: Math.random });
  bench(`${config.policy}, 100 hosts`, (index) => {
    context.hashHigh = Math.imul(index, 0x9e3779b1) >>> 0;
    context.hashLow = Math.imul(index, 0x85ebca6b) >>> 0;
    return balancer.chooseHost(context);
  });
}
