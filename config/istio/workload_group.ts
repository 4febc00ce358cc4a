/**
 * WorkloadGroup (networking.istio.io): the pattern of the WorkloadEntries that virtual machines register. It is no
 * endpoint itself; what it says is read so that a mistake is found here and not on the machine.
 */
import type { KubeObject } from '../kube_object.ts';
import {
  type At,
  anything,
  fail,
  int32,
  list,
  looseText,
  mapOf,
  message,
  oneOf,
  openMessage,
  port,
  text,
  within,
} from './shape.ts';
import { WORKLOAD_ENTRY_SPEC } from './workload_entry.ts';

const HEADER_NAME = /^[-_A-Za-z0-9]+$/;

const WORKLOAD_GROUP = openMessage({
  spec: message({
    metadata: message({ labels: mapOf(looseText), annotations: mapOf(looseText) }),
    template: WORKLOAD_ENTRY_SPEC,
    probe: message({
      initialDelaySeconds: int32,
      timeoutSeconds: int32,
      periodSeconds: int32,
      successThreshold: int32,
      failureThreshold: int32,
      httpGet: message({
        path: text,
        port,
        host: text,
        scheme: oneOf('HTTP', 'HTTPS'),
        httpHeaders: list(message({ name: text, value: looseText })),
      }),
      tcpSocket: message({ host: text, port }),
      exec: message({ command: list(text) }),
      grpc: message({ port, service: text }),
    }),
  }),
  status: anything,
});

/** @throws {ConfigError} */
export function checkWorkloadGroup(object: KubeObject, at: At): void {
  const { spec } = WORKLOAD_GROUP(object.json, at);
  if (spec === undefined) fail(at, 'spec is required');
  if (spec.template === undefined) fail(within(spec.at, 'template'), 'template is required');
  const { probe } = spec;
  if (probe === undefined) return;
  const ways = [probe.httpGet, probe.tcpSocket, probe.exec, probe.grpc].filter((way) => way !== undefined);
  if (ways.length > 1) fail(probe.at, 'only one of httpGet, tcpSocket, exec and grpc can be set');
  for (const way of [probe.httpGet, probe.tcpSocket]) {
    if (way !== undefined && way.port === undefined) fail(within(way.at, 'port'), 'port is required');
  }
  for (const { name = '', at: place } of probe.httpGet?.httpHeaders ?? []) {
    if (!HEADER_NAME.test(name)) fail(within(place, 'name'), `a header name is wanted, got "${name}"`);
  }
}
