/** An endpoint of a cluster, as balancers and pools see it. */
import type { Metadata } from '../http/stream_info.ts';
import type { SocketAddress } from '../net/connection_info.ts';

export type HealthStatus = 'healthy' | 'degraded' | 'unhealthy';

/** What configuration says of an endpoint. Envoy: envoy.config.core.v3.HealthStatus. */
export type ConfiguredHealth = HealthStatus | 'unknown' | 'draining' | 'timeout';

/** What a host may be that a session asks for, by default: a session outlives a bad moment. */
export const DEFAULT_SESSION_HEALTH: ReadonlySet<ConfiguredHealth> = new Set(['unknown', 'healthy', 'degraded']);

/** What that means for new requests. Draining hosts serve existing sessions only. */
export function healthOf(configured: ConfiguredHealth): HealthStatus {
  if (configured === 'unknown') return 'healthy';
  return configured === 'draining' || configured === 'timeout' ? 'unhealthy' : configured;
}

export interface Locality {
  readonly region: string;
  readonly zone: string;
  readonly subZone: string;
}

/** Envoy's host statistics. */
export interface HostCounts {
  cxTotal: number;
  cxActive: number;
  cxConnectFail: number;
  rqTotal: number;
  rqSuccess: number;
  rqError: number;
  rqTimeout: number;
}

export function noHostCounts(): HostCounts {
  return { cxTotal: 0, cxActive: 0, cxConnectFail: 0, rqTotal: 0, rqSuccess: 0, rqError: 0, rqTimeout: 0 };
}

/**
 * One endpoint. The object lives as long as its address stays in the cluster: an update that keeps the address keeps
 * the object, with its pools and counts. Weight and metadata may be replaced by an update.
 */
export interface Host {
  readonly address: SocketAddress;
  /** Where it is reached too, mostly in the other family; whichever connects first is used. */
  additionalAddresses: readonly SocketAddress[];
  /** Of ring-hash tables: the endpoint's hostname if it has one (strict_dns, or endpoint.hostname). */
  readonly hostname: string;
  /** ≥ 1. */
  weight: number;
  priority: number;
  locality: Locality;
  /** Of its locality among those of its priority; 0: none is set. */
  localityWeight: number;
  metadata: Metadata | undefined;
  /** Requests in flight from this thread; least_request looks at it. */
  activeRequests: number;
  /** Of this thread, since the host came: /clusters adds them up. */
  readonly counts: HostCounts;
  /** What configuration (EDS) says. */
  configuredHealth: ConfiguredHealth;
  /** Configuration, active checks and ejection together. */
  health: HealthStatus;
  /** What outlier detection and active checks say. */
  ejected: boolean;
  failedActiveCheck: boolean;
  /** When it became healthy, in milliseconds of the thread's clock; 0: so long ago that it does not matter. */
  healthySinceMs: number;
}
