/** envoy.extensions.access_loggers.grpc.v3: HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig → GrpcLogConfig. */
import type { Fields } from '../../proxy/resource_fields.ts';
import type { GrpcLogConfig, GrpcLogService } from '../../proxy/telemetry/grpc_logs/grpc_log_config.ts';
import { buildGrpcTarget } from './grpc_service.ts';
import { buildCustomTag } from './tracing.ts';

const DEFAULT_FLUSH_MS = 1000;
const DEFAULT_BUFFER_BYTES = 16_384;
const BACKOFF = { baseMs: 1000, maxMs: 30_000 } as const;

/** @throws {ConfigError} */
export function buildGrpcLog(config: Fields, entries: GrpcLogConfig['entries']): GrpcLogConfig {
  const common = config.requiredMessage('common_config');
  const names = (field: string): string[] => config.strings(field).map((name) => name.toLowerCase());
  return {
    entries,
    service: buildService(common),
    requestHeaders: names('additional_request_headers_to_log'),
    responseHeaders: names('additional_response_headers_to_log'),
    responseTrailers: names('additional_response_trailers_to_log'),
    filterState: common.strings('filter_state_objects_to_log'),
    customTags: common.messages('custom_tags').map(buildCustomTag),
  };
}

function buildService(common: Fields): GrpcLogService {
  const target = buildGrpcTarget(common.requiredMessage('grpc_service'));
  const version = common.raw('transport_api_version');
  if (version !== undefined && version !== 'V3' && version !== 'AUTO') {
    common.fail('transport_api_version', `${String(version)} is gone: use V3`);
  }
  const flushMs = common.durationMs('buffer_flush_interval') ?? DEFAULT_FLUSH_MS;
  if (flushMs <= 0) common.fail('buffer_flush_interval', 'must be > 0s');
  const backoff = common.message('grpc_stream_retry_policy')?.message('retry_back_off');
  const backoffBaseMs = backoff?.durationMs('base_interval') ?? BACKOFF.baseMs;
  return {
    ...target,
    logName: common.requiredString('log_name'),
    flushMs,
    bufferBytes: common.integer('buffer_size_bytes') ?? DEFAULT_BUFFER_BYTES,
    backoffBaseMs,
    backoffMaxMs: backoff?.durationMs('max_interval') ?? (backoff === undefined ? BACKOFF.maxMs : backoffBaseMs * 10),
  };
}
