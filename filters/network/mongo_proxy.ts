/**
 * MongoDB's wire protocol is not read here: its bytes pass, and one warning says so. istiod puts this filter before every
 * mongo port. Envoy: envoy.extensions.filters.network.mongo_proxy.v3.
 */
import type { NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import { Fields } from '../../proxy/resource_fields.ts';

let warned = false;

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy'],
  parse(json) {
    const fields = new Fields(json);
    fields.requiredString('stat_prefix');
    // A delay would be traffic that behaves otherwise than configured; statistics that are missing are not.
    if (fields.has('delay')) fields.fail('delay', 'faults in MongoDB connections are not supported');
    return undefined;
  },
  create(_config, { services }) {
    if (!warned && services.threadIndex === 0) {
      warned = true;
      services.log.log('warning', 'filter', 'mongo_proxy: MongoDB connections pass as bytes, without mongo statistics');
    }
    return {};
  },
} satisfies NetworkFilterFactory<undefined>;
