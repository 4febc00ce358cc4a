/**
 * The outbound listeners of a sidecar: `virtualOutbound`, which takes what iptables redirected, and behind it one
 * without a port of its own for each address that services have.
 *
 *   0.0.0.0_PORT   HTTP services by Host; TLS by server name; TCP by address range; the rest passes through
 *   VIP_PORT       one service's TCP, or what its first bytes say (HTTP by route configuration HOST:PORT)
 *   PODIP_PORT     TCP of a headless service, one for each Pod
 *
 * Source: istio/istio pilot/pkg/networking/core/listener.go, listener_builder.go.
 */
import { isIP } from 'node:net';
import type { Json, Resource } from '../resources.ts';
import { connectionManager } from './connection_manager.ts';
import type { CompileContext } from './context.ts';
import { ADS, BLACK_HOLE, extension, originOf, OUTBOUND_PASSTHROUGH, resource } from './envoy_json.ts';
import { listenAddress } from './listen_address.ts';
import { BY_BYTES_ALONE, inspector, PLAIN_HTTP } from './inspectors.ts';
import type { MeshService, ServicePort } from './model.ts';
import { isHttp } from './protocol.ts';
import {
  type ChainPlace,
  type ChainSpec,
  chainJson,
  statsFilter,
  tcpChains,
  TCP_PROXY,
  tcpProxyFilter,
  TRANSPORT_TIMEOUT,
} from './tcp_chains.ts';

const OUTBOUND_PORT = 15001;

/** A listener under construction. */
interface Draft {
  readonly ip: string;
  readonly port: number;
  /** Route configuration; undefined: no HTTP. */
  routes: string | undefined;
  /** Its port is declared as gRPC-Web. */
  grpcWeb: boolean;
  readonly chains: ChainSpec[];
  readonly keys: Set<string>;
  readonly origin: string;
}

export function outboundListeners(context: CompileContext): Resource[] {
  const drafts = new Map<string, Draft>();
  const claimed = new Set(context.scope.listeners.flatMap(({ egress }) => egress?.port?.number ?? []));
  for (const service of context.services) {
    if (service.resolution === 'alias') continue;
    for (const port of service.ports) {
      if (port.protocol !== 'UDP' && !claimed.has(port.number)) addPort(context, drafts, service, port);
    }
  }
  for (const { egress, services } of context.scope.listeners) {
    if (egress?.port === undefined) continue;
    for (const service of services) {
      for (const port of service.ports) if (port.protocol !== 'UDP') addPort(context, drafts, service, port);
    }
  }
  return [...[...drafts.values()].map((draft) => listener(context, draft)), virtualOutbound(context)];
}

function addPort(context: CompileContext, drafts: Map<string, Draft>, service: MeshService, port: ServicePort): void {
  const draftOf = (ip: string): Draft => {
    const key = `${ip} ${port.number}`;
    let draft = drafts.get(key);
    if (draft === undefined) {
      const origin = originOf(service.object);
      draft = { ip, port: port.number, routes: undefined, grpcWeb: false, chains: [], keys: new Set(), origin };
      drafts.set(key, draft);
    }
    return draft;
  };
  if (isHttp(port.protocol)) {
    const draft = draftOf(context.wildcard);
    // The oldest service of a port decides what its listener is.
    if (draft.routes === undefined) draft.grpcWeb = port.protocol === 'GRPC-Web';
    draft.routes = String(port.number);
    return;
  }
  for (const { ip, place } of placesOf(context, service, port)) {
    const draft = draftOf(ip);
    if (port.protocol === 'Auto') {
      draft.routes ??= ip === context.wildcard ? String(port.number) : `${service.host}:${port.number}`;
    }
    for (const chain of tcpChains(context, service, port, place)) addChain(context, draft, chain, service);
  }
}

interface Place {
  readonly ip: string;
  readonly place: ChainPlace;
}

/** Each address at which clients reach a port that is not HTTP. */
function placesOf(context: CompileContext, service: MeshService, port: ServicePort): Place[] {
  const common = { knowsDestination: true, accessLog: undefined } as const;
  const at = (ip: string): Place => ({ ip, place: { ...common, ranges: [], shared: false } });
  if (service.resolution === 'passthrough' && service.addresses.length + service.ranges.length === 0) {
    const pods = context.endpoints.of(service, port).map(({ address }) => address);
    // A Pod that calls itself does not come this way.
    if (pods.length > 0) return pods.filter((ip) => isIP(ip) !== 0 && !context.client.ips.includes(ip)).map(at);
  }
  const places = service.addresses.filter((ip) => isIP(ip) !== 0).map(at);
  const { ranges } = service;
  if (ranges.length > 0) places.push({ ip: context.wildcard, place: { ...common, ranges, shared: true } });
  if (places.length > 0) return places;
  return [{ ip: context.wildcard, place: { ...common, ranges: [], shared: true } }];
}

/** Of two chains for the same connections the older service's stays. */
function addChain(context: CompileContext, draft: Draft, chain: ChainSpec, service: MeshService): void {
  const key = JSON.stringify([[...chain.serverNames].sort(), [...chain.ranges].sort()]);
  if (draft.keys.has(key)) {
    if (key === '[[],[]]' && draft.ip === context.wildcard) {
      context.warnings.push(
        `${originOf(service.object)}: nothing tells port ${draft.port} of ${service.host} from that of an older service ` +
          'without an address; the older one gets the connections.',
      );
    }
    return;
  }
  draft.keys.add(key);
  draft.chains.push(chain);
}

function listener(context: CompileContext, { ip, port, routes, grpcWeb, chains, origin }: Draft): Resource {
  const name = `${ip}_${port}`;
  const own = chains.map(chainJson);
  const rest = own.find((chain) => !('filter_chain_match' in chain));
  const chainList: Json[] = [];
  let fallback: Json | undefined;
  if (routes === undefined) chainList.push(...own);
  else {
    chainList.push(httpChain(context, name, routes, grpcWeb), ...own.filter((chain) => chain !== rest));
    fallback = rest;
  }
  if (ip === context.wildcard && (routes === undefined ? rest : fallback) === undefined)
    fallback = passthroughChain(context);
  const inspectors = [
    ...(chains.some(({ serverNames }) => serverNames.length > 0) ? [inspector('tls')] : []),
    ...(routes === undefined ? [] : [inspector('http')]),
  ];
  const json: Json = {
    name,
    ...listenAddress(context, ip, port),
    filter_chains: chainList,
    ...(fallback !== undefined && { default_filter_chain: fallback }),
    ...(inspectors.length > 0 && { listener_filters: inspectors }),
    ...BY_BYTES_ALONE,
    traffic_direction: 'OUTBOUND',
    bind_to_port: false,
  };
  return resource('listener', name, json, origin);
}

function httpChain(context: CompileContext, name: string, routes: string, grpcWeb: boolean): Json {
  const manager = connectionManager(context, {
    direction: 'outbound',
    statPrefix: `outbound_${name};`,
    routes: { rds: { config_source: ADS, route_config_name: routes } },
    accessLog: undefined,
    grpcWeb,
  });
  return { filter_chain_match: PLAIN_HTTP, filters: [manager], ...TRANSPORT_TIMEOUT };
}

/** What no service takes: on to where it was going, or nowhere. */
function passthroughChain(context: CompileContext): Json {
  const cluster = catchAll(context);
  return {
    filter_chain_match: {},
    filters: [...statsFilter(context), tcpProxyFilter(context, { stat_prefix: cluster, cluster }, undefined)],
    name: 'PassthroughFilterChain',
  };
}

function virtualOutbound(context: CompileContext): Resource {
  const cluster = catchAll(context);
  const json: Json = {
    name: 'virtualOutbound',
    ...listenAddress(context, context.wildcard, OUTBOUND_PORT),
    filter_chains: [
      // Whoever dials the port itself would be sent in circles.
      {
        filter_chain_match: { destination_port: OUTBOUND_PORT },
        filters: [
          ...statsFilter(context),
          extension('envoy.filters.network.tcp_proxy', TCP_PROXY, { stat_prefix: BLACK_HOLE, cluster: BLACK_HOLE }),
        ],
        name: 'virtualOutbound-blackhole',
      },
      {
        filters: [...statsFilter(context), tcpProxyFilter(context, { stat_prefix: cluster, cluster }, undefined)],
        name: 'virtualOutbound-catchall-tcp',
      },
    ],
    use_original_dst: true,
    ...accessLog(context),
    traffic_direction: 'OUTBOUND',
    max_connections_to_accept_per_socket_event: 1,
  };
  return resource('listener', 'virtualOutbound', json, 'MeshConfig');
}

function catchAll(context: CompileContext): string {
  return context.outboundPolicy === 'REGISTRY_ONLY' ? BLACK_HOLE : OUTBOUND_PASSTHROUGH;
}

function accessLog({ telemetry }: CompileContext): Json {
  const logs = telemetry.accessLogs('outbound', 'listener', undefined);
  return logs.length > 0 ? { access_log: logs } : {};
}
