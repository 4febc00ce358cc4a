/** Restores the address that the client had dialled before netfilter redirected it. Envoy: envoy.extensions.filters.listener.original_dst.v3. */
import type { ListenerFilterFactory } from '../../proxy/net/listener_filter.ts';

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.listener.original_dst.v3.OriginalDst'],
  parse: () => undefined,
  create: () => ({
    inspect(_bytes, facts) {
      const destination = facts.originalDestination();
      // Not redirected: somebody dialled this listener itself.
      if (destination !== undefined && destination.text !== facts.localAddress.text) {
        facts.localAddress = destination;
        facts.localAddressRestored = true;
      }
      return 'done';
    },
  }),
} satisfies ListenerFilterFactory<undefined>;
