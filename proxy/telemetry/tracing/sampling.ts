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

/** Why a request is traced, or is not: Envoy's names below `http.<prefix>.tracing.`. */
export type SamplingReason = 'random_sampling' | 'service_forced' | 'client_enabled' | 'not_traceable';

export interface SamplingDecision {
  readonly traced: boolean;
  readonly reason: SamplingReason;
}

const NOT_TRACEABLE: SamplingDecision = { traced: false, reason: 'not_traceable' };
const REASONS: Readonly<Record<string, SamplingDecision>> = {
  [BY_CHANCE]: { traced: true, reason: 'random_sampling' },
  [BY_SERVICE]: { traced: true, reason: 'service_forced' },
  [BY_CLIENT]: { traced: true, reason: 'client_enabled' },
};

/** Writes a decision of its own into the request id, in the header and in `info`. */
export function decideSampling(
  headers: RequestHeaders,
  info: StreamInfo,
  config: TracingConfig,
  random: () => number,
): SamplingDecision {
  if (!config.requestIdSampling) {
    const chosen = random() * 100 < Math.min(config.randomSamplingPercent, config.overallSamplingPercent);
    return chosen ? (REASONS[BY_CHANCE] as SamplingDecision) : NOT_TRACEABLE;
  }
  const id = info.requestId;
  if (id === undefined || id.length !== 36) return NOT_TRACEABLE;
  const share = Number.parseInt(id.slice(0, 8), 16) % 10_000;
  if (Number.isNaN(share)) return NOT_TRACEABLE;
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
  if (reason === NOT_TRACED) return NOT_TRACEABLE;
  if (share < config.overallSamplingPercent * 100) return REASONS[reason] as SamplingDecision;
  mark(headers, info, id, NOT_TRACED);
  return NOT_TRACEABLE;
}

function mark(headers: RequestHeaders, info: StreamInfo, id: string, reason: string): void {
  const marked = id.slice(0, REASON_AT) + reason + id.slice(REASON_AT + 1);
  info.requestId = marked;
  headers.set('x-request-id', marked);
}
