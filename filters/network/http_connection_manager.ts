/** The HTTP connection manager as a network filter. Envoy: envoy.extensions.filters.network.http_connection_manager.v3. */
import type { BuildContext } from '../../proxy/build_context.ts';
import { HttpConnection } from '../../proxy/http/connection_manager.ts';
import type { ConnectionManagerConfig } from '../../proxy/http/connection_manager_config.ts';
import { ConnectionManagerRuntime } from '../../proxy/http/connection_manager_runtime.ts';
import type { FilterDeps } from '../../proxy/http/filter.ts';
import { parseHttp2Options } from '../../proxy/http/http2_config.ts';
import { callCluster } from '../../proxy/http/internal_call.ts';
import { parseInternalAddresses } from '../../proxy/http/internal_request.ts';
import { parseLocalReplyConfig } from '../../proxy/http/local_reply_config.ts';
import { parseStringMatcher } from '../../proxy/http/matchers.ts';
import { parsePathNormalization } from '../../proxy/http/path_normalization.ts';
import { isTerminal, type TerminalFilter } from '../../proxy/http/terminal.ts';
import type { NetworkFilter, NetworkFilterDeps, NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import { RequestTracer } from '../../proxy/telemetry/tracing/request_tracer.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { parseScopedRoutes, requestKey } from '../../proxy/router/scoped_routes.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';
import { checkHeaderCase } from '../../proxy/http/header_case.ts';

const ROUTER = 'type.googleapis.com/envoy.extensions.filters.http.router.v3.Router';
const UUID_REQUEST_ID = 'type.googleapis.com/envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig';
const DEFAULT_STREAM_IDLE_MS = 300_000;
const DEFAULT_IDLE_MS = 3_600_000;
const DEFAULT_BUFFER_LIMIT_BYTES = 1024 * 1024;

interface ConnectionManagerFilter extends NetworkFilter {
  readonly runtime: ConnectionManagerRuntime;
}

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'],
  followsUpdates: true,
  parse,
  create(config, deps): ConnectionManagerFilter {
    const runtime = createRuntime(config, deps);
    const { clusters, deadlines } = deps.services;
    const call: ConstructorParameters<typeof HttpConnection>[2] = (cluster, request, signal) =>
      callCluster(clusters, deadlines, cluster, request, signal);
    return {
      runtime,
      takeOver: (stream, newest) =>
        new HttpConnection(stream, () => (newest() as ConnectionManagerFilter).runtime, call),
    };
  },
} satisfies NetworkFilterFactory<ConnectionManagerConfig>;

function parse(json: unknown, build: BuildContext): ConnectionManagerConfig {
  const fields = new Fields(json);
  refuseUnexecuted(fields, 'HttpConnectionManager');
  refuseUnexecuted(fields.message('access_log_options'), 'HcmAccessLogOptions');
  refuseUnexecuted(fields.message('http_protocol_options'), 'DownstreamHttp1');
  checkHeaderCase(fields.message('http_protocol_options'));
  const http1 = fields.message('http_protocol_options');
  const common = fields.message('common_http_protocol_options');
  const requestIdSampling = samplesByRequestId(fields.message('request_id_extension'));
  const httpFilters = fields
    .list('http_filters')
    .map((item, index) => build.httpFilter(item, `http_filters[${index}]`));
  const last = httpFilters.at(-1);
  if (last === undefined || last.typeUrl !== ROUTER) {
    fields.fail('http_filters', 'the last filter must be envoy.filters.http.router');
  }
  const maxRequestHeadBytes = (fields.integer('max_request_headers_kb', 1, 8192) ?? 60) * 1024;
  const maxHeadersCount = common?.integer('max_headers_count', 1) ?? 100;
  return {
    statPrefix: fields.requiredString('stat_prefix').replace(/;$/, ''),
    codecType: (
      {
        AUTO: 'auto',
        HTTP1: 'http1',
        HTTP2: 'http2',
        HTTP3: fields.raw('codec_type') === 'HTTP3' ? fields.fail('codec_type', 'HTTP3 is not supported') : 'auto',
      } as const
    )[fields.oneOf('codec_type', ['AUTO', 'HTTP1', 'HTTP2', 'HTTP3'], 'AUTO')],
    routes: parseRoutes(fields, build),
    httpFilters,
    accessLogs: build.accessLogs(fields.list('access_log'), 'access_log'),
    tracing: fields.has('tracing') ? build.tracing(fields.raw('tracing'), 'tracing', requestIdSampling) : undefined,
    localReplies: parseLocalReplyConfig(fields.message('local_reply_config')),
    acceptHttp10: http1?.boolean('accept_http_10') ?? false,
    defaultHostForHttp10: http1?.string('default_host_for_http_10') ?? '',
    streamIdleTimeoutMs: fields.durationMs('stream_idle_timeout') ?? DEFAULT_STREAM_IDLE_MS,
    requestTimeoutMs: fields.durationMs('request_timeout') ?? 0,
    requestHeadersTimeoutMs: fields.durationMs('request_headers_timeout') ?? 0,
    idleTimeoutMs: common?.durationMs('idle_timeout') ?? DEFAULT_IDLE_MS,
    maxConnectionDurationMs: common?.durationMs('max_connection_duration') ?? 0,
    maxStreamDurationMs: common?.durationMs('max_stream_duration') ?? 0,
    drainTimeoutMs: fields.durationMs('drain_timeout') ?? 5000,
    maxRequestsPerConnection: common?.integer('max_requests_per_connection') ?? 0,
    maxRequestHeadBytes,
    maxHeadersCount,
    http2: parseHttp2Options(fields.message('http2_protocol_options'), {
      maxHeaderListBytes: maxRequestHeadBytes,
      maxHeaderCount: maxHeadersCount,
    }),
    bufferLimitBytes: DEFAULT_BUFFER_LIMIT_BYTES,
    normalization: parsePathNormalization(fields),
    useRemoteAddress: fields.boolean('use_remote_address') ?? false,
    internalAddresses: parseInternalAddresses(fields.message('internal_address_config')),
    xffTrustedHops: fields.integer('xff_num_trusted_hops') ?? 0,
    skipXffAppend: fields.boolean('skip_xff_append') ?? false,
    generateRequestId: fields.boolean('generate_request_id') ?? true,
    preserveExternalRequestId: fields.boolean('preserve_external_request_id') ?? false,
    alwaysSetRequestIdInResponse: fields.boolean('always_set_request_id_in_response') ?? false,
    via: fields.string('via') ?? '',
    serverName: fields.string('server_name') || 'envoy',
    serverHeader: (
      { OVERWRITE: 'overwrite', APPEND_IF_ABSENT: 'append_if_absent', PASS_THROUGH: 'pass_through' } as const
    )[fields.oneOf('server_header_transformation', ['OVERWRITE', 'APPEND_IF_ABSENT', 'PASS_THROUGH'], 'OVERWRITE')],
    forwardClientCert: fields
      .oneOf(
        'forward_client_cert_details',
        ['SANITIZE', 'FORWARD_ONLY', 'APPEND_FORWARD', 'SANITIZE_SET', 'ALWAYS_FORWARD_ONLY'],
        'SANITIZE',
      )
      .toLowerCase() as ConnectionManagerConfig['forwardClientCert'],
    clientCertDetails: parseClientCertDetails(fields.message('set_current_client_cert_details')),
    appendXForwardedPort: fields.boolean('append_x_forwarded_port') ?? false,
    stripPort: fields.boolean('strip_any_host_port')
      ? 'any'
      : fields.boolean('strip_matching_host_port')
        ? 'matching'
        : 'none',
    stripTrailingHostDot: fields.boolean('strip_trailing_host_dot') ?? false,
    proxy100Continue: fields.boolean('proxy_100_continue') ?? false,
    underscores: ({ ALLOW: 'allow', REJECT_REQUEST: 'reject', DROP_HEADER: 'drop' } as const)[
      common?.oneOf('headers_with_underscores_action', ['ALLOW', 'REJECT_REQUEST', 'DROP_HEADER'], 'ALLOW') ?? 'ALLOW'
    ],
    suppressEnvoyHeaders: false,
    upgrades: new Set(
      fields
        .messages('upgrade_configs')
        .filter((upgrade) => upgrade.boolean('enabled') ?? true)
        .map((upgrade) => upgrade.requiredString('upgrade_type').toLowerCase()),
    ),
    ignoredUpgrades: http1?.messages('ignore_http_11_upgrade').map(parseStringMatcher) ?? [],
  };
}

/** envoy.extensions.request_id.uuid.v3.UuidRequestIdConfig. */
function samplesByRequestId(extension: Fields | undefined): boolean {
  const config = extension?.message('typed_config');
  if (config === undefined) return true;
  const type = config.requiredString('@type');
  if (type !== UUID_REQUEST_ID)
    config.fail('@type', `request ids of ${type} are not supported: UuidRequestIdConfig is`);
  refuseUnexecuted(config, 'UuidRequestId');
  return config.boolean('use_request_id_for_trace_sampling') ?? true;
}

function parseClientCertDetails(details: Fields | undefined): ConnectionManagerConfig['clientCertDetails'] {
  if (details?.boolean('chain')) details.fail('chain', 'is not supported: cert is');
  return {
    subject: details?.boolean('subject') ?? false,
    certificate: details?.boolean('cert') ?? false,
    dns: details?.boolean('dns') ?? false,
    uri: details?.boolean('uri') ?? false,
  };
}

function parseRoutes(fields: Fields, build: BuildContext): ConnectionManagerConfig['routes'] {
  const inline = fields.raw('route_config');
  if (inline !== undefined) return { table: build.routeTable(inline, 'route_config') };
  const rds = fields.message('rds');
  if (rds !== undefined) return { rdsName: rds.requiredString('route_config_name') };
  const scoped = fields.message('scoped_routes');
  if (scoped !== undefined) return { scoped: parseScopedRoutes(scoped, build.routeTable) };
  return fields.fail('route_config', 'rds, route_config or scoped_routes is required');
}

function createRuntime(config: ConnectionManagerConfig, deps: NetworkFilterDeps): ConnectionManagerRuntime {
  const { services } = deps;
  const prefix = `http.${config.statPrefix}`;
  const filterDeps: FilterDeps = {
    counter: (name) => services.statistics.counter(`${prefix}.${name}`),
    gauge: (name) => services.statistics.gauge(`${prefix}.${name}`),
    histogram: (name) => services.statistics.histogram(`${prefix}.${name}`),
    random: services.random,
    nowMs: services.nowMs,
    clusters: services.clusters,
    ...(services.onDemand !== undefined && { onDemand: services.onDemand }),
    deadlines: services.deadlines,
    tokenBuckets: services.tokenBuckets,
    statistics: services.statistics,
    direction: deps.direction ?? 'outbound',
    node: services.node,
    shedsRouting: () => deps.shedsAt('http_downstream_filter_check'),
  };
  const filters = config.httpFilters.map((parsed) => ({
    name: parsed.name,
    disabled: parsed.disabled,
    filter: deps.createHttpFilter(parsed, filterDeps),
  }));
  // The router is the last one, parse saw to it.
  const terminal = (filters.pop() as (typeof filters)[number]).filter as unknown as TerminalFilter;
  if (!isTerminal(terminal)) throw new Error('the last HTTP filter does not end the chain');
  const { routes } = config;
  return new ConnectionManagerRuntime({
    config: { ...config, bufferLimitBytes: deps.bufferLimitBytes },
    filters,
    terminal,
    accessLogs: config.accessLogs.map((log) => services.accessLogs.create(log)),
    statistics: services.statistics,
    listenerStatPrefix: deps.statPrefix,
    deadlines: services.deadlines,
    tracer:
      config.tracing === undefined
        ? undefined
        : new RequestTracer({
            config: config.tracing,
            direction: deps.direction ?? 'outbound',
            nodeId: services.node.id,
            zone: services.node.zone ?? '',
            sink: services.spans,
            statistics: services.statistics,
            statPrefix: `http.${config.statPrefix}`,
            random: services.random,
          }),
    routes: routesOf(routes, services),
    drains: deps.drains,
    sheds: () => deps.shedsRequest(),
    shedsAt: (point) => deps.shedsAt(point),
    random: services.random,
    nowMs: services.nowMs,
    onFilterError: (filter, error) => {
      const detail = error instanceof Error ? (error.stack ?? error.message) : String(error);
      services.log.log('error', 'filter', `HTTP filter "${filter}" failed: ${detail}`);
    },
  });
}

function routesOf(
  routes: ConnectionManagerConfig['routes'],
  { routes: byName, scopes: pushed }: Pick<NetworkFilterDeps['services'], 'routes' | 'scopes'>,
): ConnectionManagerRuntime['routes'] {
  if ('table' in routes) return () => routes.table;
  if ('rdsName' in routes) return () => byName.get(routes.rdsName);
  const { fragments, scopes } = routes.scoped;
  return (request) => {
    const key = requestKey(request, fragments);
    if (key === undefined) return undefined;
    if (scopes === undefined) return pushed.get(key);
    const found = scopes.get(key);
    if (found === undefined) return undefined;
    return 'table' in found ? found.table : byName.get(found.rdsName);
  };
}
