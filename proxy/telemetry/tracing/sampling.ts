/**
 * Whether a request is traced. The decision stands in the 15th character of x-request-id (4: not, 9: by chance, a: asked
 * for by a service, b: by the client). Source: Envoy conn_manager_utility.cc mutateTracingRequestHeader.
 */
import type { RequestHeaders } from '../../http/headers.ts';
import type { StreamInfo } from '../../http/stream_info.ts';
import type { TracingConfig } from './tracing_config.ts';

const REASON_AT = 14;
const NOT_TRACED = '4';
const BY_CHANCE = '9';
const BY_SERVICE = 'a';
const BY_CLIENT = 'b';

/** Writes a decision of its own into the request id, in the header and in `info`. */
export function decideSampling(
  headers: RequestHeaders,
  info: StreamInfo,
  config: TracingConfig,
  random: () => number,
): boolean {
  if (!config.requestIdSampling)
    return random() * 100 < Math.min(config.randomSamplingPercent, config.overallSamplingPercent);
  const id = info.requestId;
  if (id === undefined || id.length !== 36) return false;
  const share = Number.parseInt(id.slice(0, 8), 16) % 10_000;
  if (Number.isNaN(share)) return false;
  let reason = id.charAt(REASON_AT);
  if (reason !== BY_CHANCE && reason !== BY_SERVICE && reason !== BY_CLIENT) {
    reason =
      headers.get('x-client-trace-id') !== undefined && share < config.clientSamplingPercent * 100
        ? BY_CLIENT
        : headers.get('x-envoy-force-trace') !== undefined
          ? BY_SERVICE
          : share < config.randomSamplingPercent * 100
            ? BY_CHANCE
            : NOT_TRACED;
    if (reason !== NOT_TRACED) mark(headers, info, id, reason);
  }
  if (reason === NOT_TRACED) return false;
  if (share < config.overallSamplingPercent * 100) return true;
  mark(headers, info, id, NOT_TRACED);
  return false;
}

function mark(headers: RequestHeaders, info: StreamInfo, id: string, reason: string): void {
  const marked = id.slice(0, REASON_AT) + reason + id.slice(REASON_AT + 1);
  info.requestId = marked;
  headers.set('x-request-id', marked);
}
