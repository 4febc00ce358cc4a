/** How endpoints near the client are preferred. Source: istio/api networking/v1alpha3 LocalityLoadBalancerSetting. */
import { boolean, list, mapOf, message, type Read, text, uint32 } from './shape.ts';

/** Of a DestinationRule's load balancer, and of MeshConfig. */
export const LOCALITY_SETTING = message({
  distribute: list(message({ from: text, to: mapOf(uint32) })),
  failover: list(message({ from: text, to: text })),
  failoverPriority: list(text),
  enabled: boolean,
});

export type LocalitySetting = Omit<Read<typeof LOCALITY_SETTING>, 'at'>;
