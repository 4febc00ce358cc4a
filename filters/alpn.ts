/** What ALPN is offered upstream, by what is spoken there. Istio: istio.envoy.config.filter.http.alpn.v2alpha1; istio.md §2.7. */
import type { FilterFactory } from '../proxy/http/filter.ts';
import { Fields } from '../proxy/resource_fields.ts';
import type { AlpnOverride } from '../proxy/upstream/cluster.ts';

export default {
  typeUrls: ['type.googleapis.com/istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig'],
  parse(json): AlpnOverride {
    const lists = new Map<string, readonly string[]>();
    for (const entry of new Fields(json).messages('alpn_override')) {
      lists.set(
        entry.oneOf('upstream_protocol', ['HTTP10', 'HTTP11', 'HTTP2'], 'HTTP10'),
        entry.strings('alpn_override'),
      );
    }
    // Upstream we speak HTTP/1.1 whatever the client's version was, so the list of HTTP10 has no use.
    return { http1: lists.get('HTTP11'), http2: lists.get('HTTP2') };
  },
  create(override) {
    return {
      decodeHeaders(ctx) {
        ctx.info.upstreamAlpn = override;
        return 'continue';
      },
    };
  },
} satisfies FilterFactory<AlpnOverride>;
