/** The server name that the client asks for is the host to resolve. Envoy: envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3. */
import type { NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { DYNAMIC_HOST_KEY, DYNAMIC_PORT_KEY } from '../../proxy/tcp/state_keys.ts';

interface Config {
  /** Default 443. */
  readonly port: number;
}

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig'],
  parse(json): Config {
    const fields = new Fields(json);
    if (fields.boolean('save_upstream_address') === true) {
      fields.fail('save_upstream_address', 'is not supported');
    }
    return { port: fields.integer('port_value', 1, 65535) ?? 443 };
  },
  create: ({ port }) => ({
    onNewConnection({ connection }) {
      if (connection.requestedServerName !== undefined) {
        connection.filterState ??= new Map();
        connection.filterState.set(DYNAMIC_HOST_KEY, connection.requestedServerName).set(DYNAMIC_PORT_KEY, port);
      }
      return 'continue';
    },
  }),
} satisfies NetworkFilterFactory<Config>;
