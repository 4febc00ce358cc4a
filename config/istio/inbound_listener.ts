/**
 * The inbound listener of a sidecar, `virtualInbound`: what iptables redirected, by port, by what the client speaks,
 * and by whether it must prove who it is.
 *
 *   15006 itself ─ nowhere          a port of a service ─ its chains          any other port ─ catch-all chains
 *
 * Source: istio/istio pilot/pkg/networking/core/listener_inbound.go.
 */
import { connectionManager } from './connection_manager.ts';
import type { CompileContext } from './context.ts';
import type { Json, Resource } from '../resources.ts';
import { mutualTlsSocket } from './downstream_tls.ts';
import { BLACK_HOLE, extension, INBOUND_PASSTHROUGH, originOf, resource } from './envoy_json.ts';
import { listenAddress } from './listen_address.ts';
import {
  type InboundChain,
  inboundChains,
  type InboundKind,
  needsHttpInspector,
  needsTlsInspector,
} from './inbound_chains.ts';
import { inboundClusterName } from './inbound_cluster.ts';
import { type InboundPort, inboundPorts } from './inbound_ports.ts';
import { inboundRoutes } from './inbound_routes.ts';
import { byBytes, inspector } from './inspectors.ts';
import { configPath } from './outbound_cluster.ts';
import { METADATA_EXCHANGE } from './peer_exchange.ts';
import { isHttp, isHttp2, type Protocol } from './protocol.ts';
import { statsFilter, TCP_PROXY, tcpProxyFilter } from './tcp_chains.ts';
import type { WorkloadPolicy } from './workload_policy.ts';

/** Istio's mark: by it the kernel leads the application's answers back to the proxy. */
const ORIGINAL_SOURCE = extension(
  'envoy.filters.listener.original_src',
  'envoy.extensions.filters.listener.original_src.v3.OriginalSrc',
  { mark: 1337 },
);

/** One port, or all that no service names. */
interface Place {
  /** undefined: the catch-all. */
  readonly port: number | undefined;
  readonly names: { readonly http: string; readonly tcp: string };
  readonly cluster: string;
  readonly statPrefix: string;
  readonly protocol: Protocol;
  readonly routes: Json;
  /** The Sidecar that lists the port, for whoever reads a dump. */
  readonly metadata: Json;
}

export function virtualInbound(context: CompileContext, policy: WorkloadPolicy): Resource {
  const ports = inboundPorts(context)
    .filter(({ number, ingress }) => number !== context.mesh.inboundPort && ingress?.captureMode !== 'NONE')
    .sort((a, b) => a.number - b.number);
  const places = [catchAll(context), ...ports.map((port) => placeOf(context, port))];
  const chains = places.map((place) => ({ place, chains: chainsOf(context, policy, place) }));
  const json: Json = {
    name: 'virtualInbound',
    ...listenAddress(context, context.wildcard, context.mesh.inboundPort),
    filter_chains: [
      blackHole(context),
      ...chains.flatMap(({ place, chains: own }) =>
        own.length === 0 ? closed(context, place) : own.map((chain) => chainJson(context, policy, place, chain)),
      ),
    ],
    listener_filters: [
      extension('envoy.filters.listener.original_dst', 'envoy.extensions.filters.listener.original_dst.v3.OriginalDst'),
      ...(context.client.transparent ? [ORIGINAL_SOURCE] : []),
      ...inspectorJson(context, 'tls', chains, needsTlsInspector),
      ...inspectorJson(context, 'http', chains, needsHttpInspector),
    ],
    ...byBytes(context.mesh),
    ...(context.client.transparent && { transparent: true }),
    ...accessLog(context),
    traffic_direction: 'INBOUND',
    max_connections_to_accept_per_socket_event: 1,
  };
  const decided = policy.modes.decidedBy;
  return resource('listener', 'virtualInbound', json, decided === undefined ? 'MeshConfig' : originOf(decided));
}

/** The ports of the Sidecar that nothing is captured for (captureMode NONE): each has a listener that opens it. */
export function boundInbound(context: CompileContext, policy: WorkloadPolicy): Resource[] {
  const { sidecar } = context.scope;
  return inboundPorts(context).flatMap((port) => {
    const { number, ingress } = port;
    if (sidecar === undefined || ingress?.captureMode !== 'NONE') return [];
    const place = placeOf(context, port);
    const chains = chainsOf(context, policy, place);
    const ip = ingress.bind || context.wildcard;
    const name = `${ip}_${number}`;
    const json: Json = {
      name,
      ...listenAddress(context, ip, number),
      filter_chains:
        chains.length === 0 ? closed(context, place) : chains.map((chain) => chainJson(context, policy, place, chain)),
      listener_filters: [
        ...(needsTlsInspector(chains) ? [inspector('tls')] : []),
        ...(needsHttpInspector(chains) ? [inspector('http')] : []),
      ],
      ...byBytes(context.mesh),
      ...accessLog(context),
      traffic_direction: 'INBOUND',
    };
    return [resource('listener', name, json, originOf(sidecar.object))];
  });
}

function chainsOf(context: CompileContext, policy: WorkloadPolicy, place: Place): readonly InboundChain[] {
  const mode = place.port === undefined ? policy.modes.workload : policy.modes.of(place.port);
  const all = inboundChains(mode, kindOf(place.protocol));
  return context.hasIdentity ? all : all.filter(({ mutualTls }) => !mutualTls);
}

function kindOf(protocol: Protocol): InboundKind {
  return protocol === 'Auto' ? 'auto' : isHttp(protocol) ? 'http' : 'tcp';
}

function catchAll(context: CompileContext): Place {
  return {
    port: undefined,
    names: { http: 'virtualInbound-catchall-http', tcp: 'virtualInbound' },
    cluster: INBOUND_PASSTHROUGH,
    statPrefix: `${INBOUND_PASSTHROUGH};`,
    protocol: 'Auto',
    routes: inboundRoutes(INBOUND_PASSTHROUGH, 0, '', true, context.mesh),
    metadata: {},
  };
}

function placeOf(context: CompileContext, { number, protocol, owner, ingress }: InboundPort): Place {
  const cluster = inboundClusterName(number);
  const ip = ingress === undefined ? '0.0.0.0' : ingress.bind || (context.client.ips[0] ?? '0.0.0.0');
  const name = `${ip}_${number}`;
  const sidecar = context.scope.sidecar?.object;
  const [host, servicePort] =
    ingress === undefined
      ? [owner?.service.host ?? '', owner?.port.number ?? 0]
      : [sidecar === undefined ? '' : `${sidecar.name}.${sidecar.namespace}`, number];
  return {
    port: number,
    names: { http: name, tcp: name },
    cluster,
    statPrefix: `inbound_${name};`,
    protocol,
    // A gRPC client retries by itself, by statuses that mean something to it.
    routes: inboundRoutes(cluster, servicePort, host, protocol !== 'GRPC' && protocol !== 'GRPC-Web', context.mesh),
    metadata:
      ingress === undefined || sidecar === undefined
        ? {}
        : {
            metadata: {
              filter_metadata: { istio: { config: configPath('sidecar', sidecar.namespace, sidecar.name) } },
            },
          },
  };
}

function chainJson(context: CompileContext, policy: WorkloadPolicy, place: Place, chain: InboundChain): Json {
  const { port, cluster } = place;
  const { mesh } = context;
  const filters = chain.http
    ? [
        connectionManager(context, {
          direction: 'inbound',
          statPrefix: place.statPrefix,
          routes: { route_config: place.routes, ...(isHttp2(place.protocol) && { http2_protocol_options: {} }) },
          accessLog: undefined,
          policyFilters: policy.httpFilters(),
          grpcWeb: place.protocol === 'GRPC-Web',
        }),
      ]
    : [
        ...policy.networkFilters(),
        ...statsFilter(context, 'inbound'),
        ...(place.protocol === 'Mongo' ? [mongo(cluster)] : []),
        tcpProxyFilter(context, { stat_prefix: cluster, cluster }, undefined, 'inbound'),
      ];
  return {
    filter_chain_match: { ...(port !== undefined && { destination_port: port }), ...chain.match },
    filters: [METADATA_EXCHANGE, ...filters],
    ...(chain.mutualTls && {
      transport_socket: mutualTlsSocket(chain.http, mesh),
    }),
    ...place.metadata,
    name: chain.http ? place.names.http : place.names.tcp,
  };
}

function mongo(stat_prefix: string): Json {
  const type = 'envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy';
  return extension('envoy.filters.network.mongo_proxy', type, { stat_prefix });
}

/** Whoever dials the port itself would be sent in circles. */
function blackHole(context: CompileContext): Json {
  return {
    filter_chain_match: { destination_port: context.mesh.inboundPort },
    filters: [
      METADATA_EXCHANGE,
      ...statsFilter(context, 'inbound'),
      extension('envoy.filters.network.tcp_proxy', TCP_PROXY, { stat_prefix: BLACK_HOLE, cluster: BLACK_HOLE }),
    ],
    name: 'virtualInbound-blackhole',
  };
}

/** A port that asks for certificates where nobody has any must not fall to the chains of all other ports. */
function closed(context: CompileContext, { port }: Place): Json[] {
  return port === undefined
    ? []
    : [{ ...blackHole(context), filter_chain_match: { destination_port: port }, name: `closed_${port}` }];
}

/** Off where no chain of the port asks: a server that speaks first is not kept waiting there, and TLS is just bytes. */
function inspectorJson(
  context: CompileContext,
  kind: 'tls' | 'http',
  chains: readonly { readonly place: Place; readonly chains: readonly InboundChain[] }[],
  needs: (chains: readonly InboundChain[]) => boolean,
): Json[] {
  if (!chains.some((item) => needs(item.chains))) return [];
  const off = chains.flatMap(({ place, chains: own }) => (place.port === undefined || needs(own) ? [] : [place.port]));
  const rules = [...off, context.mesh.inboundPort]
    .sort((a, b) => a - b)
    .map((port) => ({ destination_port_range: { start: port, end: port + 1 } }));
  return [{ ...inspector(kind), filter_disabled: rules.length === 1 ? rules[0] : { or_match: { rules } } }];
}

function accessLog({ telemetry }: CompileContext): Json {
  const logs = telemetry.accessLogs('inbound', 'listener', undefined);
  return logs.length > 0 ? { access_log: logs } : {};
}
