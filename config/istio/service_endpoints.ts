/** Where the traffic of a service port goes: the addresses behind it. */
import { isIP } from 'node:net';
import type { EndpointSlice } from './endpoint_slice.ts';
import type { Endpoint, Instance, MeshService, ServicePort } from './model.ts';
import { parseLocality } from './model.ts';
import type { Registry } from './registry.ts';
import type { CompileInput, Workload } from './target.ts';

export type EndpointAddress = CompileInput['endpointAddress'];

/** Endpoints of services, each found once. */
export class ServiceEndpoints {
  readonly #registry: Registry;
  readonly #relocate: EndpointAddress;
  readonly #ipv6: boolean;
  readonly #found = new Map<MeshService, Map<number, readonly Endpoint[]>>();
  readonly #behind = new Map<MeshService, readonly Instance[]>();

  /** @param ipv6 whether the client has IPv6 addresses only */
  constructor(registry: Registry, relocate: EndpointAddress, ipv6: boolean) {
    this.#registry = registry;
    this.#relocate = relocate;
    this.#ipv6 = ipv6;
  }

  of(service: MeshService, port: ServicePort): readonly Endpoint[] {
    let ports = this.#found.get(service);
    if (ports === undefined) {
      ports = new Map();
      this.#found.set(service, ports);
    }
    let endpoints = ports.get(port.number);
    if (endpoints === undefined) {
      endpoints = this.#find(service, port);
      ports.set(port.number, endpoints);
    }
    return endpoints;
  }

  /** Workloads that the service selects or lists, whatever the port. */
  instances(service: MeshService): readonly Instance[] {
    let found = this.#behind.get(service);
    if (found === undefined) {
      const selected = this.#registry.instances.selected(service.namespace, service.selector);
      found = selected.length > 0 ? selected : service.inlineInstances;
      this.#behind.set(service, found);
    }
    return found;
  }

  /** SPIFFE identities behind a port, sorted: who may answer for it. */
  serviceAccounts(service: MeshService, port: ServicePort, trustDomain: string): string[] {
    const accounts = new Set<string>();
    for (const { instance } of this.of(service, port)) {
      const { namespace, serviceAccount } = instance.workload;
      if (serviceAccount !== '') accounts.add(`spiffe://${trustDomain}/ns/${namespace}/sa/${serviceAccount}`);
    }
    for (const name of service.subjectAltNames) accounts.add(name);
    return [...accounts].sort();
  }

  #find(service: MeshService, port: ServicePort): readonly Endpoint[] {
    const slices =
      service.registry === 'kubernetes' ? this.#registry.slices.get(`${service.namespace}/${service.name}`) : undefined;
    const out: Endpoint[] = [];
    const seen = new Set<string>();
    const add = (endpoint: Endpoint | undefined) => {
      if (endpoint === undefined) return;
      // Several mocks may share one address; real workloads do not.
      const owner = endpoint.relocated ? endpoint.instance.workload.name : '';
      const key = `${endpoint.address} ${endpoint.port} ${owner}`;
      if (seen.has(key)) return;
      seen.add(key);
      out.push(endpoint);
    };
    for (const slice of this.#ofFamily(slices ?? [])) this.#addSlice(slice, service, port, add);
    for (const instance of this.instances(service)) {
      // With slices at hand they are the truth about Pods; machines outside Kubernetes are in none.
      if (slices !== undefined && instance.workload.kind !== 'WorkloadEntry') continue;
      add(this.#endpoint(instance, service, port));
    }
    return out;
  }

  /** Of two address families the client's own: a service with both has every Pod twice. */
  #ofFamily(slices: readonly EndpointSlice[]): readonly EndpointSlice[] {
    const own = slices.filter((slice) => slice.ipv6 === this.#ipv6);
    return own.length > 0 ? own : slices;
  }

  #addSlice(slice: EndpointSlice, service: MeshService, port: ServicePort, add: (endpoint: Endpoint) => void): void {
    const number = slice.ports.find((item) => item.name === port.name)?.number;
    if (number === undefined) return;
    for (const { address, ready, pod } of slice.endpoints) {
      const instance =
        this.#registry.pods.get(`${service.namespace}/${pod}`) ??
        this.#registry.podsByIp.get(address) ??
        unknownInstance(slice, address);
      const moved = this.#relocate?.(instance.workload, number);
      add({
        instance,
        address: moved?.ip ?? address,
        port: moved?.port ?? number,
        health: ready || service.publishNotReady ? 'HEALTHY' : 'UNHEALTHY',
        relocated: moved !== undefined,
      });
    }
  }

  #endpoint(instance: Instance, service: MeshService, port: ServicePort): Endpoint | undefined {
    const number = instance.portNumbers.get(port.name) ?? targetPort(instance.workload, port);
    if (number === undefined) return undefined;
    const moved = this.#relocate?.(instance.workload, number);
    const address = moved?.ip ?? instance.address;
    if (address === '' || !isUsable(address, service)) return undefined;
    const ready = instance.ready || service.publishNotReady;
    return {
      instance,
      address,
      port: address.startsWith('unix://') ? 0 : (moved?.port ?? number),
      health: !instance.reportsHealth ? undefined : ready ? 'HEALTHY' : 'UNHEALTHY',
      relocated: moved !== undefined,
    };
  }
}

/** Names are for services that are resolved; a list of endpoints holds addresses. */
function isUsable(address: string, service: MeshService): boolean {
  if (service.resolution === 'dns' || service.resolution === 'dns_round_robin') return true;
  return isIP(address) !== 0 || address.startsWith('unix://');
}

/** The workload's port behind a service port; undefined where it is named and the workload has no port of that name. */
export function targetPort(workload: Workload, port: ServicePort): number | undefined {
  if (port.targetPort === undefined) return port.number;
  if (typeof port.targetPort === 'number') return port.targetPort;
  return workload.ports.find((item) => item.name === port.targetPort)?.number;
}

/** An address of a slice that no Pod at hand has. */
function unknownInstance(slice: EndpointSlice, address: string): Instance {
  const { object } = slice;
  return {
    workload: {
      kind: 'EndpointSlice',
      name: object.name,
      namespace: object.namespace,
      labels: {},
      serviceAccount: '',
      ips: [address],
      ports: [],
      origin: `${object.source.file}:${object.source.line}`,
    },
    address,
    portNumbers: new Map(),
    locality: parseLocality(undefined),
    weight: 0,
    ready: true,
    reportsHealth: true,
    workloadName: object.name,
    mutualTls: false,
    object,
  };
}
