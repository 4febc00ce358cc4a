/**
 * Maglev: consistent hashing by one table look-up.
 * The table is Envoy's (source/extensions/load_balancing_policies/maglev/maglev_lb.cc), entry for entry.
 */
import type { Host } from '../upstream/host.ts';
import { LiveHosts } from './live_hosts.ts';
import type { LoadBalancer, LoadBalancerInput } from './load_balancer.ts';
import { hashKey, STEPS_PER_HOST } from './hash_key.ts';
import { hash, xxHash64OfText } from './xx_hash64.ts';

export interface MaglevOptions {
  readonly tableSize: number;
  readonly useHostnameForHashing: boolean;
}

export function createMaglev(
  { hosts, live = new LiveHosts(hosts, undefined), random }: LoadBalancerInput,
  options: MaglevOptions,
): LoadBalancer {
  if (hosts.length === 0) return { chooseHost: () => undefined };
  const table = buildTable(hosts, options);
  const size = options.tableSize;
  const steps = Math.min(size, STEPS_PER_HOST * hosts.length);
  return {
    chooseHost(request) {
      let high = request.hasHash ? request.hashHigh : Math.floor(random() * 2 ** 32);
      let low = request.hasHash ? request.hashLow : Math.floor(random() * 2 ** 32);
      if (request.attempt > 0) {
        // Envoy flips the hash by the attempt: hash ^= ~0 - attempt + 1.
        low = (low ^ (0x1_0000_0000 - request.attempt)) >>> 0;
        high = (high ^ 0xffffffff) >>> 0;
      }
      let at = remainder(high, low, size);
      const first = hosts[table[at] as number];
      let chosen = first;
      for (let i = 0; chosen !== undefined && (!live.has(chosen) || request.shouldSkip(chosen)); i++) {
        // All are to be skipped, as far as can be seen: better one of them than nobody.
        if (i === steps) return first !== undefined && live.has(first) ? first : live.items[0];
        at = (at + 1) % size;
        chosen = hosts[table[at] as number];
      }
      return chosen;
    },
  };
}

/** (high · 2^32 + low) mod `divisor`, exactly: divisor is below 2^23, so every step stays below 2^53. */
function remainder(high: number, low: number, divisor: number): number {
  return ((high % divisor) * (4294967296 % divisor) + (low % divisor)) % divisor;
}

function buildTable(hosts: readonly Host[], options: MaglevOptions): Uint32Array {
  const size = options.tableSize;
  const weights = hosts.map((host) => host.weight);
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const maximum = Math.max(...weights) / total;
  // In the order of their keys: the table does not depend on the order in which hosts were found.
  const sorted = hosts
    .map((host, index) => ({ host, index, key: hashKey(host, options.useHostnameForHashing) }))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  const entries = sorted.map(({ host, index, key }) => {
    xxHash64OfText(key, 0);
    const offset = remainder(hash.high, hash.low, size);
    xxHash64OfText(key, 1);
    const skip = remainder(hash.high, hash.low, size - 1) + 1;
    return { index, weight: host.weight / total, offset, skip, next: 0, target: 0, count: 0 };
  });
  const table = new Uint32Array(size).fill(0xffffffff);
  let filled = 0;
  for (let iteration = 1; filled < size; iteration++) {
    for (const entry of entries) {
      if (filled >= size) break;
      // Hosts with less than the greatest weight are passed over until their turn has come.
      if (iteration * entry.weight < entry.target) continue;
      entry.target += maximum;
      let place = (entry.offset + entry.skip * entry.next) % size;
      while (table[place] !== 0xffffffff) {
        entry.next++;
        place = (entry.offset + entry.skip * entry.next) % size;
      }
      table[place] = entry.index;
      entry.next++;
      filled++;
    }
  }
  return table;
}
