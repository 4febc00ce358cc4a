/** The virtual hosts of one port: which host names lead to which routes (istio/istio: pilot/pkg/networking/core/httproute.go). */
import type { Json } from '../resources.ts';
import type { CompileContext } from './context.ts';
import type { ConsistentHash, TrafficPolicy } from './destination_rule.ts';
import { OUTBOUND_PASSTHROUGH, originOf } from './envoy_json.ts';
import { HostIndex } from './hosts.ts';
import { defaultRoute, virtualServiceRoutes } from './http_route.ts';
import type { MeshService, ServicePort } from './model.ts';
import { isHttpOrSniffed } from './protocol.ts';
import { compareText } from './route_match.ts';
import type { VirtualService } from './virtual_service.ts';
import { isVisible } from './visibility.ts';

export interface VirtualHost {
  readonly name: string;
  readonly domains: readonly string[];
  readonly routes: readonly Json[];
  /** undefined: a host that only a VirtualService names. */
  readonly service: MeshService | undefined;
  readonly port: number;
  readonly virtualService: VirtualService | undefined;
  readonly origin: string;
}

/** The VirtualServices of a client, and which of them holds for which host. */
export class RouteRules {
  readonly #context: CompileContext;
  /** In the order in which they win: own namespace's private ones, exported to it, public; oldest first. */
  readonly #ordered: readonly VirtualService[];
  readonly #rank: ReadonlyMap<VirtualService, number>;
  readonly #byHost = new Map<string, VirtualService[]>();
  readonly #wildcards = new HostIndex<VirtualService>();
  readonly #servicesByPort = new Map<number, { readonly service: MeshService; readonly port: ServicePort }[]>();
  readonly #aliases = new Map<string, string[]>();

  constructor(context: CompileContext) {
    this.#context = context;
    this.#ordered = context.virtualServices;
    this.#rank = new Map(this.#ordered.map((service, index) => [service, index]));
    for (const service of this.#ordered) {
      for (const host of service.hosts) {
        if (host.startsWith('*')) {
          if (this.#wildcards.get(host) === undefined) this.#wildcards.set(host, service);
        } else push(this.#byHost, host, service);
      }
    }
    // A listener with a port of its own takes that port from the others.
    const claimed = new Set(context.scope.listeners.flatMap(({ egress }) => egress?.port?.number ?? []));
    for (const service of context.services) {
      if (service.resolution === 'alias' && context.byHost.has(service.externalName)) {
        push(this.#aliases, service.externalName, service.host);
        continue;
      }
      if (service.resolution === 'alias' && !context.explicit) continue;
      for (const port of service.ports) {
        if (!claimed.has(port.number)) push(this.#servicesByPort, port.number, { service, port });
      }
    }
    for (const { egress, services } of context.scope.listeners) {
      if (egress?.port === undefined) continue;
      for (const service of services) {
        for (const port of service.ports) push(this.#servicesByPort, port.number, { service, port });
      }
    }
  }

  /** Ports on which some service speaks HTTP, or may. */
  httpPorts(): number[] {
    const out: number[] = [];
    for (const [number, list] of this.#servicesByPort) {
      if (list.some(({ port }) => isHttpOrSniffed(port.protocol))) out.push(number);
    }
    return out.sort((a, b) => a - b);
  }

  servicesOn(port: number): readonly { readonly service: MeshService; readonly port: ServicePort }[] {
    return this.#servicesByPort.get(port) ?? [];
  }

  /** Sorted by name; the first virtual host that claims a domain keeps it. */
  virtualHosts(port: number): VirtualHost[] {
    const services = this.servicesOn(port).filter((item) => isHttpOrSniffed(item.port.protocol));
    const shaped = this.#shapedServices(services);
    const claimed = new Set<string>();
    const out: VirtualHost[] = [];
    const done = new Set<MeshService>();
    const add = (host: VirtualHost) => {
      const domains = host.domains.filter((domain) => !claimed.has(domain.toLowerCase()));
      if (domains.length === 0) return;
      for (const domain of domains) claimed.add(domain.toLowerCase());
      out.push({ ...host, domains });
    };
    const onPort = new Set(this.servicesOn(port).map((item) => item.service.host));
    // Port 80 also serves hosts that no registry knows.
    for (const virtualService of port === 80 ? this.#ordered : this.#sorted(shaped.keys())) {
      const matched = shaped.get(virtualService) ?? [];
      const routes = virtualServiceRoutes(this.#context, virtualService, port);
      if (routes.length === 0) continue;
      for (const host of virtualService.hosts) {
        if (onPort.has(host) || (host.startsWith('*') && this.#matchesService(host, onPort))) continue;
        add(ruleHost(host, port, routes, virtualService));
      }
      for (const service of matched) {
        if (done.has(service)) continue;
        done.add(service);
        add(this.#serviceHost(service, port, routes, virtualService));
      }
    }
    for (const { service, port: servicePort } of services) {
      if (done.has(service)) continue;
      const rule = this.#context.rule(service.host);
      const hash = servicePortHash(rule?.policy, port);
      const route = defaultRoute(service.host, port, this.#context.mesh.defaultHttpRetry, hash);
      add(this.#serviceHost(service, servicePort.number, [route], undefined));
    }
    return out.sort((a, b) => compareText(a.name, b.name));
  }

  /** The services of a port that each VirtualService routes. An exact host beats wildcards, the longest of which holds. */
  #shapedServices(services: readonly { readonly service: MeshService }[]): Map<VirtualService, MeshService[]> {
    const out = new Map<VirtualService, MeshService[]>();
    for (const { service } of services) {
      const exact = this.#byHost.get(service.host);
      if (exact !== undefined) {
        for (const rule of exact) push(out, rule, service);
        continue;
      }
      const wildcard = this.#wildcards.wildcard(service.host);
      if (wildcard !== undefined) push(out, wildcard, service);
    }
    return out;
  }

  #sorted(some: Iterable<VirtualService>): VirtualService[] {
    const rank = (service: VirtualService) => this.#rank.get(service) ?? 0;
    return [...some].sort((a, b) => rank(a) - rank(b));
  }

  #matchesService(wildcard: string, hosts: ReadonlySet<string>): boolean {
    const suffix = wildcard.slice(1);
    for (const host of hosts) {
      if (host === wildcard || (host.endsWith(suffix) && host.length > suffix.length)) return true;
    }
    return false;
  }

  #serviceHost(
    service: MeshService,
    port: number,
    routes: readonly Json[],
    virtualService: VirtualService | undefined,
  ): VirtualHost {
    const names = [service.host, ...(this.#aliases.get(service.host) ?? [])];
    const domains = names.flatMap((host) => spellings(host, this.#context));
    const headless = service.registry === 'kubernetes' && service.resolution === 'passthrough';
    return {
      name: `${service.host}:${port}`,
      domains: [
        ...domains,
        ...(headless ? domains.map((domain) => `*.${domain}`) : []),
        ...service.addresses.map((address) => (address.includes(':') ? `[${address}]` : address)),
      ],
      routes,
      service,
      port,
      virtualService,
      origin: originOf(virtualService?.object ?? service.object),
    };
  }
}

function ruleHost(host: string, port: number, routes: readonly Json[], virtualService: VirtualService): VirtualHost {
  return {
    name: `${host}:${port}`,
    domains: [host],
    routes,
    service: undefined,
    port,
    virtualService,
    origin: originOf(virtualService.object),
  };
}

/** The port's own hash, else the rule's: here a port setting without a hash does not switch it off (as istiod). */
function servicePortHash(policy: TrafficPolicy | undefined, port: number): ConsistentHash | undefined {
  const setting = policy?.portLevelSettings?.find((item) => item.port?.number === port);
  return setting?.loadBalancer?.consistentHash ?? policy?.loadBalancer?.consistentHash;
}

/** A host, its absolute form, and for services of the cluster the short forms that the client's resolver knows. */
function spellings(host: string, { domain, client }: CompileContext): string[] {
  const out = [host, `${host}.`];
  const suffix = `.svc.${domain}`;
  if (!host.endsWith(suffix)) return out;
  const inCluster = host.slice(0, -suffix.length);
  const [name = '', namespace = ''] = inCluster.split('.');
  if (namespace === client.namespace) out.push(name);
  out.push(`${inCluster}.svc`, inCluster);
  return out;
}

/** The VirtualServices of the mesh that a namespace sees: its own private ones, those exported to it, public ones. */
export function routingRules(all: readonly VirtualService[], namespace: string): VirtualService[] {
  const visible = all.filter((service) => service.gateways.includes('mesh') && sees(service, namespace));
  const rank = (service: VirtualService) => {
    if (service.visibility.has('*')) return 2;
    return service.namespace === namespace && service.visibility.size === 1 ? 0 : 1;
  };
  return [0, 1, 2].flatMap((wanted) => visible.filter((service) => rank(service) === wanted));
}

function sees(service: VirtualService, namespace: string): boolean {
  return isVisible(service.visibility, namespace);
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

/** Where requests for hosts that no service has go. */
export function catchAllHost(policy: 'ALLOW_ANY' | 'REGISTRY_ONLY', cluster: string = OUTBOUND_PASSTHROUGH): Json {
  const name = policy === 'REGISTRY_ONLY' ? 'block_all' : 'allow_any';
  return {
    name,
    domains: ['*'],
    routes: [
      {
        name,
        match: { prefix: '/' },
        ...(policy === 'REGISTRY_ONLY'
          ? { direct_response: { status: 502 } }
          : { route: { cluster, timeout: '0s', max_grpc_timeout: '0s' } }),
      },
    ],
    include_request_attempt_count: true,
  };
}

export function virtualHostJson({ name, domains, routes }: VirtualHost): Json {
  return { name, domains, routes, include_request_attempt_count: true };
}
