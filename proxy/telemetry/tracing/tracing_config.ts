/** HttpConnectionManager.Tracing, read. Envoy: envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.Tracing. */

export interface TracingConfig {
  /** Per cent of requests with x-client-trace-id, of all others, and of what both let through. Defaults 100. */
  readonly clientSamplingPercent: number;
  readonly randomSamplingPercent: number;
  readonly overallSamplingPercent: number;
  /** The decision stands in x-request-id, so that all proxies of a request take the same one. Default true. */
  readonly requestIdSampling: boolean;
  /** Of the path in `http.url`. Default 256. */
  readonly maxPathLength: number;
  readonly customTags: readonly CustomTag[];
  readonly tracer: TracerConfig;
}

export interface CustomTag {
  readonly tag: string;
  readonly value:
    | { readonly kind: 'literal'; readonly text: string }
    | { readonly kind: 'environment' | 'request_header'; readonly name: string; readonly defaultValue: string }
    | {
        readonly kind: 'metadata';
        readonly source: 'request' | 'route' | 'cluster' | 'host';
        readonly namespace: string;
        readonly path: readonly string[];
        readonly defaultValue: string;
      }
    /** A format string with %COMMANDS%. */
    | { readonly kind: 'format'; readonly format: string };
}

/** Where spans go. All of it can be sent between threads. */
export interface TracerConfig {
  readonly protocol: 'otlp_grpc' | 'otlp_http' | 'zipkin';
  /** The cluster through which spans leave. */
  readonly cluster: string;
  readonly authority: string;
  /** Of `otlp_http` and `zipkin`. */
  readonly path: string;
  /** Used where no cluster of that name is there; '' for none. */
  readonly url: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly timeoutMs: number;
  /** '' is made of the node's metadata. */
  readonly serviceName: string;
  /** zipkin: 128-bit trace ids. Default true. */
  readonly longTraceIds: boolean;
}
