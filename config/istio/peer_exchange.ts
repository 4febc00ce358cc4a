/** Filters by which the ends of a connection tell each other who they are, and agree on it (istio.md §2.7; istio/istio pilot/pkg/xds/filters/filters.go). */
import type { Json } from '../resources.ts';
import { any } from './envoy_json.ts';

const NAME = 'istio.metadata_exchange';
const HEADERS: Json = { istio_headers: {} };
const DISCOVERY: Json = { workload_discovery: {} };

/** TCP connections open with a frame that carries the peer's metadata. For chains and for clusters. */
export const METADATA_EXCHANGE: Json = {
  name: NAME,
  typed_config: any('udpa.type.v1.TypedStruct', {
    type_url: 'type.googleapis.com/envoy.tcp.metadataexchange.config.MetadataExchange',
    value: { enable_discovery: true, protocol: 'istio-peer-exchange' },
  }),
};

function headerExchange(value: Json): Json {
  return {
    name: NAME,
    typed_config: any('udpa.type.v1.TypedStruct', {
      type_url: 'type.googleapis.com/io.istio.http.peer_metadata.Config',
      value,
    }),
  };
}

const INBOUND_EXCHANGE = headerExchange({
  downstream_discovery: [HEADERS, DISCOVERY],
  downstream_propagation: [HEADERS],
});
const OUTBOUND_EXCHANGE = headerExchange({ upstream_discovery: [HEADERS, DISCOVERY], upstream_propagation: [HEADERS] });

/** The same over HTTP headers. */
export function httpMetadataExchange(direction: 'inbound' | 'outbound'): Json {
  return direction === 'inbound' ? INBOUND_EXCHANGE : OUTBOUND_EXCHANGE;
}

/** Offers upstream what tells a server's proxy that it is Istio's HTTP. */
export const ALPN_FILTER: Json = {
  name: 'istio.alpn',
  typed_config: any('istio.envoy.config.filter.http.alpn.v2alpha1.FilterConfig', {
    alpn_override: [
      { alpn_override: ['istio-http/1.0', 'istio', 'http/1.0'] },
      { upstream_protocol: 'HTTP11', alpn_override: ['istio-http/1.1', 'istio', 'http/1.1'] },
      { upstream_protocol: 'HTTP2', alpn_override: ['istio-h2', 'istio', 'h2'] },
    ],
  }),
};
