/** Listeners without interception: one HTTP proxy outbound, one listener for each inbound entry. */
import { ConfigError } from '../../proxy/config_error.ts';
import type { Json, Resource } from '../resources.ts';
import { connectionManager } from './connection_manager.ts';
import type { CompileContext } from './context.ts';
import { ADS, originOf, resource, socketAddress } from './envoy_json.ts';
import { inboundClusterName, staticInboundCluster } from './inbound_cluster.ts';
import { inboundRoutes } from './inbound_routes.ts';
import { ownerOf } from './own_services.ts';
import { BY_BYTES_ALONE, inspector, PLAIN_HTTP } from './inspectors.ts';
import { mappedListeners } from './mapped_listeners.ts';
import { isHttp } from './protocol.ts';
import { HTTP_PROXY_ROUTES } from './route_configurations.ts';
import type { CompileMode } from './target.ts';
import { statsFilter, tcpProxyFilter } from './tcp_chains.ts';
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
  const tcp: Json = {
    filters: [
      ...policy.networkFilters(destination),
      ...statsFilter(context, 'inbound'),
      tcpProxyFilter(context, { stat_prefix: cluster, cluster }, accessLog, 'inbound'),
    ],
  };
  const protocol = owner?.port.protocol ?? 'Auto';
  const http = (): Json => ({
    filters: [
      connectionManager(context, {
        direction: 'inbound',
        statPrefix: `inbound_0.0.0.0_${workloadPort};`,
        routes: { route_config: inboundRoutes(cluster, owner?.port.number ?? 0, owner?.service.host ?? '', true) },
        accessLog,
        policyFilters: policy.httpFilters(destination),
      }),
    ],
  });
  const chains: Json =
    protocol === 'Auto'
      ? {
          listener_filters: [inspector('http')],
          ...BY_BYTES_ALONE,
          filter_chains: [{ filter_chain_match: PLAIN_HTTP, ...http() }],
          default_filter_chain: tcp,
        }
      : { filter_chains: [isHttp(protocol) ? http() : tcp] };
  const json: Json = {
    name,
    address: socketAddress(ip, port),
    ...chains,
    traffic_direction: 'INBOUND',
  };
  return [
    staticInboundCluster(context, workloadPort, app, owner),
    resource('listener', name, json, owner === undefined ? '--inbound' : originOf(owner.service.object)),
  ];
}
