/** The endpoints of a cluster, read. Envoy: envoy.config.endpoint.v3.ClusterLoadAssignment. */
import type { Metadata } from '../http/stream_info.ts';
import type { ConfiguredHealth, Locality } from './host.ts';

export interface LoadAssignment {
  readonly clusterName: string;
  readonly endpoints: readonly Endpoint[];
  /** Percent; default 140. */
  readonly overprovisioningFactor: number;
}

export interface Endpoint {
  /** IP literal, unix socket path (port 0), or a host name where DNS is to resolve it. */
  readonly ip: string;
  readonly port: number;
  /** More addresses of the same endpoint, IP literals. Endpoint.additional_addresses. */
  readonly additionalAddresses?: readonly { readonly ip: string; readonly port: number }[];
  readonly hostname: string;
  /** ≥ 1, default 1. */
  readonly weight: number;
  readonly priority: number;
  readonly locality: Locality;
  /** LocalityLbEndpoints.load_balancing_weight; undefined: none is set. */
  readonly localityWeight?: number | undefined;
  readonly health: ConfiguredHealth;
  readonly metadata: Metadata | undefined;
}

/** One host of weight 1 of which no more than the address is known. */
export function plainEndpoint(ip: string, port: number, hostname = ''): Endpoint {
  return {
    ip,
    port,
    hostname,
    weight: 1,
    priority: 0,
    locality: { region: '', zone: '', subZone: '' },
    health: 'healthy',
    metadata: undefined,
  };
}
