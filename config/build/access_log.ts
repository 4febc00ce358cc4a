/** envoy.config.accesslog.v3.AccessLog → AccessLogConfig. */
import { ConfigError } from '../../proxy/config_error.ts';
import { compileFormat, compileJsonValue } from '../../proxy/http/formatter.ts';
import { buildGrpcLog } from './grpc_access_log.ts';
import { buildOtelLog } from './otel_access_log.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { parseAccessLogFilter } from '../../proxy/telemetry/access_log_filter.ts';
import type { AccessLogConfig, AccessLogFormat } from '../../proxy/telemetry/access_log_config.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.access_loggers';
const STREAMS: Readonly<Record<string, string>> = {
  [`${TYPE}.stream.v3.StdoutAccessLog`]: '/dev/stdout',
  [`${TYPE}.stream.v3.StderrAccessLog`]: '/dev/stderr',
};
/** Envoy's own, where none is given. */
const DEFAULT_FORMAT =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%"\n';

/** @throws {ConfigError} for loggers, filters and commands that are not understood. */
export function buildAccessLogs(list: readonly unknown[], path: string): AccessLogConfig[] {
  return list.map((item, index) => buildOne(new Fields(item, `${path}[${index}]`)));
}

function buildOne(fields: Fields): AccessLogConfig {
  const config = fields.requiredMessage('typed_config');
  const type = config.requiredString('@type');
  const filter = fields.raw('filter');
  if (filter !== undefined) parseAccessLogFilter(new Fields(filter, fields.at('filter')));
  if (type === `${TYPE}.open_telemetry.v3.OpenTelemetryAccessLogConfig`) {
    return { kind: 'otel', otel: buildOtelLog(config, checked), filter };
  }
  if (type === `${TYPE}.grpc.v3.HttpGrpcAccessLogConfig`) {
    return { kind: 'grpc', grpc: buildGrpcLog(config, 'http'), filter };
  }
  if (type === `${TYPE}.grpc.v3.TcpGrpcAccessLogConfig`) {
    return { kind: 'grpc', grpc: buildGrpcLog(config, 'tcp'), filter };
  }
  let file: string;
  if (type === `${TYPE}.file.v3.FileAccessLog`) file = config.requiredString('path');
  else if (Object.hasOwn(STREAMS, type)) file = STREAMS[type] as string;
  else
    return config.fail(
      '@type',
      `access logger ${type} is not supported: file, stdout, stderr, http_grpc, tcp_grpc and open_telemetry are`,
    );
  return { kind: 'file', path: file, format: buildFormat(config), filter };
}

function buildFormat(config: Fields): AccessLogFormat {
  const text = (format: string, at: string): AccessLogFormat => {
    checked(at, () => compileFormat(format, { absent: 'dash' }));
    return { kind: 'text', format };
  };
  const legacy = config.string('format');
  if (legacy !== undefined) return text(legacy, config.at('format'));
  for (const name of ['json_format', 'typed_json_format']) {
    const json = config.message(name);
    if (json !== undefined) return jsonFormat(json, false);
  }
  const format = config.message('log_format');
  if (format === undefined) return text(DEFAULT_FORMAT, config.path);
  const omitEmpty = format.boolean('omit_empty_values') ?? false;
  const json = format.message('json_format');
  if (json !== undefined) return jsonFormat(json, omitEmpty);
  const source = format.message('text_format_source');
  const inline = source?.string('inline_string') ?? format.string('text_format');
  if (inline === undefined)
    return format.fail('text_format_source', 'text_format_source.inline_string or json_format is required');
  return text(inline, format.path);
}

function jsonFormat(fields: Fields, omitEmpty: boolean): AccessLogFormat {
  checkValue(fields.json, fields.path);
  return { kind: 'json', fields: fields.json, omitEmpty };
}

function checkValue(value: unknown, path: string): void {
  if (typeof value === 'string') checked(path, () => compileJsonValue(value));
  else if (Array.isArray(value)) {
    for (const [index, item] of value.entries()) checkValue(item, `${path}[${index}]`);
  } else if (value !== null && typeof value === 'object') {
    for (const [key, item] of Object.entries(value)) checkValue(item, `${path}.${key}`);
  }
}

function checked(path: string, compile: () => unknown): void {
  try {
    compile();
  } catch (error) {
    if (error instanceof ConfigError && error.path === '') throw new ConfigError(path, error.message, { cause: error });
    throw error;
  }
}
