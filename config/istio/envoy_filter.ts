/** EnvoyFilter (networking.istio.io): patches to what the compiler makes. Source: istio/api networking/v1alpha3/envoy_filter.proto. */
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
  type Read,
  text,
  within,
} from './shape.ts';
import { TARGET_REF, TARGET_REFS } from './workload_selector.ts';

export const APPLY_TO = [
  'INVALID',
  'LISTENER',
  'FILTER_CHAIN',
  'NETWORK_FILTER',
  'HTTP_FILTER',
  'ROUTE_CONFIGURATION',
  'VIRTUAL_HOST',
  'HTTP_ROUTE',
  'CLUSTER',
  'EXTENSION_CONFIG',
  'BOOTSTRAP',
  'LISTENER_FILTER',
] as const;

const NAMED_FILTER = message({ name: text, subFilter: message({ name: text }) });

const PATCH = message({
  applyTo: oneOf(...APPLY_TO),
  match: message({
    context: oneOf('ANY', 'SIDECAR_INBOUND', 'SIDECAR_OUTBOUND', 'GATEWAY', 'WAYPOINT'),
    proxy: message({ proxyVersion: text, metadata: mapOf(looseText) }),
    listener: message({
      portNumber: port,
      portName: text,
      name: text,
      listenerFilter: text,
      filterChain: message({
        name: text,
        sni: text,
        transportProtocol: text,
        applicationProtocols: text,
        destinationPort: port,
        filter: NAMED_FILTER,
      }),
    }),
    routeConfiguration: message({
      portNumber: port,
      portName: text,
      gateway: text,
      name: text,
      vhost: message({
        name: text,
        domainName: text,
        route: message({ name: text, action: oneOf('ANY', 'ROUTE', 'REDIRECT', 'DIRECT_RESPONSE') }),
      }),
    }),
    cluster: message({ portNumber: port, service: text, subset: text, name: text }),
    waypoint: message({ portNumber: port, filter: NAMED_FILTER, route: message({ name: text }) }),
  }),
  patch: message({
    operation: oneOf(
      'INVALID',
      'MERGE',
      'ADD',
      'REMOVE',
      'INSERT_BEFORE',
      'INSERT_AFTER',
      'INSERT_FIRST',
      'REPLACE',
      'MERGE_AND_REPLACE_LIST',
    ),
    value: anything,
    filterClass: oneOf('UNSPECIFIED', 'AUTHN', 'AUTHZ', 'STATS'),
  }),
});

const ENVOY_FILTER = openMessage({
  spec: message({
    workloadSelector: message({ labels: mapOf(looseText) }),
    targetRefs: TARGET_REFS,
    targetRef: TARGET_REF,
    configPatches: list(PATCH),
    priority: int32,
  }),
  status: anything,
});

export type EnvoyPatch = Read<typeof PATCH>;

export interface EnvoyFilter {
  readonly namespace: string;
  readonly selector: ReadonlyMap<string, string> | undefined;
  /** For gateways and waypoints only. */
  readonly targeted: boolean;
  readonly priority: number;
  readonly patches: readonly EnvoyPatch[];
  readonly object: KubeObject;
}

/** @throws {ConfigError} */
export function parseEnvoyFilter(object: KubeObject, at: At): EnvoyFilter {
  const { spec } = ENVOY_FILTER(object.json, at);
  const targeted = spec?.targetRef !== undefined || (spec?.targetRefs ?? []).length > 0;
  const labels = spec?.workloadSelector?.labels;
  if (spec !== undefined && targeted && labels !== undefined)
    fail(within(spec.at, 'workloadSelector'), 'only one of targetRefs and workloadSelector can be set');
  const patches = spec?.configPatches ?? [];
  for (const { match } of patches) {
    if (match === undefined) continue;
    const forWaypoint = match.context === 'WAYPOINT';
    const other = match.listener ?? match.routeConfiguration ?? match.cluster;
    if (match.waypoint !== undefined && !forWaypoint)
      fail(within(match.at, 'waypoint'), 'waypoint is for context WAYPOINT only');
    if (forWaypoint && other !== undefined) fail(other.at, 'context WAYPOINT takes a waypoint match only');
  }
  return {
    namespace: object.namespace,
    selector: labels === undefined || labels.size === 0 ? undefined : labels,
    targeted,
    priority: spec?.priority ?? 0,
    patches,
    object,
  };
}
