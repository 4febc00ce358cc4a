/** The HTTP connection manager's configuration, read. Envoy: envoy.extensions.filters.network.http_connection_manager.v3. */
import type { ClientCertConfig, ClientCertDetails } from './client_certificate_header.ts';
import type { ParsedHttpFilter } from '../build_context.ts';
import type { RouteTable } from '../router/route.ts';
import type { ScopedRoutesConfig } from '../router/scoped_routes.ts';
import type { TracingConfig } from '../telemetry/tracing/tracing_config.ts';
import type { AccessLogConfig } from '../telemetry/access_log_config.ts';
import type { LocalReplyRewriter } from './local_reply_config.ts';
import type { InternalAddresses } from './internal_request.ts';
import type { Http2Config } from './http2_config.ts';
import type { StringMatcher } from './matchers.ts';
import type { PathNormalization } from './path_normalization.ts';

/** All durations in ms; 0: none. */
export interface ConnectionManagerConfig {
  readonly statPrefix: string;
  readonly codecType: 'auto' | 'http1' | 'http2';
  /** By RDS name, read live; inline; or by what the request says. */
  readonly routes:
    | { readonly rdsName: string }
    | { readonly table: RouteTable }
    | { readonly scoped: ScopedRoutesConfig };
  readonly httpFilters: readonly ParsedHttpFilter[];
  readonly accessLogs: readonly AccessLogConfig[];
  /** undefined: nothing is traced. */
  readonly tracing: TracingConfig | undefined;
  /** undefined: the proxy's own replies stay as they are. */
  readonly localReplies: LocalReplyRewriter | undefined;
  readonly acceptHttp10: boolean;
  readonly defaultHostForHttp10: string;
  readonly http2: Http2Config;
  /** Default 300,000. */
  readonly streamIdleTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly requestHeadersTimeoutMs: number;
  /** Of connections without a stream. Default 3,600,000. */
  readonly idleTimeoutMs: number;
  readonly maxConnectionDurationMs: number;
  readonly maxStreamDurationMs: number;
  /** Default 5,000. */
  readonly drainTimeoutMs: number;
  /** 0: no limit. */
  readonly maxRequestsPerConnection: number;
  /** Default 60 KiB. */
  readonly maxRequestHeadBytes: number;
  /** Default 100. */
  readonly maxHeadersCount: number;
  /** What a filter may hold of a body. Listener.per_connection_buffer_limit_bytes, default 1 MiB. */
  readonly bufferLimitBytes: number;
  readonly normalization: PathNormalization;
  readonly useRemoteAddress: boolean;
  /** undefined: nobody is internal. */
  readonly internalAddresses: InternalAddresses | undefined;
  readonly xffTrustedHops: number;
  readonly skipXffAppend: boolean;
  readonly generateRequestId: boolean;
  readonly preserveExternalRequestId: boolean;
  readonly alwaysSetRequestIdInResponse: boolean;
  readonly via: string;
  /** Default `envoy`. */
  readonly serverName: string;
  readonly serverHeader: 'overwrite' | 'append_if_absent' | 'pass_through';
  readonly forwardClientCert: ClientCertConfig['forwardClientCert'];
  /** What is said of the client's certificate in x-forwarded-client-cert, beside By and Hash. */
  readonly clientCertDetails: ClientCertDetails;
  readonly appendXForwardedPort: boolean;
  readonly stripPort: 'none' | 'matching' | 'any';
  readonly stripTrailingHostDot: boolean;
  /** proxy_100_continue: false: the proxy says 100 itself. */
  readonly proxy100Continue: boolean;
  readonly underscores: 'allow' | 'reject' | 'drop';
  readonly suppressEnvoyHeaders: boolean;
  /** Lower-case upgrade types that pass. */
  readonly upgrades: ReadonlySet<string>;
  /** Upgrades that are forwarded as plain requests. */
  readonly ignoredUpgrades: readonly StringMatcher[];
}
