/** Retry policies of routes: Istio's HTTPRetry to Envoy's RetryPolicy. */
import type { Json } from '../resources.ts';
import { seconds } from './envoy_json.ts';
import { boolean, duration, fail, int32, message, type Read, text, within } from './shape.ts';

export const HTTP_RETRY = message({
  attempts: int32,
  perTryTimeout: duration,
  retryOn: text,
  retryRemoteLocalities: boolean,
  retryIgnorePreviousHosts: boolean,
  backoff: duration,
});
export type HttpRetry = Read<typeof HTTP_RETRY>;

const DEFAULT_RETRY_ON = 'connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes';

const PREVIOUS_HOSTS: readonly Json[] = [
  {
    name: 'envoy.retry_host_predicates.previous_hosts',
    typed_config: {
      '@type': 'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
    },
  },
];

const PREVIOUS_PRIORITIES: Json = {
  name: 'envoy.retry_priorities.previous_priorities',
  typed_config: {
    '@type': 'type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig',
    update_frequency: 2,
  },
};

/**
 * The policy of one route. `policy` undefined: Istio's default of 2 retries. With a consistent hash another host
 * would break the affinity, so previous hosts are not avoided.
 * @returns undefined when retries are off
 */
export function retryPolicy(policy: HttpRetry | undefined, consistentHash: boolean): Json | undefined {
  if (policy !== undefined && (policy.attempts ?? 0) <= 0) return undefined;
  const { retryOn, codes } = parseRetryOn(policy);
  const avoidPrevious = policy?.retryIgnorePreviousHosts ?? !consistentHash;
  return {
    retry_on: retryOn,
    num_retries: policy?.attempts ?? 2,
    ...(policy?.perTryTimeout !== undefined && { per_try_timeout: seconds(policy.perTryTimeout) }),
    ...(policy?.retryRemoteLocalities === true && { retry_priority: PREVIOUS_PRIORITIES }),
    ...(avoidPrevious && { retry_host_predicate: PREVIOUS_HOSTS }),
    host_selection_retry_max_attempts: '5',
    ...(codes.length > 0 && { retriable_status_codes: codes }),
    ...(policy?.backoff !== undefined && { retry_back_off: { base_interval: seconds(policy.backoff) } }),
  };
}

/** What istiod accepts. Source: istio/istio pkg/config/validation, supported retryOn policies. */
const RETRY_CONDITIONS: ReadonlySet<string> = new Set([
  '5xx',
  'gateway-error',
  'reset',
  'reset-before-request',
  'connect-failure',
  'retriable-4xx',
  'refused-stream',
  'retriable-status-codes',
  'retriable-headers',
  'envoy-ratelimited',
  'http3-post-connect-failure',
  'cancelled',
  'deadline-exceeded',
  'internal',
  'resource-exhausted',
  'unavailable',
]);

/** Bare integers of the list are status codes. */
function parseRetryOn(policy: HttpRetry | undefined): { readonly retryOn: string; readonly codes: readonly number[] } {
  const list = policy?.retryOn;
  if (policy === undefined || list === undefined || list === '') return { retryOn: DEFAULT_RETRY_ON, codes: [] };
  const codes: number[] = [];
  const names: string[] = [];
  for (const part of list.split(',')) {
    const name = part.trim();
    if (/^[1-5]\d\d$/.test(name)) codes.push(Number(name));
    else if (RETRY_CONDITIONS.has(name)) names.push(name);
    else if (name !== '') {
      fail(
        within(policy.at, 'retryOn'),
        `"${name}" is not a retry condition: ${[...RETRY_CONDITIONS].join(', ')}, or a status`,
      );
    }
  }
  if (codes.length > 0 && !names.includes('retriable-status-codes')) names.push('retriable-status-codes');
  return { retryOn: names.join(','), codes };
}
