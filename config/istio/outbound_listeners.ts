/**
 * The outbound listeners of a sidecar: `virtualOutbound`, which takes what iptables redirected, and behind it one
 * without a port of its own for each address that services have.
 *
 *   0.0.0.0_PORT   HTTP services by Host; TLS by server name; TCP by address range; the rest passes through
 *   VIP_PORT       one service's TCP, or what its first bytes say (HTTP by route configuration HOST:PORT)
 *   PODIP_PORT     TCP of a headless service, one for each Pod
 *   BIND_PORT      what an egress listener of the Sidecar binds: an address or a unix socket, with a port of its own
 *                  where nothing is captured (captureMode NONE)
 *
 * Source: istio/istio pilot/pkg/networking/core/listener.go, listener_builder.go.
 */
import { isIP } from 'node:net';
import type { Json, Resource } from '../resources.ts';
import { connectionManager } from './connection_manager.ts';
import type { CompileContext } from './context.ts';
import { ADS, BLACK_HOLE, extension, originOf, OUTBOUND_PASSTHROUGH, resource } from './envoy_json.ts';
import { listenAddress } from './listen_address.ts';
import { byBytes, inspector, PLAIN_HTTP } from './inspectors.ts';
import type { MeshService, ServicePort } from './model.ts';
import { isHttp } from './protocol.ts';
import type { SidecarEgress } from './sidecar.ts';
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

/** Where a Sidecar wants its egress listener. */
interface Binding {
  /** An address, or `unix:///path`. */
  readonly ip: string;
  /** It opens the port itself, and nothing tells where its connections were going. */
  readonly bound: boolean;
}

/** A listener under construction. */
interface Draft extends Binding {
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
  const rest = bindingOf(context, context.scope.listeners.find(({ egress }) => egress?.port === undefined)?.egress);
  for (const service of context.services) {
    if (service.resolution === 'alias') continue;
    for (const port of service.ports) {
      if (port.protocol !== 'UDP' && !claimed.has(port.number)) addPort(context, drafts, service, port, rest);
    }
  }
  addEgressPorts(context, drafts);
  return [...[...drafts.values()].map((draft) => listener(context, draft, undefined)), virtualOutbound(context)];
}

/** The ports that a Sidecar binds by themselves, for a proxy that intercepts nothing. */
export function boundListeners(context: CompileContext, accessLog: ChainPlace['accessLog']): Resource[] {
  const drafts = new Map<string, Draft>();
  addEgressPorts(context, drafts);
  return [...drafts.values()].filter(({ bound }) => bound).map((draft) => listener(context, draft, accessLog));
}

/** Egress listeners that name a port. */
function addEgressPorts(context: CompileContext, drafts: Map<string, Draft>): void {
  for (const { egress, services } of context.scope.listeners) {
    if (egress?.port === undefined) continue;
    const binding = bindingOf(context, egress);
    for (const service of services) {
      for (const port of service.ports) if (port.protocol !== 'UDP') addPort(context, drafts, service, port, binding);
    }
  }
}

/** undefined: wherever the services are. */
export function bindingOf(context: CompileContext, egress: SidecarEgress | undefined): Binding | undefined {
  if (egress === undefined) return undefined;
  const { bind, captureMode } = egress;
  const bound = captureMode === 'NONE' || isUnix(bind);
  if (bind !== '') return { ip: bind, bound };
  return bound ? { ip: context.wildcard === '::' ? '::1' : '127.0.0.1', bound } : undefined;
}

const isUnix = (bind: string): boolean => bind.startsWith('unix://');

function addPort(
  context: CompileContext,
  drafts: Map<string, Draft>,
  service: MeshService,
  port: ServicePort,
  binding: Binding | undefined,
): void {
  const draftOf = (ip: string): Draft => {
    const key = `${ip} ${port.number}`;
    let draft = drafts.get(key);
    if (draft === undefined) {
      const origin = originOf(service.object);
      const bound = binding?.bound === true;
      draft = { ip, bound, port: port.number, routes: undefined, grpcWeb: false, chains: [], keys: new Set(), origin };
      drafts.set(key, draft);
    }
    return draft;
  };
  // A socket has a route configuration of its own, by its path.
  const shared = binding !== undefined && isUnix(binding.ip) ? binding.ip : String(port.number);
  if (isHttp(port.protocol)) {
    const draft = draftOf(binding?.ip ?? context.wildcard);
    // The oldest service of a port decides what its listener is.
    if (draft.routes === undefined) draft.grpcWeb = port.protocol === 'GRPC-Web';
    draft.routes = shared;
    return;
  }
  const places = binding === undefined ? placesOf(context, service, port) : [boundPlace(binding)];
  for (const { ip, place } of places) {
    const draft = draftOf(ip);
    if (port.protocol === 'Auto') {
      const isOwn = ip !== context.wildcard && service.addresses.length > 0 && !isUnix(ip);
      draft.routes ??= isOwn ? `${service.host}:${port.number}` : shared;
    }
    for (const chain of tcpChains(context, service, port, place)) addChain(context, draft, chain, service);
  }
}

interface Place {
  readonly ip: string;
  readonly place: ChainPlace;
}

/** TLS is told apart by server name there; of other protocols the oldest service has the port. */
function boundPlace({ ip, bound }: Binding): Place {
  return { ip, place: { knowsDestination: !bound, accessLog: undefined, ranges: [], shared: true } };
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
    if (key === '[[],[]]' && (draft.ip === context.wildcard || draft.bound)) {
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

function listener(
  context: CompileContext,
  { ip, bound, port, routes, grpcWeb, chains, origin }: Draft,
  accessLog: ChainPlace['accessLog'],
): Resource {
  const name = `${ip}_${port}`;
  const own = chains.map(chainJson);
  const rest = own.find((chain) => !('filter_chain_match' in chain));
  const chainList: Json[] = [];
  let fallback: Json | undefined;
  if (routes === undefined) chainList.push(...own);
  else {
    chainList.push(httpChain(context, name, routes, grpcWeb, accessLog), ...own.filter((chain) => chain !== rest));
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
    ...(isUnix(ip) ? { address: { pipe: { path: ip.slice('unix://'.length) } } } : listenAddress(context, ip, port)),
    filter_chains: chainList,
    ...(fallback !== undefined && { default_filter_chain: fallback }),
    ...(inspectors.length > 0 && { listener_filters: inspectors }),
    ...byBytes(context.mesh),
    traffic_direction: 'OUTBOUND',
    bind_to_port: bound,
  };
  return resource('listener', name, json, origin);
}

function httpChain(
  context: CompileContext,
  name: string,
  routes: string,
  grpcWeb: boolean,
  accessLog: ChainPlace['accessLog'],
): Json {
  const manager = connectionManager(context, {
    direction: 'outbound',
    statPrefix: `outbound_${name};`,
    routes: { rds: { config_source: ADS, route_config_name: routes } },
    accessLog,
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
    ...listenAddress(context, context.wildcard, context.mesh.outboundPort),
    filter_chains: [
      // Whoever dials the port itself would be sent in circles.
      {
        filter_chain_match: { destination_port: context.mesh.outboundPort },
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
    ...(context.client.transparent && { transparent: true }),
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
