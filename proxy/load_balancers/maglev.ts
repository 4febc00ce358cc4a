/** Maglev: consistent hashing by one table look-up. Source: Envoy maglev_lb.cc. */
import type { Host } from '../upstream/host.ts';
import { hashKey, STEPS_PER_HOST } from './hash_key.ts';
import { remainder } from './hash_table.ts';
import { builtHere } from './hash_tables.ts';
import { LiveHosts } from './live_hosts.ts';
import type { LoadBalancer, LoadBalancerInput } from './load_balancer.ts';

export interface MaglevOptions {
  readonly tableSize: number;
  readonly useHostnameForHashing: boolean;
}

export function createMaglev(
  { hosts, live = new LiveHosts(hosts, undefined), random, tables = builtHere }: LoadBalancerInput,
  { tableSize: size, useHostnameForHashing }: MaglevOptions,
): LoadBalancer {
  if (hosts.length === 0) return { chooseHost: () => undefined };
  const wanted = tables.want({
    kind: 'maglev',
    size,
    maximum: 0,
    keys: hosts.map((host) => hashKey(host, useHostnameForHashing)),
    weights: hosts.map(({ weight }) => weight),
  });
  const steps = Math.min(size, STEPS_PER_HOST * hosts.length);
  return {
    get ready() {
      return wanted.ready;
    },
    chooseHost(request) {
      const table = wanted.now();
      let high = request.hasHash ? request.hashHigh : Math.floor(random() * 2 ** 32);
      let low = request.hasHash ? request.hashLow : Math.floor(random() * 2 ** 32);
      if (request.attempt > 0) {
        // Envoy flips the hash by the attempt: hash ^= ~0 - attempt + 1.
        low = (low ^ (0x1_0000_0000 - request.attempt)) >>> 0;
        high = (high ^ 0xffffffff) >>> 0;
      }
      let at = remainder(high, low, size);
      const first = hosts[table[at] as number] as Host;
      let chosen = first;
      for (let i = 0; !live.has(chosen) || request.shouldSkip(chosen); i++) {
        // All are to be skipped, as far as can be seen: better one of them than nobody.
        if (i === steps) return live.has(first) ? first : live.items[0];
        at = (at + 1) % size;
        chosen = hosts[table[at] as number] as Host;
      }
      return chosen;
    },
  };
}
