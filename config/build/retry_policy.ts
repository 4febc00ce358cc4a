/** envoy.config.route.v3.RetryPolicy → RetryPolicy. */
import { parseHeaderMatcher } from '../../proxy/http/matchers.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { type HostPredicate, type RetryPolicy, retryOnBits } from '../../proxy/router/retry_policy.ts';
import type { Host } from '../../proxy/upstream/host.ts';
import { parseMetadata } from './route_configuration.ts';
import { typedConfig } from './extensions.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.retry';
const DEFAULT_BASE_MS = 25;
const DEFAULT_RATE_LIMITED_MAX_MS = 300_000;

/** undefined where it asks for nothing. @throws {ConfigError} */
export function parseRetryPolicy(fields: Fields | undefined): RetryPolicy | undefined {
  if (fields === undefined) return undefined;
  const backOff = fields.message('retry_back_off');
  const baseMs = backOff?.durationMs('base_interval') ?? DEFAULT_BASE_MS;
  if (backOff !== undefined && !backOff.has('base_interval')) backOff.fail('base_interval', 'is required');
  if (baseMs <= 0) backOff?.fail('base_interval', `must be greater than 0s, got ${baseMs / 1000}s`);
  const maxMs = backOff?.durationMs('max_interval') ?? baseMs * 10;
  if (maxMs < baseMs) backOff?.fail('max_interval', `must not be less than base_interval, got ${maxMs / 1000}s`);
  for (const [index, other] of fields.messages('retry_options_predicates').entries()) {
    fields.fail(`retry_options_predicates[${index}]`, `"${other.string('name') ?? ''}" is not supported`);
  }
  fields.integer('host_selection_retry_max_attempts', 0, Number.MAX_SAFE_INTEGER);
  return {
    on: retryOnBits(fields.string('retry_on') ?? ''),
    retries: fields.integer('num_retries') ?? 1,
    perTryTimeoutMs: notNegative(fields, 'per_try_timeout'),
    perTryIdleTimeoutMs: notNegative(fields, 'per_try_idle_timeout'),
    statusCodes: new Set(fields.list('retriable_status_codes').map(Number)),
    responseHeaders: fields.messages('retriable_headers').map(parseHeaderMatcher),
    requestHeaders: fields.messages('retriable_request_headers').map(parseHeaderMatcher),
    // Whole milliseconds, as in Envoy: a base below one is one.
    backOffBaseMs: Math.max(1, baseMs),
    backOffMaxMs: Math.max(1, maxMs),
    rateLimited: parseRateLimited(fields.message('rate_limited_retry_back_off')),
    hosts: parseHosts(fields.messages('retry_host_predicate')),
    priorityUpdateFrequency: parsePriority(fields.message('retry_priority')),
  };
}

function notNegative(fields: Fields, name: string): number {
  const value = fields.durationMs(name) ?? 0;
  return value < 0 ? fields.fail(name, `must not be negative, got ${value / 1000}s`) : value;
}

function parseRateLimited(fields: Fields | undefined): RetryPolicy['rateLimited'] {
  if (fields === undefined) return undefined;
  const headers = fields.messages('reset_headers').map((header) => ({
    name: header.requiredString('name').toLowerCase(),
    format:
      header.oneOf('format', ['SECONDS', 'UNIX_TIMESTAMP'], 'SECONDS') === 'SECONDS'
        ? ('seconds' as const)
        : ('unix_timestamp' as const),
  }));
  if (headers.length === 0) fields.fail('reset_headers', 'at least one header is required');
  return { headers, maxMs: fields.durationMs('max_interval') ?? DEFAULT_RATE_LIMITED_MAX_MS };
}

function parseHosts(predicates: readonly Fields[]): HostPredicate | undefined {
  if (predicates.length === 0) return undefined;
  let previousHosts = false;
  const omits: ((host: Host) => boolean)[] = [];
  for (const predicate of predicates) {
    const { typeUrl, json } = typedConfig(predicate.raw('typed_config') ?? {}, predicate.at('typed_config'));
    if (typeUrl === `${TYPE}.host.previous_hosts.v3.PreviousHostsPredicate`) previousHosts = true;
    else if (typeUrl === `${TYPE}.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate`) {
      omits.push((host) => host.metadata?.['envoy.lb']?.['canary'] === true);
    } else if (typeUrl === `${TYPE}.host.omit_host_metadata.v3.OmitHostMetadataConfig`) {
      const wanted = parseMetadata(new Fields(json, predicate.at('typed_config')).message('metadata_match'))?.[
        'envoy.lb'
      ];
      const entries = Object.entries(wanted ?? {});
      if (entries.length > 0) {
        omits.push((host) => {
          const labels = host.metadata?.['envoy.lb'];
          return labels !== undefined && entries.every(([key, value]) => labels[key] === value);
        });
      }
    } else predicate.fail('typed_config', `retry host predicate "${predicate.string('name') ?? ''}" is not supported`);
  }
  return { previousHosts, omits: omits.length === 0 ? undefined : (host) => omits.some((omit) => omit(host)) };
}

function parsePriority(fields: Fields | undefined): number {
  if (fields === undefined) return 0;
  const { typeUrl, json } = typedConfig(fields.raw('typed_config') ?? {}, fields.at('typed_config'));
  if (typeUrl !== `${TYPE}.priority.previous_priorities.v3.PreviousPrioritiesConfig`) {
    return fields.fail('typed_config', `retry priority "${fields.string('name') ?? ''}" is not supported`);
  }
  return new Fields(json, fields.at('typed_config')).integer('update_frequency', 1) ?? 1;
}
