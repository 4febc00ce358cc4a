/** Service (v1). */
import type { KubeObject } from '../kube_object.ts';
import type { MeshConfig } from './mesh.ts';
import type { MeshService, Resolution, ServicePort } from './model.ts';
import { kubernetesProtocol } from './protocol.ts';
import { type At, boolean, fail, list, looseText, mapOf, openMessage, port, type Read, text } from './shape.ts';
import { visibility } from './visibility.ts';

const PORT = openMessage({
  name: text,
  port,
  targetPort: (value: unknown, at: At): number | string => {
    if (typeof value === 'string' && !/^\d+$/.test(value)) return value;
    return port(typeof value === 'string' ? Number(value) : value, at);
  },
  protocol: text,
  appProtocol: text,
});

const SERVICE = openMessage({
  spec: openMessage({
    type: text,
    clusterIP: text,
    clusterIPs: list(text),
    ipFamilies: list(text),
    ipFamilyPolicy: text,
    trafficDistribution: text,
    externalName: text,
    selector: mapOf(looseText),
    publishNotReadyAddresses: boolean,
    ports: list(PORT),
  }),
});

/** @throws {ConfigError} */
export function parseService(object: KubeObject, at: At, domain: string, mesh: MeshConfig): MeshService {
  const { spec } = SERVICE(object.json, at);
  if (spec === undefined) fail(at, 'spec is required');
  const external = spec.type === 'ExternalName';
  if (external && (spec.externalName ?? '') === '') {
    fail({ ...at, path: ['spec'] }, 'externalName is required for a service of type ExternalName');
  }
  const annotation = object.annotations['networking.istio.io/exportTo'];
  return {
    host: `${object.name}.${object.namespace}.svc.${domain}`,
    namespace: object.namespace,
    name: object.name,
    registry: 'kubernetes',
    ports: (spec.ports ?? []).map(servicePort),
    resolution: resolution(external, spec.clusterIP),
    addresses: virtualIps(spec),
    dualStack: isDualStack(spec),
    ranges: [],
    external: false,
    visibility: visibility(
      annotation?.split(',').map((name) => name.trim()),
      object.namespace,
      mesh.defaultServiceExportTo,
    ),
    selector: spec.selector !== undefined && spec.selector.size > 0 ? spec.selector : undefined,
    publishNotReady: spec.publishNotReadyAddresses ?? false,
    trafficDistribution: distribution(
      spec.trafficDistribution ?? object.annotations['networking.istio.io/traffic-distribution'],
    ),
    externalName: external ? (spec.externalName ?? '').replace(/\.$/, '') : '',
    inlineInstances: [],
    subjectAltNames: [],
    object,
  };
}

function resolution(external: boolean, clusterIp: string | undefined): Resolution {
  if (external) return 'alias';
  return clusterIp === 'None' ? 'passthrough' : 'endpoints';
}

function virtualIps(spec: { readonly clusterIP?: string; readonly clusterIPs?: readonly string[] }): string[] {
  const all = spec.clusterIPs ?? (spec.clusterIP === undefined ? [] : [spec.clusterIP]);
  return all.filter((ip) => ip !== 'None' && ip !== '');
}

/** As the API server has decided, or as a file asks of it. */
function isDualStack(spec: NonNullable<Read<typeof SERVICE>['spec']>): boolean {
  return (
    virtualIps(spec).length > 1 || spec.ipFamilies?.length === 2 || (spec.ipFamilyPolicy ?? '').endsWith('DualStack')
  );
}

/** What Kubernetes may yet invent is no wish of ours. */
function distribution(wish: string | undefined): MeshService['trafficDistribution'] {
  return wish === 'PreferClose' || wish === 'PreferSameZone' || wish === 'PreferSameNode' ? wish : undefined;
}

function servicePort(item: Read<typeof PORT>): ServicePort {
  if (item.port === undefined) return fail(item.at, 'port is required');
  const name = item.name ?? '';
  return {
    number: item.port,
    name,
    protocol: kubernetesProtocol(item.port, name, item.appProtocol, item.protocol),
    targetPort: item.targetPort,
  };
}
