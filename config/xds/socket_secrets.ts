/** Secrets from whoever serves SDS on a unix socket: SPIRE, Istio's agent (istio.md §2.6). */
import { VERSION } from '../../proxy/version.ts';
import type { NodeIdentity } from '../../proxy/proxy_options.ts';
import type { XdsSource } from './xds_source.ts';
import { xdsSource } from './bootstrap_source.ts';
import type { XdsOptions } from './xds_source.ts';

/** The name by which Istio's configuration asks for them. */
const CLUSTER = 'sds-grpc';

/** Answers to all that names the cluster sds-grpc: `default` and `ROOTCA` first of all. */
export function socketSecrets(socket: string, node: NodeIdentity, log: XdsOptions['log']): XdsSource {
  const cluster = {
    name: CLUSTER,
    type: 'STATIC',
    typed_extension_protocol_options: {
      'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
        '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
        explicit_http_config: { http2_protocol_options: {} },
      },
    },
    load_assignment: {
      cluster_name: CLUSTER,
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: socket } } } }] }],
    },
  };
  const { id, cluster: nodeCluster, metadata } = node;
  return xdsSource(
    { node: { id, cluster: nodeCluster, metadata }, static_resources: { clusters: [cluster] } },
    { id: id || 'pillion', cluster: nodeCluster || 'pillion', version: VERSION },
    { log },
  );
}
