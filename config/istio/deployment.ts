/** Deployment, StatefulSet, ReplicaSet, DaemonSet (apps/v1): a workload where no Pod of it is at hand. */
import type { KubeObject } from '../kube_object.ts';
import { type Instance, parseLocality } from './model.ts';
import { containerPorts, POD_SPEC, TLS_MODE_LABEL } from './pod.ts';
import { type At, fail, looseText, mapOf, openMessage } from './shape.ts';

export const DEPLOYMENT_KINDS: ReadonlySet<string> = new Set(['Deployment', 'StatefulSet', 'ReplicaSet', 'DaemonSet']);

const DEPLOYMENT = openMessage({
  spec: openMessage({
    selector: openMessage({ matchLabels: mapOf(looseText) }),
    template: openMessage({ metadata: openMessage({ labels: mapOf(looseText) }), spec: POD_SPEC }),
  }),
});

/** The template as one workload without an address, and the labels by which its Pods are known. */
export interface DeploymentTemplate {
  readonly instance: Instance;
  readonly podSelector: ReadonlyMap<string, string> | undefined;
}

/** @throws {ConfigError} */
export function parseDeployment(object: KubeObject, at: At): DeploymentTemplate {
  const { spec } = DEPLOYMENT(object.json, at);
  if (spec?.template === undefined) fail({ ...at, path: ['spec'] }, 'template is required');
  const labels = Object.fromEntries(spec.template.metadata?.labels ?? []);
  return {
    instance: {
      workload: {
        kind: object.kind,
        name: object.name,
        namespace: object.namespace,
        labels,
        serviceAccount: spec.template.spec?.serviceAccountName ?? 'default',
        ips: [],
        ports: containerPorts(spec.template.spec),
        origin: `${object.source.file}:${object.source.line}`,
      },
      address: '',
      portNumbers: new Map(),
      locality: parseLocality(labels['istio-locality'], '.'),
      weight: 0,
      ready: true,
      reportsHealth: true,
      workloadName: object.name,
      mutualTls: labels[TLS_MODE_LABEL] === 'istio',
      object,
    },
    podSelector: spec.selector?.matchLabels ?? new Map(Object.entries(labels)),
  };
}
