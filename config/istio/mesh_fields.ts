/**
 * Fields of MeshConfig that this compiler does not read (istio/api: mesh/v1alpha1/config.proto). What would change
 * traffic is named at the start; what concerns control planes, gateways and injectors is passed over.
 */
import { closest } from './spelling.ts';

/** Nothing that a sidecar does depends on them. */
const OF_OTHERS: ReadonlySet<string> = new Set([
  'ca',
  'certificates',
  'configSources',
  'discoverySelectors',
  'disableEnvoyListenerLog',
  'enableEnvoyAccessLogService',
  'enablePrometheusMerge',
  'ingressClass',
  'ingressControllerMode',
  'ingressSelector',
  'ingressService',
  'serviceEntryVisibility',
  'serviceScopeConfigs',
  'serviceSettings',
  'verifyCertificateAtClient',
]);

/** Known to Istio, and not executed. */
const NOT_EXECUTED: readonly string[] = [
  'caCertificates',
  'defaultTrafficPolicy',
  'hboneIdleTimeout',
  'inboundClusterStatName',
  'outboundClusterStatName',
  'thriftConfig',
];

/** A sentence for each field that is there and has no effect. `read`: those that have one. */
export function meshWarnings(json: Readonly<Record<string, unknown>>, read: readonly string[]): string[] {
  return Object.keys(json).flatMap((field) => {
    if (read.includes(field) || OF_OTHERS.has(field)) return [];
    if (NOT_EXECUTED.includes(field)) return [`MeshConfig: "${field}" is not executed by this version.`];
    const near = closest(field, [...read, ...NOT_EXECUTED, ...OF_OTHERS]);
    return [`MeshConfig has no field "${field}"${near === undefined ? '.' : `; did you mean "${near}"?`}`];
  });
}
