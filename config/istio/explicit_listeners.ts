/** Listeners without interception: one HTTP proxy outbound, one listener for each inbound entry. */
import { ConfigError } from '../../proxy/config_error.ts';
import type { KubeObject } from '../kube_object.ts';
import type { Json, Resource } from '../resources.ts';
import { connectionManager } from './connection_manager.ts';
import type { CompileContext } from './context.ts';
import { ADS, originOf, resource, socketAddress } from './envoy_json.ts';
import { inboundClusterName, staticInboundCluster } from './inbound_cluster.ts';
import { inboundRoutes } from './inbound_routes.ts';
import { ownerOf } from './own_services.ts';
import { mutualTlsSocket } from './downstream_tls.ts';
import { inboundChains, needsHttpInspector, needsTlsInspector } from './inbound_chains.ts';
import { byBytes, inspector } from './inspectors.ts';
import { mappedListeners } from './mapped_listeners.ts';
import { isHttp } from './protocol.ts';
import { HTTP_PROXY_ROUTES } from './route_configurations.ts';
import type { CompileMode } from './target.ts';
import { METADATA_EXCHANGE } from './peer_exchange.ts';
import { statsFilter, TRANSPORT_TIMEOUT, tcpProxyFilter } from './tcp_chains.ts';
import type { WorkloadPolicy } from './workload_policy.ts';

type Explicit = Extract<CompileMode, { kind: 'explicit' }>;

/** @throws {ConfigError} when two entries stand for one workload port. */
export function explicitListeners(context: CompileContext, mode: Explicit, policy: WorkloadPolicy): Resource[] {
  const out: Resource[] = [];
  if (mode.outbound !== undefined) out.push(outboundListener(context, mode.outbound, mode.accessLog));
  out.push(...mappedListeners(context, mode.maps ?? [], mode.accessLog));
  const ports = new Set<number>();
  for (const entry of mode.inbound) {
    if (ports.has(entry.workloadPort)) {
      throw new ConfigError(
        '',
        `--inbound names the workload port ${entry.workloadPort} twice; each port needs one entry`,
      );
    }
    ports.add(entry.workloadPort);
    out.push(...inboundListener(context, entry, mode.accessLog, policy));
  }
  return out;
}

function outboundListener(
  context: CompileContext,
  { ip, port }: NonNullable<Explicit['outbound']>,
  accessLog: Explicit['accessLog'],
): Resource {
  const manager = connectionManager(context, {
    direction: 'outbound',
    statPrefix: `outbound_${ip}_${port};`,
    routes: { rds: { config_source: ADS, route_config_name: HTTP_PROXY_ROUTES } },
    accessLog,
    takesConnect: true,
  });
  const json: Json = {
    name: 'outbound',
    address: socketAddress(ip, port),
    filter_chains: [{ filters: [manager] }],
    traffic_direction: 'OUTBOUND',
  };
  return resource('listener', 'outbound', json, '--outbound');
}

function inboundListener(
  context: CompileContext,
  entry: Explicit['inbound'][number],
  accessLog: Explicit['accessLog'],
  policy: WorkloadPolicy,
): Resource[] {
  const { ip, port, workloadPort, app } = entry;
  const owner = ownerOf(context, workloadPort);
  const name = `inbound_${workloadPort}`;
  const destination = { port: workloadPort, ip: context.client.ips[0] };
  const cluster = inboundClusterName(workloadPort);
  const kind =
    owner === undefined || owner.port.protocol === 'Auto' ? 'auto' : isHttp(owner.port.protocol) ? 'http' : 'tcp';
  // Without a certificate nobody could be asked for one: everything is in the clear, and a policy that forbids it refuses.
  const wanted = policy.modes.of(workloadPort);
  const chains = inboundChains(context.hasIdentity ? wanted : 'DISABLE', kind);
  if (!context.hasIdentity && wanted === 'STRICT') {
    throw new ConfigError(
      '',
      `--inbound ${workloadPort}: ${describeMode(policy, workloadPort)} wants mutual TLS, and the proxy has no certificate; give it one with --identity`,
    );
  }
  const exchange = context.hasIdentity ? [METADATA_EXCHANGE] : [];
  const tcp = (): Json[] => [
    ...exchange,
    ...policy.networkFilters(destination),
    ...statsFilter(context, 'inbound'),
    tcpProxyFilter(context, { stat_prefix: cluster, cluster }, accessLog, 'inbound'),
  ];
  const http = (): Json[] => [
    ...exchange,
    connectionManager(context, {
      direction: 'inbound',
      statPrefix: `inbound_0.0.0.0_${workloadPort};`,
      routes: {
        route_config: inboundRoutes(cluster, owner?.port.number ?? 0, owner?.service.host ?? '', true, context.mesh),
      },
      accessLog,
      policyFilters: policy.httpFilters(destination),
    }),
  ];
  const { mesh } = context;
  const inspectors = [
    ...(needsTlsInspector(chains) ? [inspector('tls')] : []),
    ...(needsHttpInspector(chains) ? [inspector('http')] : []),
  ];
  const json: Json = {
    name,
    address: socketAddress(ip, port),
    ...(inspectors.length > 0 && { listener_filters: inspectors }),
    ...(kind === 'auto' && byBytes(context.mesh)),
    filter_chains: chains.map((chain) => ({
      // Nothing to tell apart: one chain takes all.
      ...(inspectors.length > 0 && { filter_chain_match: chain.match }),
      filters: chain.http ? http() : tcp(),
      ...(chain.mutualTls && {
        transport_socket: mutualTlsSocket(chain.http, mesh),
        ...TRANSPORT_TIMEOUT,
      }),
      name: chain.mutualTls ? `${name}_mtls` : name,
    })),
    traffic_direction: 'INBOUND',
  };
  return [
    staticInboundCluster(context, workloadPort, app, owner),
    resource('listener', name, json, originOfInbound(policy, workloadPort, owner?.service.object)),
  ];
}

/** The policy that decided about mutual TLS, else the service. */
function originOfInbound(policy: WorkloadPolicy, workloadPort: number, service: KubeObject | undefined): string {
  const object = policy.modes.objectOf(workloadPort) ?? service;
  return object === undefined ? '--inbound' : originOf(object);
}

function describeMode(policy: WorkloadPolicy, workloadPort: number): string {
  const object = policy.modes.objectOf(workloadPort);
  return object === undefined ? 'the mesh' : `PeerAuthentication "${object.name}" (${originOf(object)})`;
}
