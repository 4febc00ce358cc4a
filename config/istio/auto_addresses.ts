/**
 * Addresses for entries that have none, so that names without an address of their own can be told apart when traffic is
 * intercepted (istio/istio: pilot/pkg/serviceregistry/util/…/autoAllocateIPs): 240.240.0.0/16, which nobody routes.
 */
import { createHash } from 'node:crypto';
import type { MeshService } from './model.ts';

/** Usable addresses: 240.240.0.1 to 240.240.255.254, none ending in 0 or 255. */
const SLOTS = 256 * 254;

/** The same entry gets the same address whatever else there is, but for the rare case that two want one. */
export function withAutoAddresses(services: readonly MeshService[]): MeshService[] {
  const taken = new Set<number>();
  return services.map((service) => {
    if (!needsAddress(service)) return service;
    let slot = createHash('sha256').update(`${service.namespace}/${service.host}`).digest().readUInt32BE(0) % SLOTS;
    while (taken.has(slot) && taken.size < SLOTS) slot = (slot + 1) % SLOTS;
    taken.add(slot);
    return { ...service, addresses: [`240.240.${Math.floor(slot / 254)}.${(slot % 254) + 1}`] };
  });
}

function needsAddress({ registry, addresses, resolution, host }: MeshService): boolean {
  return (
    registry === 'entry' &&
    addresses.length === 0 &&
    resolution !== 'passthrough' &&
    resolution !== 'dynamic_dns' &&
    !host.startsWith('*')
  );
}
