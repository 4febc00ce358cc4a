/** Stands where a filter's configuration has not come by ECDS and there is no default: what it guards stays closed. */
import type { Filter } from './filter.ts';

/** Source: Envoy, envoy.config.core.v3.ExtensionConfigSource: 500 and the flag NFCF. */
export const missingFilterConfig: Filter = {
  decodeHeaders: (context) => context.sendLocalReply(500, 'NFCF', 'filter_chain_not_found'),
};
