/** What of the mesh one proxy sees after its Sidecar (istio/istio: pilot/pkg/model/sidecar.go). */
import type { MeshService } from './model.ts';
import type { HostImport, Sidecar, SidecarEgress } from './sidecar.ts';
import type { Destination, VirtualService } from './virtual_service.ts';

/** What one egress listener sees. */
export interface EgressScope {
  /** undefined: the listener of a proxy without a Sidecar, or whose Sidecar names no egress. */
  readonly egress: SidecarEgress | undefined;
  /** Where the listener names a port, its services have that port only. */
  readonly services: readonly MeshService[];
  readonly virtualServices: readonly VirtualService[];
}

export interface SidecarScope {
  readonly sidecar: Sidecar | undefined;
  /** Listeners with a port first, the one for all others last (absent where the Sidecar has none). */
  readonly listeners: readonly EgressScope[];
  /** Of all listeners, one a host. */
  readonly services: readonly MeshService[];
  readonly virtualServices: readonly VirtualService[];
}

/** @param services and virtualServices what is exported to the client's namespace, in the order in which they win */
export function sidecarScope(
  sidecar: Sidecar | undefined,
  services: readonly MeshService[],
  virtualServices: readonly VirtualService[],
  namespace: string,
): SidecarScope {
  if (sidecar?.egress === undefined) {
    return {
      sidecar,
      listeners: [{ egress: undefined, services, virtualServices }],
      services,
      virtualServices,
    };
  }
  const listeners = sidecar.egress.map((egress) => {
    const seen = virtualServices.filter((rule) => isImported(egress, rule.namespace, rule.hosts));
    const asked = services.filter((service) => isImported(egress, service.namespace, [service.host]));
    const chosen = [...asked, ...routedTo(seen, services, asked, namespace)];
    return { egress, services: onPort(chosen, egress.port?.number), virtualServices: seen };
  });
  return {
    sidecar,
    listeners,
    services: union(listeners.flatMap((listener) => listener.services)),
    virtualServices: virtualServices.filter((rule) =>
      listeners.some((listener) => listener.virtualServices.includes(rule)),
    ),
  };
}

function isImported(egress: SidecarEgress, namespace: string, hosts: readonly string[]): boolean {
  const fits = (pattern: HostImport): boolean =>
    (pattern.namespace === '*' || pattern.namespace === namespace) &&
    hosts.some((host) => hostsMeet(pattern.host, host));
  return egress.imports.some(fits) && !egress.exclusions.some(fits);
}

/** Whether two names, of which each may be a wildcard, have a host in common. */
function hostsMeet(a: string, b: string): boolean {
  if (a === b || a === '*' || b === '*') return true;
  const aWild = a.startsWith('*');
  const bWild = b.startsWith('*');
  if (aWild && bWild) return a.length < b.length ? b.endsWith(a.slice(1)) : a.endsWith(b.slice(1));
  if (aWild) return b.endsWith(a.slice(1));
  return bWild && a.endsWith(b.slice(1));
}

/** Destinations of imported rules come with them, the client's own namespace before others. */
function routedTo(
  rules: readonly VirtualService[],
  services: readonly MeshService[],
  asked: readonly MeshService[],
  namespace: string,
): MeshService[] {
  const have = new Set(asked.map((service) => service.host));
  const wanted = new Set(rules.flatMap(destinations).filter((host) => !have.has(host)));
  if (wanted.size === 0) return [];
  const found = new Map<string, MeshService>();
  for (const service of services) {
    if (!wanted.has(service.host)) continue;
    const other = found.get(service.host);
    if (other === undefined || (other.namespace !== namespace && service.namespace === namespace))
      found.set(service.host, service);
  }
  return [...found.values()];
}

function destinations(rule: VirtualService): string[] {
  const all: (Destination | undefined)[] = rule.http.flatMap((route) => [
    ...(route.route ?? []).map((item) => item.destination),
    route.mirror,
    ...(route.mirrors ?? []).map((item) => item.destination),
  ]);
  for (const { route } of [...rule.tls, ...rule.tcp]) all.push(...(route ?? []).map((item) => item.destination));
  return all.flatMap((destination) => (destination?.host === undefined ? [] : [destination.host]));
}

function onPort(services: readonly MeshService[], number: number | undefined): readonly MeshService[] {
  if (number === undefined) return services;
  return services.flatMap((service) => {
    const ports = service.ports.filter((port) => port.number === number);
    return ports.length === 0 ? [] : [{ ...service, ports }];
  });
}

function union(services: readonly MeshService[]): MeshService[] {
  const out = new Map<string, MeshService>();
  for (const service of services) {
    const other = out.get(service.host);
    if (other === undefined) out.set(service.host, service);
    else {
      const known = new Set(other.ports.map((port) => port.number));
      const ports = [...other.ports, ...service.ports.filter((port) => !known.has(port.number))];
      out.set(service.host, { ...other, ports });
    }
  }
  return [...out.values()];
}
