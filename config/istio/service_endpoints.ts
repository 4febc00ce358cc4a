/** Where the traffic of a service port goes: the addresses behind it. */
import { isIP } from 'node:net';
import type { EndpointSlice } from './endpoint_slice.ts';
import type { Endpoint, Instance, MeshService, ServicePort } from './model.ts';
import { parseLocality } from './model.ts';
import type { Registry } from './registry.ts';
import type { CompileInput, Workload } from './target.ts';

export type EndpointAddress = CompileInput['endpointAddress'];
/** Of the addresses that the client has itself; one without any counts as IPv4. */
export type ClientFamilies = 'v4' | 'v6' | 'both';

/** Endpoints of services, each found once. */
export class ServiceEndpoints {
  readonly #registry: Registry;
  readonly #relocate: EndpointAddress;
  readonly #families: ClientFamilies;
  readonly #found = new Map<MeshService, Map<number, readonly Endpoint[]>>();
  readonly #behind = new Map<MeshService, readonly Instance[]>();

  constructor(registry: Registry, relocate: EndpointAddress, families: ClientFamilies) {
    this.#registry = registry;
    this.#relocate = relocate;
    this.#families = families;
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
    for (const slice of this.#ofFamily(slices ?? [], service)) this.#addSlice(slice, service, port, add);
    for (const instance of this.instances(service)) {
      // With slices at hand they are the truth about Pods; machines outside Kubernetes are in none.
      if (slices !== undefined && instance.workload.kind !== 'WorkloadEntry') continue;
      add(this.#endpoint(instance, service, port));
    }
    return out;
  }

  /** Of two address families the client's own: a service with both has every Pod twice. */
  #ofFamily(slices: readonly EndpointSlice[], service: MeshService): readonly EndpointSlice[] {
    // Each address of a headless service is dialled itself.
    if (this.#families === 'both' && service.resolution === 'passthrough') return slices;
    const own = slices.filter((slice) => slice.ipv6 === (this.#families === 'v6'));
    return own.length > 0 ? own : slices;
  }

  /** As istiod: where client, service and Pod have both families, the Pod's addresses in their order, else this one. */
  #addressesOf(address: string, pod: Instance | undefined, service: MeshService): readonly string[] {
    const ips = pod?.workload.ips ?? [];
    return this.#families === 'both' && service.dualStack && ips.length > 1 ? ips : [address];
  }

  #addSlice(slice: EndpointSlice, service: MeshService, port: ServicePort, add: (endpoint: Endpoint) => void): void {
    const number = slice.ports.find((item) => item.name === port.name)?.number;
    if (number === undefined) return;
    for (const { address, ready, pod } of slice.endpoints) {
      const named = this.#registry.pods.get(`${service.namespace}/${pod}`);
      const instance = named ?? this.#registry.podsByIp.get(address) ?? unknownInstance(slice, address);
      const moved = this.#relocate?.(instance.workload, number);
      const [first = address, ...additional] = moved === undefined ? this.#addressesOf(address, named, service) : [];
      add({
        instance,
        address: moved?.ip ?? first,
        additional,
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
    const [first = instance.address, ...additional] =
      moved === undefined && instance.workload.kind === 'Pod'
        ? this.#addressesOf(instance.address, instance, service)
        : [];
    const address = moved?.ip ?? first;
    if (address === '' || !isUsable(address, service)) return undefined;
    const ready = instance.ready || service.publishNotReady;
    return {
      instance,
      address,
      additional,
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
