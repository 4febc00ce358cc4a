/**
 * Least request: of `choiceCount` hosts drawn at random the one with the fewest requests in flight; where weights
 * differ, turns by weight / (active + 1)^bias. Source: Envoy least_request_lb.cc.
 */
import type { Host } from '../upstream/host.ts';
import { anyOther, LiveHosts, MAX_DRAWS } from './live_hosts.ts';
import type { LoadBalancer, LoadBalancerInput } from './load_balancer.ts';

export interface LeastRequestOptions {
  readonly choiceCount: number;
  readonly activeRequestBias: number;
}

export function createLeastRequest(
  { hosts, live = new LiveHosts(hosts, undefined), random }: LoadBalancerInput,
  options: LeastRequestOptions,
): LoadBalancer {
  if (hosts.length === 0) return { chooseHost: () => undefined };
  const weighted = hosts.some((host) => host.weight !== hosts[0]?.weight);
  const draw = weighted
    ? weightedDraw(hosts, random, options.activeRequestBias)
    : leastOf(live, random, options.choiceCount);
  return {
    chooseHost(request) {
      if (live.items.length === 0) return undefined;
      let chosen = draw();
      for (let i = 0; !live.has(chosen) || !live.accepts(chosen) || request.shouldSkip(chosen); i++) {
        if (i === MAX_DRAWS) return anyOther(live, chosen, random, (host) => request.shouldSkip(host));
        chosen = draw();
      }
      return chosen;
    },
  };
}

function leastOf(live: LiveHosts, random: () => number, choiceCount: number): () => Host {
  const hosts = live.items;
  return () => {
    const count = hosts.length;
    let best = hosts[Math.floor(random() * count)] as Host;
    for (let i = 1; i < choiceCount; i++) {
      const other = hosts[Math.floor(random() * count)] as Host;
      if (other.activeRequests < best.activeRequests) best = other;
    }
    return best;
  };
}

/** Two hosts drawn by static weight; the one with less load per weight wins. O(log n), like the draw by turns. */
function weightedDraw(hosts: readonly Host[], random: () => number, bias: number): () => Host {
  const sums = new Float64Array(hosts.length);
  let total = 0;
  hosts.forEach((host, index) => {
    total += host.weight;
    sums[index] = total;
  });
  const pick = (): Host => {
    const point = random() * total;
    let low = 0;
    let high = hosts.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] as number) > point) high = middle;
      else low = middle + 1;
    }
    return hosts[low] as Host;
  };
  const load = (host: Host): number => (bias === 0 ? 0 : (host.activeRequests + 1) ** bias / host.weight);
  return () => {
    const first = pick();
    if (bias === 0) return first;
    const second = pick();
    if (first.activeRequests === second.activeRequests) return first;
    return load(second) < load(first) ? second : first;
  };
}
