/**
 * Tells TCP clients who we are and learns who they are, where both sides have negotiated to.
 * Istio: envoy.tcp.metadataexchange.config.MetadataExchange; istio.md §2.7. Its counterpart on clusters: net/tls/upstream_tls.ts.
 */
import type { NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { FrameStripper, ownFrame, PEER_EXCHANGE } from '../../proxy/telemetry/metadata_frame.ts';

interface Config {
  /** The ALPN that says: both sides send a frame first. */
  readonly protocol: string;
}

interface State {
  stripper: FrameStripper | undefined;
}

export default {
  typeUrls: ['type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange'],
  parse: (json): Config => ({ protocol: new Fields(json).string('protocol') || PEER_EXCHANGE }),
  create({ protocol }, { services }) {
    const frame = ownFrame(services.node);
    const counter = (name: string) => services.statistics.counter(`metadata_exchange.${name}`);
    const found = counter('alpn_protocol_found');
    const notFound = counter('alpn_protocol_not_found');
    const withoutHeader = counter('initial_header_not_found');
    const added = counter('metadata_added');
    return {
      newState: (): State => ({ stripper: undefined }),
      onNewConnection(ctx, state) {
        if (ctx.connection.alpn !== protocol) {
          notFound.inc();
          return 'continue';
        }
        found.inc();
        state.stripper = new FrameStripper((peer) => {
          if (peer === undefined) withoutHeader.inc();
          else added.inc();
          ctx.info.downstreamPeer = peer;
        });
        ctx.write(frame, false);
        return 'continue';
      },
      onData(_ctx, body, _endStream, { stripper }) {
        if (stripper === undefined || stripper.isOver) return 'continue';
        body.bytes = stripper.take(body.bytes) ?? EMPTY;
        return 'continue';
      },
    };
  },
} satisfies NetworkFilterFactory<Config, State>;

const EMPTY = Buffer.alloc(0);
