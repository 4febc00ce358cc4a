/** What a filter's `parse` may ask of the builder: nested extensions and route configurations. Implemented in config/build. */
import type { RouteTable } from './router/route.ts';
import type { AccessLogConfig } from './telemetry/access_log_config.ts';
import type { TracingConfig } from './telemetry/tracing/tracing_config.ts';

/** In place of a type: the configuration comes by ECDS and has not come. */
export const MISSING_FILTER_CONFIG = 'missing';

/** An HTTP filter of a connection manager, parsed. */
export interface ParsedHttpFilter {
  /** The configured name: key of per-route configuration. */
  readonly name: string;
  readonly typeUrl: string;
  readonly disabled: boolean;
  readonly config: unknown;
}

export interface BuildContext {
  /** Where the resource came from. */
  readonly origin: string;
  /** envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter. @throws {ConfigError} */
  httpFilter(json: unknown, path: string): ParsedHttpFilter;
  /** envoy.config.route.v3.RouteConfiguration. @throws {ConfigError} */
  routeTable(json: unknown, path: string): RouteTable;
  /** envoy.config.accesslog.v3.AccessLog list. @throws {ConfigError} */
  accessLogs(json: unknown, path: string): readonly AccessLogConfig[];
  /** HttpConnectionManager.Tracing; undefined: nothing is traced. @throws {ConfigError} */
  /** `requestIdSampling`: the decision stands in x-request-id. */
  tracing(json: unknown, path: string, requestIdSampling: boolean): TracingConfig | undefined;
}
