/** The server name that the client asks for is the name of the cluster. Envoy: envoy.extensions.filters.network.sni_cluster.v3. */
import type { NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import { CLUSTER_STATE_KEY } from '../../proxy/tcp/state_keys.ts';

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
