/** Clusters for traffic that no service names. */
import type { Json, Resource } from '../resources.ts';
import type { CompileContext } from './context.ts';
import { any, BLACK_HOLE, DYNAMIC_FORWARD_PROXY, OUTBOUND_PASSTHROUGH, resource, seconds } from './envoy_json.ts';
import { dynamicForwardProxyFields } from './outbound_cluster.ts';
import { METADATA_EXCHANGE } from './peer_exchange.ts';
import { connectionPoolFields, httpOptions } from './traffic_policy.ts';

const PASSTHROUGH_IDLE = '300s';

export function passthroughHttpOptions(): Json {
  const type = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions';
  return {
    [type]: any(type, {
      common_http_protocol_options: { idle_timeout: PASSTHROUGH_IDLE },
      use_downstream_protocol_config: { http_protocol_options: {}, http2_protocol_options: {} },
    }),
  };
}

/** BlackHoleCluster (no endpoints) and PassthroughCluster (the original destination). */
export function passthroughClusters(context: CompileContext): Resource[] {
  const connectTimeout = seconds(context.mesh.connectTimeoutMs);
  const blackHole: Json = {
    name: BLACK_HOLE,
    alt_stat_name: `${BLACK_HOLE};`,
    type: 'STATIC',
    connect_timeout: connectTimeout,
  };
  const passthrough: Json = {
    name: OUTBOUND_PASSTHROUGH,
    alt_stat_name: `${OUTBOUND_PASSTHROUGH};`,
    type: 'ORIGINAL_DST',
    lb_policy: 'CLUSTER_PROVIDED',
    ...connectionPoolFields({}, context.mesh, httpOptions('HTTP')),
    typed_extension_protocol_options: passthroughHttpOptions(),
    ...(context.hasIdentity && { filters: [METADATA_EXCHANGE] }),
  };
  return [
    resource('cluster', BLACK_HOLE, blackHole, 'MeshConfig'),
    resource('cluster', OUTBOUND_PASSTHROUGH, passthrough, 'MeshConfig'),
  ];
}

/** Explicit mode's way to hosts that no service names: the name of the request is resolved. */
export function dynamicForwardProxy(context: CompileContext): Resource {
  const json: Json = {
    name: DYNAMIC_FORWARD_PROXY,
    alt_stat_name: 'PassthroughCluster;',
    ...dynamicForwardProxyFields(),
    lb_policy: 'CLUSTER_PROVIDED',
    ...connectionPoolFields({}, context.mesh, httpOptions('HTTP')),
    typed_extension_protocol_options: passthroughHttpOptions(),
  };
  return resource('cluster', DYNAMIC_FORWARD_PROXY, json, 'MeshConfig');
}
