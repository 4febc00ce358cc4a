/** Any host, all alike. */
import type { LoadBalancer, LoadBalancerInput } from './load_balancer.ts';

const MAX_TRIES = 5;

export function createRandom({ hosts, random }: LoadBalancerInput): LoadBalancer {
  return {
    chooseHost(request) {
      let chosen = hosts[Math.floor(random() * hosts.length)];
      for (let i = 0; i < MAX_TRIES && chosen !== undefined && request.shouldSkip(chosen); i++) {
        chosen = hosts[Math.floor(random() * hosts.length)];
      }
      return chosen;
    },
  };
}
