/** Ketama ring: the same key goes to the same host, and a host that leaves takes only its keys with it. Source: Envoy ring_hash_lb.cc. */
import type { Host } from '../upstream/host.ts';
import { hashKey, STEPS_PER_HOST } from './hash_key.ts';
import { firstAtOrAfter } from './hash_table.ts';
import { builtHere } from './hash_tables.ts';
import { LiveHosts } from './live_hosts.ts';
import type { LoadBalancer, LoadBalancerInput } from './load_balancer.ts';

export interface RingHashOptions {
  readonly minimumRingSize: number;
  readonly maximumRingSize: number;
  readonly useHostnameForHashing: boolean;
}

export function createRingHash(
  { hosts, live = new LiveHosts(hosts, undefined), random, tables = builtHere }: LoadBalancerInput,
  { minimumRingSize, maximumRingSize, useHostnameForHashing }: RingHashOptions,
): LoadBalancer {
  if (hosts.length === 0) return { chooseHost: () => undefined };
  const wanted = tables.want({
    kind: 'ring',
    size: minimumRingSize,
    maximum: maximumRingSize,
    keys: hosts.map((host) => hashKey(host, useHostnameForHashing)),
    weights: hosts.map(({ weight }) => weight),
  });
  return {
    get ready() {
      return wanted.ready;
    },
    chooseHost(request) {
      const ring = wanted.now();
      const points = ring.length / 3;
      const owners = 2 * points;
      const steps = Math.min(points, STEPS_PER_HOST * hosts.length);
      const high = request.hasHash ? request.hashHigh : Math.floor(random() * 2 ** 32);
      const low = request.hasHash ? request.hashLow : Math.floor(random() * 2 ** 32);
      let at = firstAtOrAfter(ring, high, low);
      // Later attempts move on along the ring (Envoy: chooseHost with attempt).
      if (request.attempt > 0) at = (at + request.attempt) % points;
      const first = hosts[ring[owners + at] as number] as Host;
      let chosen = first;
      for (let i = 0; !live.has(chosen) || request.shouldSkip(chosen); i++) {
        // All are to be skipped, as far as can be seen: better one of them than nobody.
        if (i === steps) return live.has(first) ? first : live.items[0];
        at = (at + 1) % points;
        chosen = hosts[ring[owners + at] as number] as Host;
      }
      return chosen;
    },
  };
}
