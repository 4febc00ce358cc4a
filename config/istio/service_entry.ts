/** ServiceEntry (networking.istio.io): services that no registry knows. */
import { isIP } from 'node:net';
import type { KubeObject } from '../kube_object.ts';
import { checkHost } from './hosts.ts';
import type { MeshConfig } from './mesh.ts';
import type { Instance, MeshService, Resolution, ServicePort } from './model.ts';
import { declaredProtocol } from './protocol.ts';
import {
  type At,
  anything,
  fail,
  list,
  looseText,
  mapOf,
  message,
  oneOf,
  openMessage,
  port,
  type Read,
  type Shape,
  text,
  within,
} from './shape.ts';
import { visibility } from './visibility.ts';
import { entryInstance, WORKLOAD_ENTRY_SPEC } from './workload_entry.ts';

const PORT = message({ number: port, protocol: text, name: text, targetPort: port });

/** In a flow list YAML takes the end of `2001:db8::` for a key without a value. */
const address: Shape<string> = (value, at) => {
  if (value !== null && typeof value === 'object' && !Array.isArray(value)) {
    const [[key, rest] = ['', undefined], ...others] = Object.entries(value);
    if (key.includes(':') && rest === null && others.length === 0) return `${key}:`;
  }
  return text(value, at);
};

const SERVICE_ENTRY = openMessage({
  spec: message({
    hosts: list(text),
    addresses: list(address),
    ports: list(PORT),
    location: oneOf('MESH_EXTERNAL', 'MESH_INTERNAL'),
    resolution: oneOf('NONE', 'STATIC', 'DNS', 'DNS_ROUND_ROBIN', 'DYNAMIC_DNS'),
    endpoints: list(WORKLOAD_ENTRY_SPEC),
    workloadSelector: message({ labels: mapOf(looseText) }),
    exportTo: list(text),
    subjectAltNames: list(text),
  }),
  status: anything,
});

type Spec = NonNullable<Read<typeof SERVICE_ENTRY>['spec']>;

const RESOLUTIONS: Readonly<Record<NonNullable<Spec['resolution']>, Resolution>> = {
  NONE: 'passthrough',
  STATIC: 'endpoints',
  DNS: 'dns',
  DNS_ROUND_ROBIN: 'dns_round_robin',
  DYNAMIC_DNS: 'dynamic_dns',
};

/** One service a host. @throws {ConfigError} */
export function parseServiceEntry(object: KubeObject, at: At, mesh: MeshConfig): MeshService[] {
  const { spec } = SERVICE_ENTRY(object.json, at);
  if (spec === undefined) fail(at, 'spec is required');
  check(spec);
  const ports = readPorts(spec);
  const written = (spec.endpoints ?? []).map((endpoint, index) =>
    entryInstance(endpoint, object, `${object.name}-${index}`),
  );
  const resolution = RESOLUTIONS[spec.resolution ?? 'NONE'];
  return (spec.hosts as readonly string[]).map((host) => ({
    host,
    namespace: object.namespace,
    name: host,
    registry: 'entry',
    ports,
    resolution,
    addresses: (spec.addresses ?? []).filter((address) => !address.includes('/')),
    dualStack: false,
    ranges: (spec.addresses ?? []).filter((address) => address.includes('/')),
    external: (spec.location ?? 'MESH_EXTERNAL') === 'MESH_EXTERNAL',
    visibility: visibility(spec.exportTo, object.namespace, mesh.defaultServiceExportTo),
    selector: selectorOf(spec),
    publishNotReady: false,
    trafficDistribution: undefined,
    externalName: '',
    inlineInstances: written.length === 0 && isDns(resolution) ? [itself(host, object)] : written,
    subjectAltNames: spec.subjectAltNames ?? [],
    object,
  }));
}

function isDns(resolution: Resolution): boolean {
  return resolution === 'dns' || resolution === 'dns_round_robin';
}

/** Without endpoints a DNS entry resolves its own host. */
function itself(host: string, object: KubeObject): Instance {
  const at: At = { object, path: ['spec', 'hosts'], allowUnknown: false };
  return entryInstance({ at, address: host }, object, object.name);
}

function selectorOf(spec: Spec): ReadonlyMap<string, string> | undefined {
  const labels = spec.workloadSelector?.labels;
  if (labels === undefined || labels.size === 0) return undefined;
  for (const [name, value] of labels) {
    if (value.includes('*')) {
      fail(
        within(spec.at, 'workloadSelector', 'labels', name),
        `a wildcard is not supported in a selector, got "${value}"`,
      );
    }
  }
  return labels;
}

function readPorts(spec: Spec): ServicePort[] {
  const numbers = new Set<number>();
  const names = new Set<string>();
  return (spec.ports ?? []).map((item) => {
    if (item.number === undefined) return fail(item.at, 'number is required');
    if (item.name === undefined || item.name === '') return fail(item.at, 'name is required');
    if (numbers.has(item.number)) fail(within(item.at, 'number'), `port ${item.number} is there twice`);
    if (names.has(item.name)) fail(within(item.at, 'name'), `port name "${item.name}" is there twice`);
    numbers.add(item.number);
    names.add(item.name);
    return {
      number: item.number,
      name: item.name,
      protocol: declaredProtocol(item.protocol),
      targetPort: item.targetPort,
    };
  });
}

function check(spec: Spec): void {
  const { at, hosts, endpoints, resolution = 'NONE' } = spec;
  if (hosts === undefined || hosts.length === 0) fail(within(at, 'hosts'), 'at least one host is required');
  hosts.forEach((host, index) => {
    if (host === '*')
      fail(within(at, 'hosts', index), 'the host "*" would take all traffic; name a domain, such as "*.example.org"');
    checkHost(host, within(at, 'hosts', index));
  });
  const has = (endpoints?.length ?? 0) > 0;
  for (const endpoint of resolution === 'STATIC' ? (endpoints ?? []) : []) {
    const { address = '' } = endpoint;
    if (isIP(address) === 0 && !address.startsWith('unix://')) {
      fail(
        within(endpoint.at, 'address'),
        `resolution STATIC needs an IP address, got "${address}"; use DNS for a name`,
      );
    }
  }
  if (has && spec.workloadSelector !== undefined) {
    fail(within(at, 'workloadSelector'), 'only one of workloadSelector and endpoints can be set');
  }
  if (has && resolution === 'NONE') {
    fail(within(at, 'endpoints'), 'resolution NONE takes no endpoints; use STATIC or DNS');
  }
  if (resolution === 'DNS_ROUND_ROBIN' && (endpoints?.length ?? 0) > 1) {
    fail(within(at, 'endpoints'), `resolution DNS_ROUND_ROBIN takes one endpoint, got ${endpoints?.length}`);
  }
  if (isDns(RESOLUTIONS[resolution]) && !has) {
    const wild = hosts.findIndex((host) => host.startsWith('*'));
    if (wild >= 0 && spec.workloadSelector === undefined) {
      fail(
        within(at, 'hosts', wild),
        `"${hosts[wild]}" cannot be resolved; give endpoints, or use resolution NONE or DYNAMIC_DNS`,
      );
    }
  }
  if (resolution !== 'NONE' && resolution !== 'STATIC') {
    const range = (spec.addresses ?? []).findIndex((address) => address.includes('/'));
    if (range >= 0) {
      fail(
        within(at, 'addresses', range),
        `address ranges are allowed only with resolution NONE or STATIC, got "${spec.addresses?.[range]}"`,
      );
    }
  }
}
