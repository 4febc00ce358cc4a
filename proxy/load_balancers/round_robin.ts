/** Turns, by weight where weights differ. */
import type { Host } from '../upstream/host.ts';
import { EdfScheduler } from './edf_scheduler.ts';
import { anyOther, LiveHosts } from './live_hosts.ts';
import type { LoadBalancer, LoadBalancerInput } from './load_balancer.ts';

/** Turns that may be passed over, by hosts that are not to be chosen, before any other is taken. */
const MAX_TURNS = 64;

export function createRoundRobin(input: LoadBalancerInput): LoadBalancer {
  const { hosts, live = new LiveHosts(hosts, undefined), random } = input;
  if (hosts.length === 0) return { chooseHost: () => undefined };
  const weighted = hosts.some((host) => host.weight !== hosts[0]?.weight);
  const next = weighted ? byWeight(hosts, random()) : inTurn(live, random());
  return {
    chooseHost(request) {
      const { items } = live;
      if (items.length === 0) return undefined;
      const turns = Math.min(MAX_TURNS, hosts.length * 2);
      let chosen: Host | undefined;
      for (let i = 0; i < turns; i++) {
        chosen = next();
        if (live.has(chosen) && live.accepts(chosen) && !request.shouldSkip(chosen)) return chosen;
      }
      return chosen === undefined ? undefined : anyOther(live, chosen, random, (host) => request.shouldSkip(host));
    },
  };
}

function inTurn(live: LiveHosts, offset: number): () => Host {
  let turn = Math.floor(offset * live.items.length);
  return () => {
    const { items } = live;
    if (turn >= items.length) turn = 0;
    return items[turn++] as Host;
  };
}

function byWeight(hosts: readonly Host[], offset: number): () => Host {
  const scheduler = new EdfScheduler(
    hosts.map((host) => host.weight),
    offset,
  );
  return () => hosts[scheduler.next()] as Host;
}
