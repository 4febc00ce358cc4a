/** Clusters towards the workload's own application. */
import type { KubeObject } from '../kube_object.ts';
import type { Json, Resource } from '../resources.ts';
import type { CompileContext } from './context.ts';
import { effectivePolicy } from './destination_rule.ts';
import { INBOUND_PASSTHROUGH, originOf, resource, seconds, socketAddress } from './envoy_json.ts';
import type { MeshService, ServicePort } from './model.ts';
import { type InboundPort, inboundPorts } from './inbound_ports.ts';
import { configPath } from './outbound_cluster.ts';
import { passthroughHttpOptions } from './passthrough_cluster.ts';
import { connectionPoolFields, httpOptions, httpProtocolOptions } from './traffic_policy.ts';

/** The application is reached from this address, so that interception leaves it alone. */
function inboundSource({ wildcard, otherWildcard }: CompileContext): Json {
  const at = (address: string): Json => ({ address, port_value: 0 });
  return {
    source_address: at(wildcard === '::' ? '::6' : '127.0.0.6'),
    ...(otherWildcard !== undefined && { extra_source_addresses: [{ address: at('::6') }] }),
  };
}

/** The longest that fits Envoy: an original destination is kept for ever. */
const NEVER = '9223372035s';

export function inboundClusterName(workloadPort: number): string {
  return `inbound|${workloadPort}||`;
}

/** One cluster for each port of the workload that a service or its Sidecar names; the oldest service's settings hold. */
export function inboundClusters(context: CompileContext): Resource[] {
  return inboundPorts(context).map((item) => {
    const { owner } = item;
    const name = inboundClusterName(item.number);
    const json: Json = {
      name,
      alt_stat_name: `${name};`,
      ...placeFields(context, name, item),
      ...ownFields(context, item),
    };
    const object = owner === undefined ? context.scope.sidecar?.object : ownerObject(context, owner.service);
    return resource('cluster', name, json, object === undefined ? 'Sidecar' : originOf(object));
  });
}

function ownerObject(context: CompileContext, service: MeshService): KubeObject {
  return context.rule(service.host)?.object ?? service.object;
}

/** The original destination, or where a Sidecar says that the application listens. */
function placeFields(context: CompileContext, name: string, { ingress, number }: InboundPort): Json {
  const localhost = context.mesh.inboundToLocalhost ? localEndpoint(context, number) : '';
  const endpoint = ingress?.defaultEndpoint || localhost;
  if (endpoint === '') {
    return {
      type: 'ORIGINAL_DST',
      lb_policy: 'CLUSTER_PROVIDED',
      cleanup_interval: NEVER,
      upstream_bind_config: inboundSource(context),
    };
  }
  const address = endpointAddress(context, endpoint);
  const local = endpoint.startsWith('127.') || endpoint.startsWith('[::1]') || endpoint.startsWith('unix:');
  return {
    type: 'STATIC',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }] },
    // The pod's own address would be intercepted again.
    ...(!local && { upstream_bind_config: inboundSource(context) }),
  };
}

/** Where applications listen that take nothing from outside (inboundTrafficPolicy LOCALHOST). */
function localEndpoint({ wildcard }: CompileContext, port: number): string {
  return wildcard === '::' ? `[::1]:${port}` : `127.0.0.1:${port}`;
}

/** `0.0.0.0:PORT` is the pod's own address. */
function endpointAddress({ client }: CompileContext, endpoint: string): Json {
  if (endpoint.startsWith('unix://')) return { pipe: { path: endpoint.slice('unix://'.length) } };
  const colon = endpoint.lastIndexOf(':');
  const host = endpoint.slice(0, colon).replace(/^\[|\]$/g, '');
  const own = host === '0.0.0.0' || host === '::' ? client.ips[0] : undefined;
  return socketAddress(own ?? host, Number(endpoint.slice(colon + 1)));
}

/** Explicit mode: the application at a known address. */
export function staticInboundCluster(
  context: CompileContext,
  workloadPort: number,
  app: { readonly ip: string; readonly port: number },
  owner: { readonly service: MeshService; readonly port: ServicePort } | undefined,
): Resource {
  const name = inboundClusterName(workloadPort);
  const json: Json = {
    name,
    alt_stat_name: `${name};`,
    type: 'STATIC',
    load_assignment: {
      cluster_name: name,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(app.ip, app.port) } }] }],
    },
    ...ownFields(context, {
      number: workloadPort,
      protocol: owner?.port.protocol ?? 'HTTP',
      owner,
      ingress: undefined,
    }),
  };
  return resource('cluster', name, json, owner === undefined ? '--inbound' : originOf(owner.service.object));
}

/** The server is bounded too: by its Sidecar's pool for the port, its Sidecar's for all, the service's own rule. */
function ownFields(context: CompileContext, { protocol, owner, ingress }: InboundPort): Json {
  const rule = owner === undefined ? undefined : context.rule(owner.service.host);
  const options = httpOptions(protocol);
  const { outlierDetection: _outlier, ...policy } = effectivePolicy(rule, undefined, owner?.port.number ?? 0);
  const connectionPool =
    ingress?.connectionPool ?? context.scope.sidecar?.inboundConnectionPool ?? policy.connectionPool;
  const pool = connectionPoolFields(
    { ...policy, ...(connectionPool !== undefined && { connectionPool }) },
    context.mesh,
    options,
  );
  const http = httpProtocolOptions(options);
  return {
    ...pool,
    ...(http !== undefined && { typed_extension_protocol_options: http }),
    common_lb_config: {},
    ...(owner !== undefined && {
      metadata: {
        filter_metadata: {
          istio: {
            ...(rule?.policy !== undefined && {
              config: configPath('destination-rule', rule.object.namespace, rule.object.name),
            }),
            services: [{ host: owner.service.host, name: owner.service.name, namespace: owner.service.namespace }],
          },
        },
      },
    }),
  };
}

/** For ports that no service names. */
export function inboundPassthrough(context: CompileContext): Resource {
  const json: Json = {
    name: INBOUND_PASSTHROUGH,
    alt_stat_name: 'PassthroughCluster;',
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    ...connectionPoolFields({}, context.mesh, httpOptions('HTTP')),
    connect_timeout: seconds(context.mesh.connectTimeoutMs),
    typed_extension_protocol_options: passthroughHttpOptions(),
    upstream_bind_config: inboundSource(context),
  };
  return resource('cluster', INBOUND_PASSTHROUGH, json, 'MeshConfig');
}
