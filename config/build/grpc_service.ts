/** envoy.config.core.v3.GrpcService by cluster, of what reports to a service: whom to call, and with which fields. */
import { parseHeaderValue } from '../../proxy/http/header_value.ts';
import type { Fields } from '../../proxy/resource_fields.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

export interface GrpcTarget {
  readonly cluster: string;
  /** Default: the cluster's name. */
  readonly authority: string;
  /** Names in lower case. */
  readonly headers: readonly (readonly [name: string, value: string])[];
}

/** What is said where there is none. */
export const ENVOY_GRPC_REQUIRED = 'envoy_grpc with a cluster_name is required';

/** @throws {ConfigError} */
export function buildGrpcTarget(service: Fields): GrpcTarget {
  const envoy = service.message('envoy_grpc') ?? service.fail('envoy_grpc', ENVOY_GRPC_REQUIRED);
  refuseUnexecuted(service, 'GrpcService');
  refuseUnexecuted(envoy, 'EnvoyGrpc');
  const cluster = envoy.requiredString('cluster_name');
  return {
    cluster,
    authority: envoy.string('authority') || cluster,
    headers: service.messages('initial_metadata').map(parseHeaderValue),
  };
}
