/** The contract of HTTP filters. decode = request, encode = response. */
import type { Deadlines } from '../net/deadlines.ts';
import type { ConnectionInfo } from '../net/connection_info.ts';
import type { NodeIdentity } from '../proxy_options.ts';
import type { ResponseFlag } from '../failures.ts';
import type { Counter, Gauge, Histogram, Statistics } from '../telemetry/statistics.ts';
import type { ClusterLookup } from '../upstream/cluster_lookup.ts';
import type { Route } from '../router/route.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from './headers.ts';
import type { MutableBody } from './body.ts';
import type { OnDemand } from '../on_demand.ts';
import type { TokenBuckets } from './token_buckets.ts';
import type { StreamInfo } from './stream_info.ts';

export type { MutableBody } from './body.ts';

/** continue: next filter. stop: a local reply was sent. buffer: hold headers (and body so far) until this filter has seen enough; limited, 413 beyond. */
export type FilterStatus = 'continue' | 'stop' | 'buffer';
/** A promise pauses the stream (reads disabled) until it settles; a rejection becomes a 500. Do not wait for the body inside one: answer 'buffer'. */
export type FilterResult = FilterStatus | Promise<FilterStatus>;

/** One shared object per configuration and thread; `S` is what it remembers of one stream. */
export interface Filter<S = undefined> {
  newState?(): S;
  decodeHeaders?(ctx: FilterContext, headers: RequestHeaders, endStream: boolean, state: S): FilterResult;
  /** The body may be replaced or emptied in place: grpc_web transforms, fault's rate limit takes it and injects later. */
  decodeData?(ctx: FilterContext, body: MutableBody, endStream: boolean, state: S): FilterResult;
  decodeTrailers?(ctx: FilterContext, trailers: Headers, state: S): FilterResult;
  encodeHeaders?(ctx: FilterContext, headers: ResponseHeaders, endStream: boolean, state: S): FilterResult;
  encodeData?(ctx: FilterContext, body: MutableBody, endStream: boolean, state: S): FilterResult;
  encodeTrailers?(ctx: FilterContext, trailers: Headers, state: S): FilterResult;
  /** Exactly once per stream for every filter of the chain, after the last byte or a reset. */
  onDestroy?(ctx: FilterContext, state: S): void;
}

export interface FilterFactory<Config, S = undefined, RouteConfig = never> {
  /** All the @types it answers to, the inner type_url of a TypedStruct included. */
  readonly typeUrls: readonly string[];
  /** @throws {ConfigError} with the field path. */
  parse(json: unknown): Config;
  /** Per-route configuration (typed_per_filter_config) can be of another type: cors and fault are configured only there by Istio. */
  readonly routeTypeUrls?: readonly string[];
  parseRoute?(json: unknown): RouteConfig;
  /** Once per configuration and thread: make counters, regexes and tables here, never per stream. */
  create(config: Config, deps: FilterDeps): Filter<S>;
}

/** What a filter may use; made once per configuration and thread. */
export interface FilterDeps {
  /** Names are relative to the connection manager's stat_prefix: `http.<stat_prefix>.<name>`. */
  counter(name: string): Counter;
  gauge(name: string): Gauge;
  histogram(name: string): Histogram;
  /** [0, 1) */
  random(): number;
  /** Monotonic milliseconds. */
  nowMs(): number;
  readonly clusters: ClusterLookup;
  /** For series that are not below the connection manager's prefix (istio_requests_total). */
  readonly statistics: Statistics;
  /** Configuration that only single requests want. */
  readonly onDemand?: OnDemand;
  /** Timeouts of this thread. */
  readonly deadlines: Deadlines;
  /** Shared by all threads. */
  readonly tokenBuckets: TokenBuckets;
  /** Of the listener: `inbound` reports as destination. */
  readonly direction: 'inbound' | 'outbound';
  /** The workload beside which the proxy stands. */
  readonly node: NodeIdentity;
  /** Whether a request is not sent upstream because there is too much to do. Default: never. */
  shedsRouting?(): boolean;
}

export interface FilterContext {
  /** Addresses, SNI, ALPN, peer certificate, and filter state shared with network filters. */
  readonly connection: ConnectionInfo;
  /** Dynamic metadata by namespace, response flags and details, byte counts, timings, upstream host. */
  readonly info: StreamInfo;
  /** Until the filter chain is through with them, the request headers; for encode filters to look back at. */
  readonly requestHeaders: RequestHeaders;
  /** undefined until there are some; for onDestroy to look back at. */
  readonly responseHeaders: ResponseHeaders | undefined;
  readonly responseTrailers: Headers | undefined;
  /** The matched route; undefined where none matches. Cached. */
  route(): Route | undefined;
  clearRouteCache(): void;
  /** The stream's routes, where more of their virtual hosts come when they are asked for; undefined: no. */
  routesOnDemand?(): RoutesOnDemand | undefined;
  /** Keyed by the filter's configured name: weighted cluster, then route, then virtual host, then route configuration. Honours FilterConfig{disabled, is_optional}. */
  routeConfig<T>(): T | undefined;
  /** Every level's configuration for this filter, least specific first; the same list object for the same route. */
  routeConfigs<T>(): readonly T[];
  sendLocalReply(
    status: number,
    flag: ResponseFlag,
    details: string,
    body?: string,
    modifyHeaders?: (headers: ResponseHeaders) => void,
  ): 'stop';
  injectDecodedData(bytes: Buffer, endStream: boolean): void;
  injectEncodedData(bytes: Buffer, endStream: boolean): void;
  addEncodedTrailers(trailers: Headers): void;
  /** An HTTP or gRPC request to a named cluster, cancelled with the stream. */
  call(cluster: string, request: InternalRequest): Promise<InternalResponse>;
  setTimer(delayMs: number, callback: () => void): FilterTimer;
  /** Aborted when the stream ends, however it ends. */
  readonly signal: AbortSignal;
}

export interface RoutesOnDemand {
  /** Of the route configuration. */
  readonly name: string;
  /** From here on the newest routes count. `other filters`: the route chooses others than those that run. */
  refresh(): 'same filters' | 'other filters';
}

export interface FilterTimer {
  cancel(): void;
}

export interface InternalRequest {
  readonly headers: RequestHeaders;
  readonly body?: Buffer;
  /** Default 5000. */
  readonly timeoutMs?: number;
  /** Answers longer than this fail. Default 1 MiB. */
  readonly maxResponseBytes?: number;
  /** The answer's body is thrown away, however long it is. */
  readonly ignoreBody?: boolean;
}

export interface InternalResponse {
  readonly headers: ResponseHeaders;
  readonly body: Buffer;
  readonly trailers: Headers | undefined;
}
