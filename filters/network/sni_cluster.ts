/** The server name that the client asks for is the name of the cluster. Envoy: envoy.extensions.filters.network.sni_cluster.v3. */
import type { NetworkFilterFactory } from '../../proxy/net/network_filter.ts';

/** Read by tcp_proxy. */
const CLUSTER_STATE_KEY = 'envoy.tcp_proxy.cluster';

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.network.sni_cluster.v3.SniCluster'],
  parse: () => undefined,
  create: () => ({
    onNewConnection({ connection }) {
      if (connection.requestedServerName !== undefined) {
        connection.filterState ??= new Map();
        connection.filterState.set(CLUSTER_STATE_KEY, connection.requestedServerName);
      }
      return 'continue';
    },
  }),
} satisfies NetworkFilterFactory<undefined>;
