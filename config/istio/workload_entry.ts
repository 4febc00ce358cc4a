/** WorkloadEntry (networking.istio.io): a machine outside Kubernetes; also the endpoints of a ServiceEntry. */
import type { KubeObject } from '../kube_object.ts';
import { type Instance, parseLocality } from './model.ts';
import { TLS_MODE_LABEL } from './pod.ts';
import {
  type At,
  anything,
  fail,
  looseText,
  mapOf,
  message,
  openMessage,
  port,
  type Read,
  text,
  uint32,
  within,
} from './shape.ts';

export const WORKLOAD_ENTRY_SPEC = message({
  address: text,
  ports: mapOf(port),
  labels: mapOf(looseText),
  network: text,
  locality: text,
  weight: uint32,
  serviceAccount: text,
});

const WORKLOAD_ENTRY = openMessage({ spec: WORKLOAD_ENTRY_SPEC, status: anything });

/** @throws {ConfigError} */
export function parseWorkloadEntry(object: KubeObject, at: At): Instance {
  const { spec } = WORKLOAD_ENTRY(object.json, at);
  if (spec === undefined) fail(at, 'spec is required');
  return entryInstance(spec, object, object.name);
}

/**
 * @param name of the workload: the entry's own, or the ServiceEntry's with the endpoint's number
 * @throws {ConfigError}
 */
export function entryInstance(spec: Read<typeof WORKLOAD_ENTRY_SPEC>, object: KubeObject, name: string): Instance {
  const address = checkAddress(spec);
  for (const portName of spec.ports?.keys() ?? []) {
    if (!/^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$/.test(portName)) {
      fail(
        within(spec.at, 'ports', portName),
        `a port name of letters, digits and dashes is wanted, got "${portName}"`,
      );
    }
  }
  const labels = Object.fromEntries(spec.labels ?? []);
  const tlsMode = labels[TLS_MODE_LABEL];
  return {
    workload: {
      kind: 'WorkloadEntry',
      name,
      namespace: object.namespace,
      labels,
      serviceAccount: spec.serviceAccount ?? '',
      ips: address === '' ? [] : [address],
      ports: [...(spec.ports ?? [])].map(([portName, number]) => ({ name: portName, number })),
      origin: spec.at.object.source.locate(spec.at.path),
    },
    address,
    portNumbers: spec.ports ?? new Map(),
    locality: parseLocality(spec.locality),
    weight: spec.weight ?? 0,
    ready: true,
    reportsHealth: false,
    workloadName: name,
    // Who names a service account has an identity, and so a sidecar.
    mutualTls: tlsMode === undefined ? (spec.serviceAccount ?? '') !== '' : tlsMode === 'istio',
    object,
  };
}

function checkAddress(spec: Read<typeof WORKLOAD_ENTRY_SPEC>): string {
  const address = spec.address ?? '';
  const place = within(spec.at, 'address');
  if (address === '' && (spec.network ?? '') === '') fail(place, 'an address (or a network) is required');
  if (address.startsWith('unix://')) {
    const path = address.slice('unix://'.length);
    if (!path.startsWith('/') && !path.startsWith('@')) {
      fail(place, `a Unix socket needs an absolute path or an abstract name, got "${address}"`);
    }
    if (path.endsWith('/')) fail(place, `a Unix socket must not be a directory, got "${address}"`);
    if (spec.ports !== undefined && spec.ports.size > 0) fail(place, 'a Unix socket takes no ports');
  }
  return address;
}
