/** envoy.config.endpoint.v3.ClusterLoadAssignment → LoadAssignment. */
import { isIP } from 'node:net';
import { Fields } from '../../proxy/resource_fields.ts';
import type { ConfiguredHealth, Locality } from '../../proxy/upstream/host.ts';
import type { Endpoint, LoadAssignment } from '../../proxy/upstream/load_assignment.ts';
import { parseMetadata } from './route_configuration.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

const HEALTH: Readonly<Record<string, ConfiguredHealth>> = {
  UNKNOWN: 'unknown',
  HEALTHY: 'healthy',
  DEGRADED: 'degraded',
  UNHEALTHY: 'unhealthy',
  TIMEOUT: 'timeout',
  DRAINING: 'draining',
};
const DEFAULT_OVERPROVISIONING = 140;
const MAX_PRIORITY = 128;

/** @throws {ConfigError} with the field's path. */
export function buildLoadAssignment(json: unknown, path = ''): LoadAssignment {
  const fields = new Fields(json, path);
  refuseUnexecuted(fields, 'ClusterLoadAssignment');
  refuseUnexecuted(fields.message('policy'), 'LoadAssignmentPolicy');
  const endpoints: Endpoint[] = [];
  for (const group of fields.messages('endpoints')) {
    refuseUnexecuted(group, 'LocalityLbEndpoints');
    const where = group.message('locality');
    const locality: Locality = {
      region: where?.string('region') ?? '',
      zone: where?.string('zone') ?? '',
      subZone: where?.string('sub_zone') ?? '',
    };
    const priority = group.integer('priority', 0, MAX_PRIORITY) ?? 0;
    const localityWeight = group.integer('load_balancing_weight', 1);
    for (const item of group.messages('lb_endpoints')) {
      endpoints.push(buildEndpoint(item, locality, localityWeight, priority));
    }
  }
  return {
    clusterName: fields.string('cluster_name') ?? '',
    endpoints,
    overprovisioningFactor: fields.message('policy')?.integer('overprovisioning_factor', 1) ?? DEFAULT_OVERPROVISIONING,
  };
}

function buildEndpoint(
  item: Fields,
  locality: Locality,
  localityWeight: number | undefined,
  priority: number,
): Endpoint {
  const endpoint = item.requiredMessage('endpoint');
  const address = endpoint.requiredMessage('address');
  const pipe = address.message('pipe');
  const socket = address.message('socket_address');
  refuseUnexecuted(socket, 'SocketAddress');
  refuseUnexecuted(endpoint.message('health_check_config'), 'EndpointHealthCheck');
  if (pipe === undefined && socket === undefined) address.fail('socket_address', 'socket_address or pipe is required');
  const more = endpoint.messages('additional_addresses');
  const isPipe = pipe !== undefined;
  const additionalAddresses =
    more.length > 0 ? more.map((one) => buildAdditional(one.requiredMessage('address'), isPipe)) : undefined;
  const health = healthStatus(item, 'health_status', item.string('health_status') ?? 'UNKNOWN');
  return {
    ip: pipe?.requiredString('path') ?? socket?.requiredString('address') ?? '',
    port: socket?.integer('port_value', 0, 65535) ?? 0,
    ...(additionalAddresses !== undefined && { additionalAddresses }),
    hostname: endpoint.string('hostname') ?? '',
    weight: item.integer('load_balancing_weight', 1) ?? 1,
    priority,
    locality,
    localityWeight,
    health,
    metadata: parseMetadata(item.message('metadata')),
  };
}

/** envoy.config.endpoint.v3.Endpoint.AdditionalAddress: IP addresses only, beside one. */
function buildAdditional(address: Fields, besidePipe: boolean): { readonly ip: string; readonly port: number } {
  const socket = address.requiredMessage('socket_address');
  if (besidePipe) address.fail('socket_address', 'stands beside a unix socket, which has no further addresses');
  const ip = socket.requiredString('address');
  if (isIP(ip) === 0) socket.fail('address', `an IP address is wanted, got "${ip}"`);
  return { ip, port: socket.integer('port_value', 0, 65535) ?? 0 };
}

/** @param field where it stands. */
export function healthStatus(fields: Fields, field: string, status: string): ConfiguredHealth {
  const health = Object.hasOwn(HEALTH, status) ? HEALTH[status] : undefined;
  return health ?? fields.fail(field, `"${status}" is not a health status`);
}
