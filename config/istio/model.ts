/** What the compiler knows of services and of the workloads behind them, whatever object it came from. */
import type { KubeObject } from '../kube_object.ts';
import type { Protocol } from './protocol.ts';
import type { Workload } from './target.ts';

/** Who may see an object: namespace names, `*` for everybody; `.` and `~` are resolved already. */
export type Visibility = ReadonlySet<string>;

export interface ServicePort {
  readonly number: number;
  readonly name: string;
  readonly protocol: Protocol;
  /** A container port's number or name; undefined: the service port itself. */
  readonly targetPort: number | string | undefined;
}

/**
 * endpoints: known addresses (EDS). dns, dns_round_robin: names to resolve. passthrough: the original destination
 * (headless services, entries of resolution NONE). alias: ExternalName. dynamic_dns: the requested name is resolved.
 */
export type Resolution = 'endpoints' | 'dns' | 'dns_round_robin' | 'passthrough' | 'alias' | 'dynamic_dns';

export interface MeshService {
  /** Full host name: `reviews.default.svc.cluster.local`, `api.example.com`, `*.example.org`. */
  readonly host: string;
  readonly namespace: string;
  /** The object's own name for Kubernetes services, the host for entries. */
  readonly name: string;
  readonly registry: 'kubernetes' | 'entry';
  readonly ports: readonly ServicePort[];
  readonly resolution: Resolution;
  /** Virtual IPs, without CIDR ranges. */
  readonly addresses: readonly string[];
  /** A Kubernetes service of both address families. */
  readonly dualStack: boolean;
  /** CIDR ranges of a ServiceEntry. */
  readonly ranges: readonly string[];
  /** MESH_EXTERNAL: not a workload of the mesh. */
  readonly external: boolean;
  readonly visibility: Visibility;
  /** Workload labels; undefined: none are selected. */
  readonly selector: ReadonlyMap<string, string> | undefined;
  /** Wish of a Kubernetes service for near endpoints. */
  readonly trafficDistribution: 'PreferClose' | 'PreferSameZone' | 'PreferSameNode' | undefined;
  /** Not-ready addresses count as ready. */
  readonly publishNotReady: boolean;
  /** The real name behind an alias; '' if none. */
  readonly externalName: string;
  /** ServiceEntry.endpoints. */
  readonly inlineInstances: readonly Instance[];
  readonly subjectAltNames: readonly string[];
  readonly object: KubeObject;
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

/** A workload as an endpoint of services. */
export interface Instance {
  readonly workload: Workload;
  readonly address: string;
  /** By service port name; it beats the service's target port. WorkloadEntry.ports. */
  readonly portNumbers: ReadonlyMap<string, number>;
  readonly locality: Locality;
  /** 0: not given. */
  readonly weight: number;
  readonly ready: boolean;
  /** Whether readiness is known at all (Kubernetes) or not (entries). */
  readonly reportsHealth: boolean;
  /** Name of the owning Deployment, else of the object itself. */
  readonly workloadName: string;
  readonly mutualTls: boolean;
  readonly object: KubeObject;
}

/** One address of one service port, as it goes into a load assignment. */
export interface Endpoint {
  readonly instance: Instance;
  readonly address: string;
  /** The workload's other addresses, for clients that have both families. */
  readonly additional: readonly string[];
  /** 0 for a Unix socket. */
  readonly port: number;
  readonly health: 'HEALTHY' | 'UNHEALTHY' | undefined;
  /** The address is where `dev` put a mock of the workload: plain text, whatever the labels say. */
  readonly relocated: boolean;
}

const NO_LOCALITY: Locality = { region: '', zone: '', subZone: '' };

/** `region/zone/subzone`, as ServiceEntry writes it; Pod labels have dots instead. */
export function parseLocality(text: string | undefined, separator = '/'): Locality {
  if (text === undefined || text === '') return NO_LOCALITY;
  const [region = '', zone = '', subZone = ''] = text.split(separator);
  return { region, zone, subZone };
}

/** Whether every label of the selector is there. */
export function selects(
  selector: ReadonlyMap<string, string> | undefined,
  labels: Readonly<Record<string, string>>,
): boolean {
  if (selector === undefined) return false;
  for (const [name, value] of selector) {
    if (labels[name] !== value) return false;
  }
  return true;
}
