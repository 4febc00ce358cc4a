/** HttpConnectionManager.Tracing → TracingConfig. */
import { Fields } from '../../proxy/resource_fields.ts';
import type { CustomTag, TracerConfig, TracingConfig } from '../../proxy/telemetry/tracing/tracing_config.ts';
import { compileFormat } from '../../proxy/http/formatter.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';
import { parseHeaderValue } from '../../proxy/http/header_value.ts';
import { buildGrpcTarget } from './grpc_service.ts';

const TRACE = 'type.googleapis.com/envoy.config.trace.v3';
const DEFAULT_TIMEOUT_MS = 1000;

/** undefined: without a provider nothing is traced, as in Envoy. @throws {ConfigError} */
export function buildTracing(json: unknown, path: string, requestIdSampling: boolean): TracingConfig | undefined {
  const fields = new Fields(json, path);
  refuseUnexecuted(fields, 'Tracing');
  const provider = fields.message('provider');
  if (provider === undefined) return undefined;
  return {
    clientSamplingPercent: percent(fields, 'client_sampling'),
    randomSamplingPercent: percent(fields, 'random_sampling'),
    overallSamplingPercent: percent(fields, 'overall_sampling'),
    requestIdSampling,
    maxPathLength: fields.integer('max_path_tag_length') ?? 256,
    customTags: fields.messages('custom_tags').map(buildCustomTag),
    tracer: tracer(provider),
  };
}

function percent(fields: Fields, name: string): number {
  return fields.message(name)?.number('value', 0, 100) ?? 100;
}

function tracer(provider: Fields): TracerConfig {
  const config = provider.requiredMessage('typed_config');
  const type = config.requiredString('@type');
  if (type === `${TRACE}.OpenTelemetryConfig`) return openTelemetry(config);
  if (type === `${TRACE}.ZipkinConfig`) return zipkin(config);
  return config.fail('@type', `tracer ${type} is not supported: OpenTelemetryConfig and ZipkinConfig are`);
}

function openTelemetry(config: Fields): TracerConfig {
  const common = { serviceName: config.string('service_name') ?? '', longTraceIds: true };
  const http = config.message('http_service');
  if (http !== undefined) {
    const uri = http.requiredMessage('http_uri');
    const url = uri.requiredString('uri');
    if (!URL.canParse(url)) uri.fail('uri', `a URL is wanted, got "${url}"`);
    const { host, pathname, search } = new URL(url);
    return {
      ...common,
      protocol: 'otlp_http',
      cluster: uri.string('cluster') ?? '',
      authority: host,
      path: pathname + search,
      url,
      headers: http
        .messages('request_headers_to_add')
        .map((option) => parseHeaderValue(option.requiredMessage('header'))),
      timeoutMs: uri.durationMs('timeout') ?? DEFAULT_TIMEOUT_MS,
    };
  }
  const service = config.requiredMessage('grpc_service');
  return {
    ...common,
    ...buildGrpcTarget(service),
    protocol: 'otlp_grpc',
    path: '',
    url: '',
    timeoutMs: service.durationMs('timeout') ?? DEFAULT_TIMEOUT_MS,
  };
}

function zipkin(config: Fields): TracerConfig {
  const version = config.oneOf(
    'collector_endpoint_version',
    ['DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE', 'HTTP_JSON', 'HTTP_PROTO', 'GRPC'],
    'HTTP_JSON',
  );
  if (version !== 'HTTP_JSON') config.fail('collector_endpoint_version', `${version} is not supported: HTTP_JSON is`);
  const cluster = config.requiredString('collector_cluster');
  return {
    protocol: 'zipkin',
    cluster,
    authority: config.string('collector_hostname') || cluster,
    path: config.requiredString('collector_endpoint'),
    url: '',
    headers: [],
    timeoutMs: 5000,
    serviceName: '',
    longTraceIds: config.boolean('trace_id_128bit') ?? false,
  };
}

/** envoy.type.tracing.v3.CustomTag. @throws {ConfigError} */
export function buildCustomTag(fields: Fields): CustomTag {
  const tag = fields.requiredString('tag');
  const literal = fields.message('literal');
  if (literal !== undefined) return { tag, value: { kind: 'literal', text: literal.requiredString('value') } };
  for (const kind of ['request_header', 'environment'] as const) {
    const named = fields.message(kind);
    if (named === undefined) continue;
    const name = named.requiredString('name');
    return {
      tag,
      value: {
        kind,
        name: kind === 'request_header' ? name.toLowerCase() : name,
        defaultValue: named.string('default_value') ?? '',
      },
    };
  }
  const metadata = fields.message('metadata');
  if (metadata !== undefined) {
    const key = metadata.requiredMessage('metadata_key');
    const kind = metadata.messageOrEmpty('kind');
    const source = (['request', 'route', 'cluster', 'host'] as const).find((name) => kind.has(name)) ?? 'request';
    return {
      tag,
      value: {
        kind: 'metadata',
        source,
        namespace: key.requiredString('key'),
        path: key.messages('path').map((segment) => segment.requiredString('key')),
        defaultValue: metadata.string('default_value') ?? '',
      },
    };
  }
  const format = fields.string('value');
  if (format === undefined)
    return fields.fail('tag', 'one of literal, request_header, environment, metadata and value is required');
  compileFormat(format, { absent: 'empty' });
  return { tag, value: { kind: 'format', format } };
}
