/** A cluster on one data thread, as the router sees it. */
import type { LoadBalancerContext } from '../load_balancers/load_balancer.ts';
import type { Metadata } from '../http/stream_info.ts';
import type { RequestHeaders } from '../http/headers.ts';
import type { ProxiedConnection } from '../net/proxy_header.ts';
import type { Breaker, Priority } from './circuit_breakers.ts';
import type { ClusterStatistics } from './cluster_statistics.ts';
import type { Failure } from '../failures.ts';
import type { Host } from './host.ts';
import type { OutlierReporter } from './outlier_reporter.ts';
import type { Pool, PoolOptions } from './pool.ts';

export interface Cluster {
  readonly name: string;
  readonly altStatName: string;
  readonly metadata: Metadata | undefined;
  readonly statistics: ClusterStatistics;
  /** How long a stream to a host may last; 0: for ever. */
  readonly maxStreamDurationMs: number;
  /** undefined: no healthy host. */
  chooseHost(context: ClusterRequest): Host | undefined;
  /** Of an aggregate cluster: the member whose pools, TLS, limits and ejection are those of a host it has chosen. */
  ownerOf?(host: Host): Cluster;
  /**
   * Clusters whose hosts are made on demand (dynamic forward proxy), or found in a table that is still being built:
   * undefined where the host can be chosen at once.
   */
  resolve?(request: ClusterRequest): Promise<Failure | undefined> | undefined;
  /**
   * The connections of this thread to a host.
   * `downstreamProtocol`: of the request, for clusters that use the same (`HTTP/1.1`, `HTTP/2`).
   * `proxied`: for whom, where a PROXY header says so; undefined: the proxy asks for itself.
   */
  pool(
    host: Host,
    priority: Priority,
    downstreamProtocol: string,
    wish?: TransportWish,
    proxied?: ProxiedConnection,
  ): Pool;
  /** For connections outside any pool (TCP): how they are made. */
  connectionOptions(host: Host, priority: Priority, wish?: TransportWish, proxied?: ProxiedConnection): PoolOptions;
  breaker(priority: Priority): Breaker;
  /** undefined: no outlier detection. */
  readonly outlier: OutlierReporter | undefined;
}

/** ALPN lists by what is spoken upstream. One object a filter: it stands for its lists in keys. */
export interface AlpnOverride {
  readonly http1: readonly string[] | undefined;
  readonly http2: readonly string[] | undefined;
}

/** What a request says of the connection that is to carry it; without meaning where the connection is not TLS. */
export interface TransportWish {
  /** Instead of the cluster's ALPN list, unless its metadata says istio.alpn_override "false". */
  readonly upstreamAlpn: AlpnOverride | undefined;
  /** The request's host; for clusters with auto_sni. */
  readonly authority: string;
}

/** What a balancer may ask, and what host-making clusters need of the request. */
export interface ClusterRequest extends LoadBalancerContext {
  readonly requestHeaders: RequestHeaders;
  readonly originalDestination: { readonly ip: string; readonly port: number };
}
