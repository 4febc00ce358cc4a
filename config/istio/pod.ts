/** Pod (v1), and the Pod templates of Deployments. */
import type { KubeObject } from '../kube_object.ts';
import { type Instance, type Locality, parseLocality } from './model.ts';
import { type At, anything, list, looseText, mapOf, openMessage, port, type Read, text } from './shape.ts';
import type { Workload } from './target.ts';

const CONTAINER = openMessage({ ports: list(openMessage({ name: text, containerPort: port, protocol: text })) });

export const POD_SPEC = openMessage({
  serviceAccountName: text,
  nodeName: text,
  containers: list(CONTAINER),
  initContainers: list(CONTAINER),
});

const POD = openMessage({
  metadata: openMessage({
    deletionTimestamp: anything,
    labels: mapOf(looseText),
    ownerReferences: list(openMessage({ kind: text, name: text })),
  }),
  spec: POD_SPEC,
  status: openMessage({
    phase: text,
    podIP: text,
    podIPs: list(openMessage({ ip: text })),
    conditions: list(openMessage({ type: text, status: text })),
  }),
});

/** TLS is spoken to endpoints whose workload says that a sidecar stands there. */
export const TLS_MODE_LABEL = 'security.istio.io/tlsMode';

/** @throws {ConfigError} */
export function parsePod(object: KubeObject, at: At, localityOfNode: (node: string) => Locality | undefined): Instance {
  const { metadata, spec, status } = POD(object.json, at);
  const ips = status?.podIPs?.map((item) => item.ip ?? '') ?? [];
  if (ips.length === 0 && status?.podIP !== undefined) ips.push(status.podIP);
  const address = ips[0] ?? '';
  const condition = status?.conditions?.find((item) => item.type === 'Ready');
  return {
    workload: {
      kind: 'Pod',
      name: object.name,
      namespace: object.namespace,
      labels: object.labels,
      serviceAccount: spec?.serviceAccountName ?? 'default',
      ips,
      ports: containerPorts(spec),
      origin: `${object.source.file}:${object.source.line}`,
    },
    address,
    portNumbers: new Map(),
    locality:
      parseLocality(object.labels['istio-locality'], '.').region !== ''
        ? parseLocality(object.labels['istio-locality'], '.')
        : (localityOfNode(spec?.nodeName ?? '') ?? parseLocality(undefined)),
    weight: 0,
    // A Pod written by hand has no status; it counts as running.
    ready: metadata?.deletionTimestamp === undefined && (condition === undefined || condition.status === 'True'),
    reportsHealth: true,
    workloadName: owner(object, metadata?.ownerReferences ?? []),
    mutualTls: object.labels[TLS_MODE_LABEL] === 'istio',
    object,
  };
}

/** Container ports with their names, of all containers, in their order. */
export function containerPorts(spec: Read<typeof POD_SPEC> | undefined): Workload['ports'] {
  const out: { readonly name: string; readonly number: number }[] = [];
  for (const container of [...(spec?.containers ?? []), ...(spec?.initContainers ?? [])]) {
    for (const { name, containerPort } of container.ports ?? []) {
      if (containerPort !== undefined) out.push({ name: name ?? '', number: containerPort });
    }
  }
  return out;
}

/** A ReplicaSet made by a Deployment is the Deployment's name, a dash and the template's hash. */
function owner(object: KubeObject, references: readonly { readonly kind?: string; readonly name?: string }[]): string {
  const reference = references[0];
  if (reference?.name === undefined) return object.name;
  const hash = object.labels['pod-template-hash'];
  return reference.kind === 'ReplicaSet' && hash !== undefined && reference.name.endsWith(`-${hash}`)
    ? reference.name.slice(0, -hash.length - 1)
    : reference.name;
}
