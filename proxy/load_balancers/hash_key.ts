/** What consistent hashing knows a host by. Source: Envoy ThreadAwareLoadBalancerBase hashKey. */
import type { Host } from '../upstream/host.ts';

/** The endpoint's own `hash_key` (metadata envoy.lb), else its host name where that is asked for, else its address. */
export function hashKey(host: Host, useHostname: boolean): string {
  const own = host.metadata?.['envoy.lb']?.['hash_key'];
  if (typeof own === 'string' && own !== '') return own;
  return useHostname && host.hostname !== '' ? host.hostname : host.address.text;
}

/** How far a balancer looks along its table for a host that is not to be skipped, by number of hosts. */
export const STEPS_PER_HOST = 64;
