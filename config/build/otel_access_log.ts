/** envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig → OtelLogConfig. */
import { compileFormat } from '../../proxy/http/formatter.ts';
import type { Fields } from '../../proxy/resource_fields.ts';
import type { OtelLogConfig } from '../../proxy/telemetry/otel_logs/otel_log_config.ts';
import { buildGrpcTarget, ENVOY_GRPC_REQUIRED } from './grpc_service.ts';

const DEFAULT_TIMEOUT_MS = 5000;

/** @param checked puts the path before a complaint about a format. @throws {ConfigError} */
export function buildOtelLog(config: Fields, checked: (path: string, compile: () => unknown) => void): OtelLogConfig {
  const common = config.message('common_config');
  const service = config.message('grpc_service') ?? common?.message('grpc_service');
  if (service?.message('envoy_grpc') === undefined) {
    return config.fail('common_config.grpc_service.envoy_grpc', ENVOY_GRPC_REQUIRED);
  }
  const target = buildGrpcTarget(service);
  const format = (value: Fields, field: string): string => {
    const text = value.string('string_value');
    if (text === undefined)
      return value.fail(field, 'a string_value is required: values of other kinds are not supported');
    checked(value.path, () => compileFormat(text, { absent: 'dash' }));
    return text;
  };
  const pairs = (list: Fields | undefined): (readonly [string, string])[] =>
    (list?.messages('values') ?? []).map((item) => [
      item.requiredString('key'),
      format(item.requiredMessage('value'), 'string_value'),
    ]);
  const body = config.message('body');
  return {
    ...target,
    timeoutMs: service.durationMs('timeout') ?? DEFAULT_TIMEOUT_MS,
    logName: common?.string('log_name') ?? config.string('log_name') ?? '',
    body: body === undefined ? undefined : format(body, 'string_value'),
    attributes: pairs(config.message('attributes')),
    resourceAttributes: pairs(config.message('resource_attributes')),
    builtinLabels: config.boolean('disable_builtin_labels') !== true,
  };
}
