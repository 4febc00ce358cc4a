/** Clusters towards the workload's own application. */
import type { Json, Resource } from '../resources.ts';
import type { CompileContext } from './context.ts';
import { effectivePolicy } from './destination_rule.ts';
import { INBOUND_PASSTHROUGH, originOf, resource, seconds, socketAddress } from './envoy_json.ts';
import type { MeshService, ServicePort } from './model.ts';
import { isPartOf, inboundTargetPort } from './own_services.ts';
import { configPath } from './outbound_cluster.ts';
import { passthroughHttpOptions } from './passthrough_cluster.ts';
import { connectionPoolFields, httpOptions, httpProtocolOptions } from './traffic_policy.ts';

/** The application is reached from this address, so that interception leaves it alone. */
const INBOUND_SOURCE: Json = { source_address: { address: '127.0.0.6', port_value: 0 } };

/** The longest that fits Envoy: an original destination is kept for ever. */
const NEVER = '9223372035s';

export function inboundClusterName(workloadPort: number): string {
  return `inbound|${workloadPort}||`;
}

/** One cluster for each port of the workload that a service names; the oldest service's settings hold. */
export function inboundClusters(context: CompileContext): Resource[] {
  const out = new Map<string, Resource>();
  for (const service of context.services) {
    if (!isPartOf(context, service)) continue;
    for (const port of service.ports) {
      const number = inboundTargetPort(context, service, port);
      if (number === undefined) continue;
      const name = inboundClusterName(number);
      if (out.has(name)) continue;
      const own = ownFields(context, service, port);
      const json: Json = {
        name,
        alt_stat_name: `${name};`,
        type: 'ORIGINAL_DST',
        lb_policy: 'CLUSTER_PROVIDED',
        ...own,
        cleanup_interval: NEVER,
        upstream_bind_config: INBOUND_SOURCE,
      };
      out.set(name, resource('cluster', name, json, originOf(context.rule(service.host)?.object ?? service.object)));
    }
  }
  return [...out.values()];
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
    ...(owner === undefined
      ? connectionPoolFields({}, context.mesh, httpOptions('HTTP'))
      : ownFields(context, owner.service, owner.port)),
  };
  return resource('cluster', name, json, owner === undefined ? '--inbound' : originOf(owner.service.object));
}

/** The connection pool of the service's own rule bounds the server too. */
function ownFields(context: CompileContext, service: MeshService, port: ServicePort): Json {
  const rule = context.rule(service.host);
  const options = httpOptions(port.protocol);
  const pool = connectionPoolFields(effectivePolicy(rule, undefined, port.number), context.mesh, options);
  const http = httpProtocolOptions(options);
  const { host, name, namespace } = service;
  return {
    ...pool,
    ...(http !== undefined && { typed_extension_protocol_options: http }),
    common_lb_config: {},
    metadata: {
      filter_metadata: {
        istio: {
          ...(rule?.policy !== undefined && {
            config: configPath('destination-rule', rule.object.namespace, rule.object.name),
          }),
          services: [{ host, name, namespace }],
        },
      },
    },
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
    upstream_bind_config: INBOUND_SOURCE,
  };
  return resource('cluster', INBOUND_PASSTHROUGH, json, 'MeshConfig');
}
