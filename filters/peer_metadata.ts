/**
 * Workloads tell each other who they are, in headers that neither application sees.
 * Istio: io.istio.http.peer_metadata.Config; istio.md §2.7.
 */
import type { FilterFactory } from '../proxy/http/filter.ts';
import type { Headers } from '../proxy/http/headers.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { encodeStruct, ownPeerMetadata, PeerCache } from '../proxy/telemetry/peer_metadata.ts';
import type { Peer } from '../proxy/telemetry/peer.ts';
import { refuseUnexecuted } from '../proxy/unexecuted_fields.ts';

const METADATA = 'x-envoy-peer-metadata';
const ID = 'x-envoy-peer-metadata-id';

interface Config {
  /** Whether the client's headers are read, the server's; and whether ours are sent to either. */
  readonly readsDownstream: boolean;
  readonly readsUpstream: boolean;
  readonly tellsDownstream: boolean;
  readonly tellsUpstream: boolean;
  /** istio_headers.skip_external_clusters: not to services outside the mesh. */
  readonly skipExternal: boolean;
}

interface State {
  /** The client speaks of itself, so it understands our answer. */
  asked: boolean;
}

export default {
  typeUrls: ['type.googleapis.com/io.istio.http.peer_metadata.Config'],
  parse(json): Config {
    const fields = new Fields(json);
    refuseUnexecuted(fields, 'PeerMetadata');
    const methods = (name: string): Fields[] => fields.messages(name).filter((method) => method.has('istio_headers'));
    const upstream = methods('upstream_propagation');
    return {
      readsDownstream: methods('downstream_discovery').length > 0,
      readsUpstream: methods('upstream_discovery').length > 0,
      tellsDownstream: methods('downstream_propagation').length > 0,
      tellsUpstream: upstream.length > 0,
      skipExternal: upstream.some(
        (method) => method.message('istio_headers')?.boolean('skip_external_clusters') === true,
      ),
    };
  },
  create(config, deps) {
    const own = encodeStruct(ownPeerMetadata(deps.node)).toString('base64');
    const id = deps.node.id === '' ? 'unknown' : deps.node.id;
    const peers = new PeerCache();
    const tell = (headers: Headers): void => {
      headers.set(METADATA, own);
      headers.set(ID, id);
    };
    const take = (headers: Headers): Peer | undefined => {
      const text = headers.get(METADATA);
      if (text !== undefined) headers.remove(METADATA);
      headers.remove(ID);
      return text === undefined ? undefined : peers.of(text);
    };
    return {
      newState: (): State => ({ asked: false }),
      decodeHeaders(ctx, headers, _end, state) {
        if (config.readsDownstream) {
          state.asked = headers.has(METADATA) || headers.has(ID);
          if (state.asked) ctx.info.downstreamPeer = take(headers);
        }
        if (config.tellsUpstream && !(config.skipExternal && isExternal(ctx.route()?.forward?.clusterName(headers)))) {
          tell(headers);
        }
        return 'continue';
      },
      encodeHeaders(ctx, headers, _end, state) {
        if (config.readsUpstream && (headers.has(METADATA) || headers.has(ID))) ctx.info.upstreamPeer = take(headers);
        if (config.tellsDownstream && state.asked) tell(headers);
        return 'continue';
      },
    };

    function isExternal(cluster: string | undefined): boolean {
      const metadata = cluster === undefined ? undefined : deps.clusters.get(cluster)?.metadata;
      return metadata === undefined || metadata['istio']?.['external'] === true;
    }
  },
} satisfies FilterFactory<Config, State>;
