/** Any host, all alike. */
import { anyOther, LiveHosts, MAX_DRAWS } from './live_hosts.ts';
import type { LoadBalancer, LoadBalancerInput } from './load_balancer.ts';

export function createRandom({
  hosts,
  live = new LiveHosts(hosts, undefined),
  random,
}: LoadBalancerInput): LoadBalancer {
  const { items } = live;
  return {
    chooseHost(request) {
      let chosen = items[Math.floor(random() * items.length)];
      for (let i = 0; chosen !== undefined && request.shouldSkip(chosen); i++) {
        if (i === MAX_DRAWS) return anyOther(live, chosen, random, (host) => request.shouldSkip(host));
        chosen = items[Math.floor(random() * items.length)];
      }
      return chosen;
    },
  };
}
