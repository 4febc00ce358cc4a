/** Turns, by weight where weights differ. */
import type { Host } from '../upstream/host.ts';
import { EdfScheduler } from './edf_scheduler.ts';
import type { LoadBalancer, LoadBalancerInput } from './load_balancer.ts';

export function createRoundRobin({ hosts, random }: LoadBalancerInput): LoadBalancer {
  if (hosts.length === 0) return { chooseHost: () => undefined };
  const weighted = hosts.some((host) => host.weight !== hosts[0]?.weight);
  const scheduler = weighted
    ? new EdfScheduler(
        hosts.map((host) => host.weight),
        random(),
      )
    : undefined;
  let turn = Math.floor(random() * hosts.length);
  return {
    chooseHost(request) {
      let chosen: Host | undefined;
      // A host to be avoided is passed over, as long as there are others.
      for (let i = 0; i < hosts.length; i++) {
        if (scheduler !== undefined) chosen = hosts[scheduler.next()];
        else {
          chosen = hosts[turn];
          turn = turn + 1 === hosts.length ? 0 : turn + 1;
        }
        if (chosen !== undefined && !request.shouldSkip(chosen)) return chosen;
      }
      return chosen;
    },
  };
}
