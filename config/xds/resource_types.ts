/** The types of resources that come by xDS: their URLs, their services, where their statistics stand. */
import type { ResourceType } from '../resources.ts';

export interface XdsType {
  /** undefined: Istio's name table and layers of runtime values, which are no resources of the data plane. */
  readonly resource: ResourceType | undefined;
  readonly message: string;
  readonly url: string;
  /** Names of the streaming methods, state of the world and delta, where it has a service of its own. */
  readonly methods: { readonly sotw: string; readonly delta: string };
  /** Everything that the server has: what a state-of-the-world push leaves out is gone. */
  readonly isWildcard: boolean;
}

function type(
  resource: ResourceType | undefined,
  message: string,
  [service, plural]: readonly [string, string],
  isWildcard = false,
): XdsType {
  return {
    resource,
    message,
    url: `type.googleapis.com/${message}`,
    methods: { sotw: `/${service}/Stream${plural}`, delta: `/${service}/Delta${plural}` },
    isWildcard,
  };
}

export const CLUSTER = type(
  'cluster',
  'envoy.config.cluster.v3.Cluster',
  ['envoy.service.cluster.v3.ClusterDiscoveryService', 'Clusters'],
  true,
);
export const LISTENER = type(
  'listener',
  'envoy.config.listener.v3.Listener',
  ['envoy.service.listener.v3.ListenerDiscoveryService', 'Listeners'],
  true,
);
/** Asked for by the names that the bootstrap's layers have. */
export const RUNTIME = type(undefined, 'envoy.service.runtime.v3.Runtime', [
  'envoy.service.runtime.v3.RuntimeDiscoveryService',
  'Runtime',
]);
/** Delta only; they become parts of route configurations. */
export const VIRTUAL_HOST = type(
  undefined,
  'envoy.config.route.v3.VirtualHost',
  ['envoy.service.route.v3.VirtualHostDiscoveryService', 'VirtualHosts'],
  true,
);
export const NAME_TABLE = type(undefined, 'istio.networking.nds.v1.NameTable', ['', ''], true);

const NAMED = {
  endpoint: type('endpoint', 'envoy.config.endpoint.v3.ClusterLoadAssignment', [
    'envoy.service.endpoint.v3.EndpointDiscoveryService',
    'Endpoints',
  ]),
  route: type('route', 'envoy.config.route.v3.RouteConfiguration', [
    'envoy.service.route.v3.RouteDiscoveryService',
    'Routes',
  ]),
  secret: type('secret', 'envoy.extensions.transport_sockets.tls.v3.Secret', [
    'envoy.service.secret.v3.SecretDiscoveryService',
    'Secrets',
  ]),
  extension: type('extension', 'envoy.config.core.v3.TypedExtensionConfig', [
    'envoy.service.extension.v3.ExtensionConfigDiscoveryService',
    'ExtensionConfigs',
  ]),
  scope: type(
    'scope',
    'envoy.config.route.v3.ScopedRouteConfiguration',
    ['envoy.service.route.v3.ScopedRoutesDiscoveryService', 'ScopedRoutes'],
    true,
  ),
} as const;

export type NamedType = keyof typeof NAMED;

export function namedType(resource: NamedType): XdsType {
  return NAMED[resource];
}

export const AGGREGATED = {
  sotw: '/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources',
  delta: '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources',
} as const;
