/** Stand where the configuration of a network or listener filter has not come by ECDS and there is no default. */
import type { ListenerFilter } from '../net/listener_filter.ts';
import type { NetworkFilter } from '../net/network_filter.ts';
import type { Counter } from '../telemetry/statistics.ts';

/** Source: Envoy, envoy.config.core.v3.ExtensionConfigSource: connections are closed. */
export function missingNetworkFilter(closed: Counter): NetworkFilter {
  return {
    onNewConnection(ctx) {
      closed.inc();
      ctx.close('reset', 'network_extension_config_missing');
      return 'stop';
    },
  };
}

export function missingListenerFilter(closed: Counter): ListenerFilter {
  return {
    inspect() {
      closed.inc();
      return 'reject';
    },
  };
}
