/**
 * Ketama ring: the same key goes to the same host, and a host that leaves takes only its keys with it.
 * The ring is Envoy's, point for point (source/extensions/load_balancing_policies/ring_hash/ring_hash_lb.cc), so that
 * both can serve one mesh.
 */
import type { Host } from '../upstream/host.ts';
import { LiveHosts } from './live_hosts.ts';
import type { LoadBalancer, LoadBalancerInput } from './load_balancer.ts';
import { hashKey, STEPS_PER_HOST } from './hash_key.ts';
import { xxHash64OfText } from './xx_hash64.ts';

export interface RingHashOptions {
  readonly minimumRingSize: number;
  readonly maximumRingSize: number;
  readonly useHostnameForHashing: boolean;
}

export function createRingHash(
  { hosts, live = new LiveHosts(hosts, undefined), random }: LoadBalancerInput,
  options: RingHashOptions,
): LoadBalancer {
  if (hosts.length === 0) return { chooseHost: () => undefined };
  const ring = buildRing(hosts, options);
  const size = ring.owners.length;
  const steps = Math.min(size, STEPS_PER_HOST * hosts.length);
  return {
    chooseHost(request) {
      const high = request.hasHash ? request.hashHigh : Math.floor(random() * 2 ** 32);
      const low = request.hasHash ? request.hashLow : Math.floor(random() * 2 ** 32);
      let at = firstAtOrAfter(ring, high, low);
      // Later attempts move on along the ring (Envoy: chooseHost with attempt).
      if (request.attempt > 0) at = (at + request.attempt) % size;
      const first = hosts[ring.owners[at] as number];
      let chosen = first;
      for (let i = 0; chosen !== undefined && (!live.has(chosen) || request.shouldSkip(chosen)); i++) {
        // All are to be skipped, as far as can be seen: better one of them than nobody.
        if (i === steps) return first !== undefined && live.has(first) ? first : live.items[0];
        at = (at + 1) % size;
        chosen = hosts[ring.owners[at] as number];
      }
      return chosen;
    },
  };
}

interface Ring {
  readonly highs: Uint32Array;
  readonly lows: Uint32Array;
  readonly owners: Uint32Array;
}

function buildRing(hosts: readonly Host[], options: RingHashOptions): Ring {
  const total = hosts.reduce((sum, host) => sum + host.weight, 0);
  const normalized = hosts.map((host) => host.weight / total);
  const minimum = Math.min(...normalized);
  // The host with the least weight gets a whole number of points, the others in proportion.
  const scale = Math.min(Math.ceil(minimum * options.minimumRingSize) / minimum, options.maximumRingSize);
  const points: { high: number; low: number; owner: number }[] = [];
  let current = 0;
  let target = 0;
  hosts.forEach((host, owner) => {
    const key = hashKey(host, options.useHostnameForHashing);
    target += scale * (normalized[owner] as number);
    for (let i = 0; current < target; i++, current++) {
      const { high, low } = xxHash64OfText(`${key}_${i}`);
      points.push({ high, low, owner });
    }
  });
  points.sort((a, b) => a.high - b.high || a.low - b.low);
  return {
    highs: Uint32Array.from(points, (point) => point.high),
    lows: Uint32Array.from(points, (point) => point.low),
    owners: Uint32Array.from(points, (point) => point.owner),
  };
}

/** The first point whose hash is not less than the key; behind the last one the ring begins again. */
function firstAtOrAfter({ highs, lows, owners }: Ring, high: number, low: number): number {
  let from = 0;
  let to = owners.length;
  while (from < to) {
    const middle = (from + to) >> 1;
    const pointHigh = highs[middle] as number;
    if (pointHigh < high || (pointHigh === high && (lows[middle] as number) < low)) from = middle + 1;
    else to = middle;
  }
  return from === owners.length ? 0 : from;
}
