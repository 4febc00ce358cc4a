/** Listeners without interception: one HTTP proxy outbound, one listener for each inbound entry. */
import { ConfigError } from '../../proxy/config_error.ts';
import type { Json, Resource } from '../resources.ts';
import { connectionManager } from './connection_manager.ts';
import type { CompileContext } from './context.ts';
import { ADS, originOf, resource, socketAddress } from './envoy_json.ts';
import { inboundClusterName, staticInboundCluster } from './inbound_cluster.ts';
import { ownerOf } from './own_services.ts';
import { isHttpOrSniffed } from './protocol.ts';
import { HTTP_PROXY_ROUTES } from './route_configurations.ts';
import type { CompileMode } from './target.ts';
import type { WorkloadPolicy } from './workload_policy.ts';

type Explicit = Extract<CompileMode, { kind: 'explicit' }>;

/** @throws {ConfigError} when two entries stand for one workload port. */
export function explicitListeners(context: CompileContext, mode: Explicit, policy: WorkloadPolicy): Resource[] {
  const out: Resource[] = [];
  if (mode.outbound !== undefined) out.push(outboundListener(context, mode.outbound, mode.accessLog));
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
  if (owner !== undefined && !isHttpOrSniffed(owner.port.protocol)) {
    context.warnings.push(
      `${originOf(owner.service.object)}: port ${owner.port.number} of ${owner.service.host} is ${owner.port.protocol}; ` +
        `inbound port ${workloadPort} takes HTTP only in this version.`,
    );
  }
  const name = `inbound_${workloadPort}`;
  const manager = connectionManager(context, {
    direction: 'inbound',
    statPrefix: `inbound_0.0.0.0_${workloadPort};`,
    routes: { route_config: inboundRoutes(workloadPort, owner?.port.number ?? 0, owner?.service.host ?? '') },
    accessLog,
    policyFilters: policy.httpFilters({ port: workloadPort, ip: context.client.ips[0] }),
  });
  const json: Json = {
    name,
    address: socketAddress(ip, port),
    filter_chains: [{ filters: [manager] }],
    traffic_direction: 'INBOUND',
  };
  return [
    staticInboundCluster(context, workloadPort, app, owner),
    resource('listener', name, json, owner === undefined ? '--inbound' : originOf(owner.service.object)),
  ];
}

function inboundRoutes(workloadPort: number, servicePort: number, host: string): Json {
  const cluster = inboundClusterName(workloadPort);
  return {
    name: cluster,
    virtual_hosts: [
      {
        name: `inbound|http|${servicePort}`,
        domains: ['*'],
        routes: [
          {
            name: 'default',
            match: { prefix: '/' },
            route: {
              cluster,
              timeout: '0s',
              // A connection that the application closed before it took the request is safe to try again.
              retry_policy: { retry_on: 'reset-before-request', num_retries: 2 },
              max_stream_duration: { max_stream_duration: '0s', grpc_timeout_header_max: '0s' },
            },
            decorator: { operation: `${host}:${servicePort}/*` },
          },
        ],
      },
    ],
    validate_clusters: false,
  };
}
