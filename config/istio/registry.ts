/** Reads all objects once: services, workloads, rules. */
import type { KubeObject } from '../kube_object.ts';
import { type AuthorizationPolicy, parseAuthorizationPolicy } from './authorization_policy.ts';
import { mergeDelegates } from './delegate.ts';
import { DEPLOYMENT_KINDS, type DeploymentTemplate, parseDeployment } from './deployment.ts';
import { type DestinationRule, DestinationRules, parseDestinationRule } from './destination_rule.ts';
import { type EndpointSlice, parseEndpointSlice } from './endpoint_slice.ts';
import { parseGrpcRoute, parseHttpRoute, parseReferenceGrant } from './gateway_route.ts';
import { gatewayRules } from './gateway_rules.ts';
import type { MeshConfig } from './mesh.ts';
import { type Instance, type Locality, type MeshService, selects } from './model.ts';
import { byAge } from './order.ts';
import { type EnvoyFilter, parseEnvoyFilter } from './envoy_filter.ts';
import { parseProxyConfig, type ProxyConfig } from './proxy_config.ts';
import { type ForeignCode, parseForeignCode } from './wasm_plugin.ts';
import { checkWorkloadGroup } from './workload_group.ts';
import { parsePeerAuthentication, type PeerAuthentication } from './peer_authentication.ts';
import { parsePod } from './pod.ts';
import { withoutReplaced } from './replaced_objects.ts';
import { parseRequestAuthentication, type RequestAuthentication } from './request_authentication.ts';
import { parseService } from './service.ts';
import { parseSidecar, type Sidecar } from './sidecar.ts';
import { parseTelemetry, type Telemetry } from './telemetry.ts';
import { parseServiceEntry } from './service_entry.ts';
import { type At, fail } from './shape.ts';
import { closest } from './spelling.ts';
import { parseVirtualService, type VirtualService } from './virtual_service.ts';
import { parseWorkloadEntry } from './workload_entry.ts';

export interface Registry {
  /** Oldest first, Kubernetes' before entries. */
  readonly services: readonly MeshService[];
  readonly instances: InstanceIndex;
  /** By `namespace/service`. */
  readonly slices: ReadonlyMap<string, readonly EndpointSlice[]>;
  /** Pods by `namespace/name`. */
  readonly pods: ReadonlyMap<string, Instance>;
  readonly podsByIp: ReadonlyMap<string, Instance>;
  readonly destinationRules: DestinationRules;
  /** With hosts, delegates merged, oldest first. */
  readonly virtualServices: readonly VirtualService[];
  /** Oldest first. */
  readonly sidecars: readonly Sidecar[];
  /** Oldest first. */
  readonly telemetries: readonly Telemetry[];
  readonly envoyFilters: readonly EnvoyFilter[];
  readonly proxyConfigs: readonly ProxyConfig[];
  /** WasmPlugin and TrafficExtension. */
  readonly foreignCode: readonly ForeignCode[];
  /** Oldest first, of all namespaces. */
  readonly authorizationPolicies: readonly AuthorizationPolicy[];
  readonly peerAuthentications: readonly PeerAuthentication[];
  readonly requestAuthentications: readonly RequestAuthentication[];
  /** Kinds of the Gateway API that are not compiled. */
  readonly uncompiled: readonly KubeObject[];
  readonly warnings: readonly string[];
}

/** @throws {ConfigError} at the first object that is wrong. */
export function readObjects(
  objects: readonly KubeObject[],
  mesh: MeshConfig,
  domain: string,
  allowUnknown: boolean,
): Registry {
  const warnings: string[] = [];
  const kinds = new ObjectsByKind(withoutReplaced(objects, warnings), allowUnknown);
  const at = (object: KubeObject): At => ({ object, path: [], allowUnknown });
  for (const object of kinds.of(NETWORKING, 'WorkloadGroup')) checkWorkloadGroup(object, at(object));
  const localities = nodeLocalities(kinds.of('', 'Node'));
  const pods = kinds
    .of('', 'Pod')
    .map((object) => parsePod(object, at(object), (node) => localities.get(node)))
    .filter((pod) => isLive(pod.object));
  const entries = kinds.of(NETWORKING, 'WorkloadEntry').map((object) => parseWorkloadEntry(object, at(object)));
  const templates = kinds.of('apps', ...DEPLOYMENT_KINDS).map((object) => parseDeployment(object, at(object)));
  const instances = new InstanceIndex([...pods, ...withoutPods(templates, pods), ...entries]);
  const rules: DestinationRule[] = kinds
    .of(NETWORKING, 'DestinationRule')
    .map((object) => parseDestinationRule(object, at(object), domain, mesh));
  const virtualServices = kinds
    .of(NETWORKING, 'VirtualService')
    .map((object) => parseVirtualService(object, at(object), domain, mesh));
  const services = [
    ...kinds.of('', 'Service').map((object) => parseService(object, at(object), domain, mesh)),
    ...kinds.of(NETWORKING, 'ServiceEntry').flatMap((object) => parseServiceEntry(object, at(object), mesh)),
  ];
  const gateway = gatewayRules(
    kinds
      .of(GATEWAY_API, 'HTTPRoute', 'GRPCRoute')
      .map((object) =>
        object.kind === 'HTTPRoute' ? parseHttpRoute(object, at(object)) : parseGrpcRoute(object, at(object)),
      ),
    kinds.of(GATEWAY_API, 'ReferenceGrant').map((object) => parseReferenceGrant(object, at(object))),
    services,
    domain,
  );
  warnings.push(...gateway.warnings);
  const merged = mergeDelegates(virtualServices, (sentence, root, route) => {
    warnings.push(`${root.object.source.locate(route.at.path)}: ${sentence}.`);
  });
  return {
    services,
    instances,
    slices: slicesByService(
      kinds.of('discovery.k8s.io', 'EndpointSlice').map((object) => parseEndpointSlice(object, at(object))),
    ),
    pods: new Map(pods.map((pod) => [`${pod.workload.namespace}/${pod.workload.name}`, pod])),
    podsByIp: new Map(pods.flatMap((pod) => pod.workload.ips.map((ip) => [ip, pod] as const))),
    destinationRules: new DestinationRules(rules, mesh.rootNamespace),
    virtualServices: [...merged, ...gateway.virtualServices].sort((a, b) => byAge(a.object, b.object)),
    sidecars: kinds.of(NETWORKING, 'Sidecar').map((object) => parseSidecar(object, at(object))),
    envoyFilters: kinds.of(NETWORKING, 'EnvoyFilter').map((object) => parseEnvoyFilter(object, at(object))),
    proxyConfigs: kinds.of(NETWORKING, 'ProxyConfig').map((object) => parseProxyConfig(object, at(object))),
    foreignCode: kinds
      .of('extensions.istio.io', 'WasmPlugin', 'TrafficExtension')
      .map((object) => parseForeignCode(object, at(object))),
    telemetries: kinds.of('telemetry.istio.io', 'Telemetry').map((object) => parseTelemetry(object, at(object))),
    authorizationPolicies: kinds
      .of(SECURITY, 'AuthorizationPolicy')
      .map((object) => parseAuthorizationPolicy(object, at(object))),
    peerAuthentications: kinds
      .of(SECURITY, 'PeerAuthentication')
      .map((object) => parsePeerAuthentication(object, at(object))),
    requestAuthentications: kinds
      .of(SECURITY, 'RequestAuthentication')
      .map((object) => parseRequestAuthentication(object, at(object))),
    uncompiled: kinds.of(GATEWAY_API, 'Gateway', 'TLSRoute', 'TCPRoute', 'UDPRoute', 'BackendTLSPolicy'),
    warnings,
  };
}

const NETWORKING = 'networking.istio.io';
const SECURITY = 'security.istio.io';
const GATEWAY_API = 'gateway.networking.k8s.io';

/** Every kind of Istio's API groups; another one is a slip of the pen. */
const ISTIO_KINDS: Readonly<Record<string, readonly string[]>> = {
  'networking.istio.io': [
    'VirtualService',
    'DestinationRule',
    'ServiceEntry',
    'WorkloadEntry',
    'WorkloadGroup',
    'Gateway',
    'Sidecar',
    'EnvoyFilter',
    'ProxyConfig',
  ],
  'security.istio.io': ['PeerAuthentication', 'RequestAuthentication', 'AuthorizationPolicy'],
  'telemetry.istio.io': ['Telemetry'],
  'extensions.istio.io': ['WasmPlugin', 'TrafficExtension'],
};

function checkKind(object: KubeObject, group: string): void {
  const known = Object.hasOwn(ISTIO_KINDS, group) ? ISTIO_KINDS[group] : undefined;
  if (known === undefined || known.includes(object.kind)) return;
  const near = closest(object.kind, known);
  const hint = near === undefined ? `it has ${known.join(', ')}` : `did you mean ${near}?`;
  fail({ object, path: ['kind'], allowUnknown: false }, `${group} has no kind "${object.kind}"; ${hint}`);
}

/** Objects by `group/kind`, oldest first. */
class ObjectsByKind {
  readonly #byKind = new Map<string, KubeObject[]>();

  constructor(objects: readonly KubeObject[], allowUnknown: boolean) {
    for (const object of [...objects].sort(byAge)) {
      const slash = object.apiVersion.indexOf('/');
      const group = slash < 0 ? '' : object.apiVersion.slice(0, slash);
      if (!allowUnknown) checkKind(object, group);
      const key = `${group}/${object.kind}`;
      const list = this.#byKind.get(key);
      if (list === undefined) this.#byKind.set(key, [object]);
      else list.push(object);
    }
  }

  of(group: string, ...kinds: readonly string[]): readonly KubeObject[] {
    const [only] = kinds;
    if (kinds.length === 1) return this.#byKind.get(`${group}/${only}`) ?? [];
    return kinds.flatMap((kind) => this.#byKind.get(`${group}/${kind}`) ?? []).sort(byAge);
  }
}

/** A Pod that has ended is no endpoint any more. */
function isLive(object: KubeObject): boolean {
  const status = object.json['status'] as { readonly phase?: unknown } | null | undefined;
  return status?.phase !== 'Succeeded' && status?.phase !== 'Failed';
}

function nodeLocalities(nodes: readonly KubeObject[]): Map<string, Locality> {
  return new Map(
    nodes.map(({ name, labels }) => [
      name,
      {
        region: labels['topology.kubernetes.io/region'] ?? '',
        zone: labels['topology.kubernetes.io/zone'] ?? '',
        subZone: labels['topology.istio.io/subzone'] ?? '',
      },
    ]),
  );
}

/** The templates of which no Pod is at hand. */
function withoutPods(templates: readonly DeploymentTemplate[], pods: readonly Instance[]): Instance[] {
  const index = new InstanceIndex(pods);
  return templates
    .filter(({ instance, podSelector }) => index.selected(instance.workload.namespace, podSelector).length === 0)
    .map(({ instance }) => instance);
}

function slicesByService(slices: readonly EndpointSlice[]): Map<string, EndpointSlice[]> {
  const out = new Map<string, EndpointSlice[]>();
  for (const slice of slices) {
    const key = `${slice.object.namespace}/${slice.service}`;
    const others = out.get(key);
    if (others === undefined) out.set(key, [slice]);
    else others.push(slice);
  }
  return out;
}

/** Workloads by label, so that 1,000 services do not each walk 10,000 Pods. */
export class InstanceIndex {
  readonly all: readonly Instance[];
  readonly #byLabel = new Map<string, Instance[]>();

  constructor(all: readonly Instance[]) {
    this.all = all;
    for (const instance of all) {
      const { namespace, labels } = instance.workload;
      for (const name of Object.keys(labels)) {
        const key = `${namespace}\n${name}\n${labels[name]}`;
        const bucket = this.#byLabel.get(key);
        if (bucket === undefined) this.#byLabel.set(key, [instance]);
        else bucket.push(instance);
      }
    }
  }

  /** An empty or absent selector selects nothing, as for Kubernetes services. */
  selected(namespace: string, selector: ReadonlyMap<string, string> | undefined): readonly Instance[] {
    if (selector === undefined || selector.size === 0) return [];
    let smallest: Instance[] | undefined;
    for (const [name, value] of selector) {
      const bucket = this.#byLabel.get(`${namespace}\n${name}\n${value}`);
      if (bucket === undefined) return [];
      if (smallest === undefined || bucket.length < smallest.length) smallest = bucket;
    }
    if (selector.size === 1) return smallest ?? [];
    return (smallest ?? []).filter((instance) => selects(selector, instance.workload.labels));
  }
}
