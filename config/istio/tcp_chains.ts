/**
 * Filter chains for a service port that is not HTTP: its own, or those of the VirtualServices of its host.
 * Source: istio/istio pilot/pkg/networking/core/tls.go, networkfilter.go.
 */
import { isIP } from 'node:net';
import type { Json } from '../resources.ts';
import { outboundClusterName } from './cluster_names.ts';
import type { CompileContext } from './context.ts';
import { effectivePolicy, type TrafficPolicy } from './destination_rule.ts';
import { extension, seconds } from './envoy_json.ts';
import type { L4Destination, L4Rule } from './l4_route.ts';
import { type MeshService, type ServicePort, selects } from './model.ts';
import { configPath, DNS_CACHE } from './outbound_cluster.ts';
import type { Side } from './telemetry.ts';
import type { VirtualService } from './virtual_service.ts';

export const TCP_PROXY = 'envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy';

/** How long a handshake may take before its connection is given up. */
export const TRANSPORT_TIMEOUT: Json = { transport_socket_connect_timeout: '15s' };

/** One filter chain, as far as its listener does not decide. */
export interface ChainSpec {
  readonly serverNames: readonly string[];
  /** Destination ranges, `10.0.0.0/8`. */
  readonly ranges: readonly string[];
  readonly filters: readonly Json[];
  readonly virtualService: VirtualService | undefined;
}

/** Where the chains will stand. */
export interface ChainPlace {
  /** The service's own ranges, where no address tells it from others. */
  readonly ranges: readonly string[];
  /** The address is no one's in particular: TLS is told apart by server name. */
  readonly shared: boolean;
  /** Whether connections still know where they were going. */
  readonly knowsDestination: boolean;
  readonly accessLog: 'TEXT' | 'JSON' | undefined;
}

export function tcpChains(
  context: CompileContext,
  service: MeshService,
  port: ServicePort,
  place: ChainPlace,
): ChainSpec[] {
  const rules = context.virtualServices.filter((rule) => rule.hosts.some((host) => covers(host, service.host)));
  const own: ChainSpec = {
    serverNames: [],
    ranges: place.ranges,
    filters: networkFilters(context, [{ cluster: nameOf(service.host, '', port.number), weight: 0 }], {
      port,
      place,
      statPrefix: nameOf(service.host, '', port.number),
      policy: policyOf(context, service.host, '', port.number),
      resolvesName: resolvesName(service),
    }),
    virtualService: undefined,
  };
  if (port.protocol === 'HTTPS' || port.protocol === 'TLS') {
    const chains = tlsChains(context, rules, port, place);
    if (chains.length > 0) return chains;
    return [{ ...own, serverNames: place.shared && place.ranges.length === 0 ? [service.host] : [] }];
  }
  return tcpRuleChains(context, rules, port, place, own);
}

function tlsChains(
  context: CompileContext,
  rules: readonly VirtualService[],
  port: ServicePort,
  place: ChainPlace,
): ChainSpec[] {
  const out: ChainSpec[] = [];
  const seen = new Set<string>();
  for (const virtualService of rules) {
    for (const rule of virtualService.tls) {
      for (const match of rule.match ?? []) {
        if (!applies(context, match, port.number)) continue;
        const subnets = place.knowsDestination ? (match.destinationSubnets ?? []) : [];
        const serverNames = match.sniHosts ?? [];
        const key = JSON.stringify([[...serverNames].sort(), [...subnets].sort()]);
        if (seen.has(key)) continue;
        seen.add(key);
        out.push({
          serverNames,
          ranges: subnets.length > 0 ? subnets : place.ranges,
          filters: ruleFilters(context, virtualService, rule, port, place),
          virtualService,
        });
      }
    }
  }
  return out;
}

/** Rules in order; the first without a subnet of its own takes the rest of the service's traffic. */
function tcpRuleChains(
  context: CompileContext,
  rules: readonly VirtualService[],
  port: ServicePort,
  place: ChainPlace,
  own: ChainSpec,
): ChainSpec[] {
  const out: ChainSpec[] = [];
  for (const virtualService of rules) {
    for (const rule of virtualService.tcp) {
      const matches = (rule.match ?? []).filter((match) => applies(context, match, port.number));
      if ((rule.match ?? []).length > 0 && matches.length === 0) continue;
      const filters = ruleFilters(context, virtualService, rule, port, place);
      const rest =
        matches.length === 0 || matches.some(({ destinationSubnets = [] }) => destinationSubnets.length === 0);
      if (rest) return [...out, { serverNames: [], ranges: place.ranges, filters, virtualService }];
      if (!place.knowsDestination) continue;
      const subnets = matches.flatMap(({ destinationSubnets = [] }) => destinationSubnets);
      out.push({ serverNames: [], ranges: subnets, filters, virtualService });
      if (subnets.length === 1 && place.ranges.length === 1 && subnets[0] === place.ranges[0]) return out;
    }
  }
  return [...out, own];
}

/** What is known before a connection comes: the port, and whose sidecar this is. */
function applies({ client }: CompileContext, match: NonNullable<L4Rule['match']>[number], port: number): boolean {
  if (match.port !== undefined && match.port !== port) return false;
  if (match.gateways !== undefined && match.gateways.length > 0 && !match.gateways.includes('mesh')) return false;
  if (match.sourceLabels !== undefined && !selects(match.sourceLabels, client.labels)) return false;
  const namespace = match.sourceNamespace ?? '';
  return namespace === '' || namespace === client.namespace;
}

function covers(rule: string, host: string): boolean {
  return rule === host || (rule.startsWith('*') && host.length > rule.length - 1 && host.endsWith(rule.slice(1)));
}

interface Weighted {
  readonly cluster: string;
  readonly weight: number;
}

function ruleFilters(
  context: CompileContext,
  virtualService: VirtualService,
  rule: L4Rule,
  port: ServicePort,
  place: ChainPlace,
): Json[] {
  const all = rule.route ?? [];
  const weighed = all.length === 1 ? all : all.filter((item) => (item.weight ?? 0) > 0);
  const destinations = weighed.map((item) => ({
    cluster: clusterOf(context, item, port.number),
    weight: item.weight ?? 0,
  }));
  const [first] = destinations as [Weighted];
  return networkFilters(context, destinations, {
    port,
    place,
    statPrefix: destinations.length === 1 ? first.cluster : `${virtualService.name}.${virtualService.namespace}`,
    policy: policyOfDestination(context, weighed[0] as L4Destination, port.number),
    resolvesName: resolvesName(context.byHost.get(weighed[0]?.destination?.host ?? '')),
  });
}

/** A host that no service has leads nowhere: as with istiod its connections are closed. */
function clusterOf(context: CompileContext, { destination }: L4Destination, listenPort: number): string {
  const host = destination?.host ?? '';
  const service = context.byHost.get(host);
  if (service === undefined) return 'BlackHoleCluster';
  return nameOf(host, destination?.subset ?? '', portOf(service, destination?.port?.number, listenPort));
}

/** The port that is named, else the only one there is, else the listener's. */
function portOf(service: MeshService, named: number | undefined, listenPort: number): number {
  if (named !== undefined) return named;
  return service.ports.length === 1 ? (service.ports[0] as ServicePort).number : listenPort;
}

const nameOf = (host: string, subset: string, port: number): string => outboundClusterName(port, subset, host);

type Policy = Omit<TrafficPolicy, 'at'>;

function policyOfDestination(context: CompileContext, { destination }: L4Destination, listenPort: number): Policy {
  const host = destination?.host ?? '';
  const service = context.byHost.get(host);
  const port = service === undefined ? listenPort : portOf(service, destination?.port?.number, listenPort);
  return policyOf(context, host, destination?.subset ?? '', port);
}

function policyOf(context: CompileContext, host: string, subset: string, port: number): Policy {
  const rule = context.rule(host);
  return effectivePolicy(
    rule,
    rule?.subsets.find(({ name }) => name === subset),
    port,
  );
}

interface FilterFacts {
  readonly port: ServicePort;
  readonly place: ChainPlace;
  readonly statPrefix: string;
  readonly policy: Policy;
  /** The server name is resolved: a wildcard has no addresses of its own. */
  readonly resolvesName: boolean;
}

function networkFilters(context: CompileContext, destinations: readonly Weighted[], facts: FilterFacts): Json[] {
  const { port, place, statPrefix, policy } = facts;
  const [first] = destinations as [Weighted];
  const tcp = policy.connectionPool?.tcp;
  const sourceIp = policy.loadBalancer?.consistentHash?.useSourceIp === true;
  const target: Json =
    destinations.length === 1
      ? { cluster: first.cluster }
      : { weighted_clusters: { clusters: destinations.map(({ cluster, weight }) => ({ name: cluster, weight })) } };
  const config: Json = {
    stat_prefix: statPrefix,
    ...target,
    ...(tcp?.idleTimeout !== undefined && { idle_timeout: seconds(tcp.idleTimeout) }),
    ...(tcp?.maxConnectionDuration !== undefined && {
      max_downstream_connection_duration: seconds(tcp.maxConnectionDuration),
    }),
    ...(sourceIp && { hash_policy: [{ source_ip: {} }] }),
    ...tunneling(policy, destinations, port),
  };
  const mongo = extension(
    'envoy.filters.network.mongo_proxy',
    'envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy',
    {
      stat_prefix: statPrefix,
    },
  );
  return [
    ...statsFilter(context),
    ...(facts.resolvesName ? [sniForwardProxy(port.number)] : []),
    ...(port.protocol === 'Mongo' ? [mongo] : []),
    tcpProxyFilter(context, config, place.accessLog),
  ];
}

const resolvesName = (service: MeshService | undefined): boolean => service?.resolution === 'dynamic_dns';

function sniForwardProxy(port: number): Json {
  const type = 'envoy.extensions.filters.network.sni_dynamic_forward_proxy.v3.FilterConfig';
  return extension('envoy.filters.network.sni_dynamic_forward_proxy', type, {
    dns_cache_config: DNS_CACHE,
    port_value: port,
  });
}

/** DestinationRule's tunnel: the connection travels inside a CONNECT (or POST) to the destination. */
function tunneling(policy: Policy, destinations: readonly Weighted[], port: ServicePort): Json {
  const { tunnel } = policy;
  if (tunnel?.targetHost === undefined || destinations.length !== 1) return {};
  return {
    tunneling_config: {
      hostname: `${isIP(tunnel.targetHost) === 6 ? `[${tunnel.targetHost}]` : tunnel.targetHost}:${tunnel.targetPort ?? port.number}`,
      ...(tunnel.protocol === 'POST' && { use_post: true }),
    },
  };
}

/** Istio's TCP metrics, where the mesh has metrics. */
export function statsFilter({ telemetry }: CompileContext, side: Side = 'outbound'): Json[] {
  const stats = telemetry.stats(side);
  return stats === undefined ? [] : [stats];
}

export function tcpProxyFilter(
  context: CompileContext,
  config: Json,
  accessLog: 'TEXT' | 'JSON' | undefined,
  side: Side = 'outbound',
): Json {
  const logs = context.telemetry.accessLogs(side, 'tcp', accessLog);
  return extension('envoy.filters.network.tcp_proxy', TCP_PROXY, {
    ...config,
    ...(logs.length > 0 && { access_log: logs }),
  });
}

/** Which VirtualService a chain comes from, for whoever reads a dump. */
function chainMetadata(virtualService: VirtualService | undefined): Json {
  if (virtualService === undefined) return {};
  const config = configPath('virtual-service', virtualService.namespace, virtualService.name);
  return { metadata: { filter_metadata: { istio: { config } } } };
}

export function chainJson({ serverNames, ranges, filters, virtualService }: ChainSpec): Json {
  const match: Json = {
    ...(ranges.length > 0 && { prefix_ranges: ranges.map(cidrRange) }),
    ...(serverNames.length > 0 && { server_names: serverNames }),
  };
  return {
    ...(Object.keys(match).length > 0 && { filter_chain_match: match }),
    filters,
    ...chainMetadata(virtualService),
    ...TRANSPORT_TIMEOUT,
  };
}

/** `10.0.0.0/8`, or an address for itself. */
function cidrRange(text: string): Json {
  const [ip = '', bits] = text.split('/');
  return { address_prefix: ip, prefix_len: bits === undefined ? (isIP(ip) === 6 ? 128 : 32) : Number(bits) };
}
