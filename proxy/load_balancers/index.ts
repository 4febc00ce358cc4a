/** A balancer for a configuration. */
import { createLeastRequest } from './least_request.ts';
import type { LoadBalancer, LoadBalancerConfig, LoadBalancerInput } from './load_balancer.ts';
import { createMaglev } from './maglev.ts';
import { createRandom } from './random.ts';
import { createRingHash } from './ring_hash.ts';
import { createRoundRobin } from './round_robin.ts';

/** `cluster_provided` clusters make their hosts themselves; where they have some, any will do. */
export function createLoadBalancer(config: LoadBalancerConfig, input: LoadBalancerInput): LoadBalancer {
  switch (config.policy) {
    case 'round_robin':
      return createRoundRobin(input);
    case 'least_request':
      return createLeastRequest(input, config);
    case 'random':
    case 'cluster_provided':
      return createRandom(input);
    case 'ring_hash':
      return createRingHash(input, config);
    case 'maglev':
      return createMaglev(input, config);
    default:
      return config satisfies never;
  }
}
