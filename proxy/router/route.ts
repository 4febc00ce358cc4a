/** What route matching gives: the contract between the route table, the filters and the router. */
import type { ProxyHeaderConfig } from '../net/proxy_header.ts';
import type { FormatInput } from '../http/formatter.ts';
import type { RequestHeaders, ResponseHeaders } from '../http/headers.ts';
import type { Metadata, StreamInfo } from '../http/stream_info.ts';
import type { MirrorPolicy } from './mirror.ts';
import type { RateLimitPolicy } from './rate_limit_actions.ts';
import type { RetryPolicy } from './retry_policy.ts';

/** Looks a request up. Built once, never changed; a stream pins the table it began with. */
export interface RouteTable {
  readonly name: string;
  /** Where the table came from, for explanations. */
  readonly origin: string;
  /** Whether a route switches a filter on or off (FilterConfig): most tables do not, and are not asked. */
  readonly switchesFilters: boolean;
  /** More of its virtual hosts come when they are asked for. Default false. */
  readonly hostsOnDemand?: boolean;
  /** The first matching route of the matching virtual host; undefined: 404 NR. Does not change the request. */
  match(request: RequestHeaders, context: RouteContext): Route | undefined;
}

export interface RouteContext {
  readonly info: StreamInfo;
  /** [0, 1): drawn once per stream, so that a repeated match chooses the same weighted cluster. */
  readonly randomValue: number;
}

/**
 * One route, specialised for one of its weighted clusters. Envoy: envoy.config.route.v3.Route, VirtualHost and
 * WeightedCluster.ClusterWeight together. All fields are final; nothing is looked up by string at run time.
 */
export interface Route {
  /** Route.name; '' if none. */
  readonly name: string;
  readonly virtualHostName: string;
  readonly virtualHostMetadata: Metadata | undefined;
  readonly metadata: Metadata | undefined;
  /** Route.decorator.operation. */
  readonly decoratorOperation: string | undefined;
  /** What its requests are counted by: the route's, else the virtual host's. */
  readonly rateLimits: readonly RateLimitPolicy[];
  /** Exactly one of the three is there. */
  readonly forward: ForwardAction | undefined;
  readonly redirect: RedirectAction | undefined;
  readonly directResponse: DirectResponseAction | undefined;
  /**
   * typed_per_filter_config by the filter's configured name, most specific first: weighted cluster, route, virtual
   * host, route configuration; undefined if none is configured. `disabled` where FilterConfig.disabled says so.
   */
  filterConfig(filterName: string): PerFilterConfig | undefined;
  /** Every level's configuration for that filter, least specific first (cors, header_mutation want all). */
  filterConfigs(filterName: string): readonly unknown[];
  /** Rewrites path and host, then removes and adds request headers of all levels. Sets x-envoy-original-path. */
  finalizeRequestHeaders(headers: RequestHeaders, input: FormatInput): void;
  finalizeResponseHeaders(headers: ResponseHeaders, input: FormatInput): void;
}

export interface PerFilterConfig {
  readonly disabled: boolean;
  readonly config: unknown;
}

export interface ForwardAction {
  /** undefined: the header of cluster_header is absent; the reply is `clusterNotFoundStatus`. */
  clusterName(headers: RequestHeaders): string | undefined;
  /** Default 503. */
  readonly clusterNotFoundStatus: number;
  /** 0: none. Envoy's own default is 15,000. */
  readonly timeoutMs: number;
  /** undefined: the connection manager's stream_idle_timeout; 0: none. */
  readonly idleTimeoutMs: number | undefined;
  readonly maxStreamDurationMs: number | undefined;
  /** undefined: not set; 0: no limit on the client's wish. RouteAction.MaxStreamDuration.grpc_timeout_header_max. */
  readonly grpcTimeoutHeaderMaxMs: number | undefined;
  /** RouteAction.max_grpc_timeout: the timeout of a gRPC request is its own grpc-timeout, up to this. 0: any. undefined: not set. */
  readonly grpcTimeoutMaxMs: number | undefined;
  readonly priority: 'default' | 'high';
  /** Of the route, else of the virtual host. */
  readonly retryPolicy: RetryPolicy | undefined;
  /** Of the route, else of the virtual host: what takes longer than a try may goes on beside the next one. */
  readonly hedgeOnPerTryTimeout: boolean;
  /** How much of a body is kept for another attempt or a mirror; undefined: as much as the connection buffers. */
  readonly bufferLimitBytes: number | undefined;
  /** Computes the request's hash into `out`; false: no policy applied, the choice is random. */
  readonly hashPolicy: HashPolicy | undefined;
  readonly metadataMatch: Metadata | undefined;
  /** auto_host_rewrite: the authority becomes the chosen host's name. */
  readonly autoHostRewrite: boolean;
  /** Upgrade types by lower-case name (`websocket`, `connect`) and whether they are allowed; undefined: as the connection manager says. */
  upgradeAllowed(type: string): boolean | undefined;
  /** connect_config: CONNECT is answered here, the host gets the tunnel's bytes; else it is forwarded as it is. */
  readonly terminatesConnect: boolean;
  /** The PROXY header that the tunnel's connection to the host begins with; undefined: none. */
  readonly connectHeader: ProxyHeaderConfig | undefined;
  readonly includeAttemptCountInRequest: boolean;
  readonly includeAttemptCountInResponse: boolean;
  /** x-envoy-is-timeout-retry on attempts after one that timed out. */
  readonly includeTimeoutRetryHeader: boolean;
  readonly mirrors: readonly MirrorPolicy[];
}

export interface HashPolicy {
  /** May set a cookie on the response (`setCookie`). @returns whether a hash was made. */
  hash(headers: RequestHeaders, info: StreamInfo, out: HashOutput): boolean;
}

export interface HashOutput {
  high: number;
  low: number;
  /** set-cookie values to add to the response. */
  setCookies: string[] | undefined;
}

export interface RedirectAction {
  /** 301, 302, 303, 307, 308. */
  readonly status: number;
  location(headers: RequestHeaders): string;
}

export interface DirectResponseAction {
  readonly status: number;
  readonly body: string;
}
