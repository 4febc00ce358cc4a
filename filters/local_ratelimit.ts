/**
 * Limits requests by token buckets that all threads of this proxy share: one for the chain or the route, and one for
 * each descriptor. Envoy: envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit.
 */
import { draws, type Fraction, NEVER, parseRuntimeFraction } from '../proxy/fractional_percent.ts';
import type { FilterContext, FilterFactory } from '../proxy/http/filter.ts';
import type { RequestHeaders } from '../proxy/http/headers.ts';
import { ownBucket, type TokenBucket, type TokenBucketConfig } from '../proxy/http/token_buckets.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { parseHeaderMutations, type HeaderMutations } from '../proxy/router/header_mutations.ts';
import { type Descriptor, parseRateLimits, type RateLimitPolicy } from '../proxy/router/rate_limit_actions.ts';
import type { Counter } from '../proxy/telemetry/statistics.ts';
import { refuseUnexecuted } from '../proxy/unexecuted_fields.ts';

const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit';

interface LocalLimit {
  /** Tells configurations apart that look alike. */
  readonly text: string;
  readonly statPrefix: string;
  readonly status: number;
  /** undefined: nothing is limited. */
  readonly bucket: TokenBucketConfig | undefined;
  readonly descriptors: readonly { readonly descriptor: Descriptor; readonly bucket: TokenBucketConfig }[];
  readonly enabled: Fraction;
  readonly enforced: Fraction;
  readonly requestMutations: HeaderMutations | undefined;
  readonly responseMutations: HeaderMutations | undefined;
  readonly stage: number;
  readonly perConnection: boolean;
  readonly xRateLimitHeaders: boolean;
  readonly alwaysConsumesDefault: boolean;
  readonly asResourceExhausted: boolean;
  /** Own policies, instead of the route's. */
  readonly rateLimits: readonly RateLimitPolicy[];
}

interface Made {
  readonly enabled: Counter;
  readonly enforced: Counter;
  readonly limited: Counter;
  readonly ok: Counter;
  readonly bucket: TokenBucket | undefined;
  readonly byDescriptor: ReadonlyMap<string, TokenBucket>;
}

interface LimitState {
  /** The bucket that decided, for X-RateLimit headers. */
  bucket: TokenBucket | undefined;
}

export default {
  typeUrls: [TYPE],
  parse,
  routeTypeUrls: [TYPE],
  parseRoute: parse,
  create(config, deps) {
    // One for each configuration and place that it is used in: routes do not share a bucket.
    const made = new Map<LocalLimit, Map<string, Made>>();
    const madeFor = (limit: LocalLimit, place: string): Made => {
      const places = made.get(limit) ?? new Map<string, Made>();
      made.set(limit, places);
      let one = places.get(place);
      if (one === undefined) {
        const counter = (name: string): Counter =>
          deps.statistics.counter(`${limit.statPrefix}.http_local_rate_limit.${name}`);
        const key = `${place} ${limit.text}`;
        one = {
          enabled: counter('enabled'),
          enforced: counter('enforced'),
          limited: counter('rate_limited'),
          ok: counter('ok'),
          bucket: limit.bucket === undefined ? undefined : deps.tokenBuckets.open(key, limit.bucket),
          byDescriptor: new Map(
            limit.descriptors.map(({ descriptor, bucket }) => {
              const text = JSON.stringify(descriptor);
              return [text, deps.tokenBuckets.open(`${key} ${text}`, bucket)];
            }),
          ),
        };
        places.set(place, one);
      }
      return one;
    };
    return {
      newState: (): LimitState => ({ bucket: undefined }),
      decodeHeaders(ctx, headers, _endStream, state) {
        const ofRoute = ctx.routeConfig<LocalLimit>();
        const limit = ofRoute ?? config;
        if (limit.bucket === undefined && limit.descriptors.length === 0) return 'continue';
        const one = madeFor(limit, ofRoute === undefined ? '' : placeOf(ctx));
        if (!draws(limit.enabled, deps.random)) return 'continue';
        one.enabled.inc();
        if (allows(limit, one, ctx, headers, state)) {
          one.ok.inc();
          return 'continue';
        }
        one.limited.inc();
        if (!draws(limit.enforced, deps.random)) {
          limit.requestMutations?.apply(headers, ctx);
          return 'continue';
        }
        one.enforced.inc();
        return ctx.sendLocalReply(limit.status, 'RL', 'local_rate_limited', 'local_rate_limited', (reply) => {
          if (limit.asResourceExhausted && reply.has('grpc-status')) reply.set('grpc-status', '8');
          limit.responseMutations?.apply(reply, ctx);
        });
      },
      encodeHeaders(ctx, headers, _endStream, { bucket }) {
        if (bucket === undefined || !(ctx.routeConfig<LocalLimit>() ?? config).xRateLimitHeaders) return 'continue';
        headers.set('x-ratelimit-limit', String(bucket.config.maxTokens));
        headers.set('x-ratelimit-remaining', String(bucket.remaining));
        headers.set('x-ratelimit-reset', String(Math.ceil(bucket.untilFillMs / 1000)));
        return 'continue';
      },
    };
  },
} satisfies FilterFactory<LocalLimit, LimitState, LocalLimit>;

function placeOf(ctx: FilterContext): string {
  const route = ctx.route();
  return route === undefined ? '' : `${route.virtualHostName} ${route.name}`;
}

function allows(
  limit: LocalLimit,
  made: Made,
  ctx: FilterContext,
  headers: RequestHeaders,
  state: LimitState,
): boolean {
  let found = false;
  if (made.byDescriptor.size > 0) {
    const policies = limit.rateLimits.length > 0 ? limit.rateLimits : (ctx.route()?.rateLimits ?? []);
    for (const policy of policies) {
      if (policy.stage !== limit.stage) continue;
      const descriptor = policy.descriptor(ctx, headers);
      const bucket = descriptor === undefined ? undefined : made.byDescriptor.get(JSON.stringify(descriptor));
      if (bucket === undefined) continue;
      found = true;
      if (state.bucket === undefined || bucket.remaining < state.bucket.remaining) state.bucket = bucket;
      if (!bucket.take()) {
        state.bucket = bucket;
        return false;
      }
    }
  }
  if (found && !limit.alwaysConsumesDefault) return true;
  const bucket = limit.perConnection ? connectionBucket(limit, ctx) : made.bucket;
  if (bucket === undefined) return true;
  if (state.bucket === undefined) state.bucket = bucket;
  if (bucket.take()) return true;
  state.bucket = bucket;
  return false;
}

/** local_rate_limit_per_downstream_connection: a bucket that lives as long as the connection. */
const ofConnections = new WeakMap<object, Map<LocalLimit, TokenBucket>>();

function connectionBucket(limit: LocalLimit, ctx: FilterContext): TokenBucket | undefined {
  if (limit.bucket === undefined) return undefined;
  const buckets = ofConnections.get(ctx.connection) ?? new Map<LocalLimit, TokenBucket>();
  ofConnections.set(ctx.connection, buckets);
  let bucket = buckets.get(limit);
  if (bucket === undefined) {
    bucket = ownBucket(limit.bucket);
    buckets.set(limit, bucket);
  }
  return bucket;
}

function parse(json: unknown): LocalLimit {
  const fields = new Fields(json);
  refuseUnexecuted(fields, 'LocalRateLimit');
  const bucket = fields.message('token_bucket');
  const status = fields.message('status')?.integer('code', 400, 599) ?? 429;
  return {
    text: JSON.stringify(json),
    statPrefix: fields.requiredString('stat_prefix'),
    status,
    bucket: bucket === undefined ? undefined : parseBucket(bucket),
    descriptors: fields.messages('descriptors').map((descriptor) => ({
      descriptor: descriptor
        .messages('entries')
        .map((entry) => ({ key: entry.requiredString('key'), value: entry.requiredString('value') })),
      bucket: parseBucket(descriptor.requiredMessage('token_bucket')),
    })),
    enabled: parseRuntimeFraction(fields.message('filter_enabled'), NEVER),
    enforced: parseRuntimeFraction(fields.message('filter_enforced'), NEVER),
    requestMutations: mutations(fields, 'request_headers_to_add_when_not_enforced', 'request'),
    responseMutations: mutations(fields, 'response_headers_to_add', 'response'),
    stage: fields.integer('stage', 0, 10) ?? 0,
    perConnection: fields.boolean('local_rate_limit_per_downstream_connection') ?? false,
    xRateLimitHeaders: fields.oneOf('enable_x_ratelimit_headers', ['OFF', 'DRAFT_VERSION_03'], 'OFF') !== 'OFF',
    alwaysConsumesDefault: fields.boolean('always_consume_default_token_bucket') ?? true,
    asResourceExhausted: fields.boolean('rate_limited_as_resource_exhausted') ?? false,
    rateLimits: parseRateLimits(fields.messages('rate_limits')),
  };
}

function mutations(fields: Fields, name: string, kind: 'request' | 'response'): HeaderMutations | undefined {
  const list = fields.raw(name);
  return list === undefined
    ? undefined
    : parseHeaderMutations(new Fields({ [`${kind}_headers_to_add`]: list }, fields.path), kind);
}

function parseBucket(fields: Fields): TokenBucketConfig {
  const maxTokens = fields.integer('max_tokens', 1, 2 ** 30);
  if (maxTokens === undefined) return fields.fail('max_tokens', 'is required');
  const fillIntervalMs = fields.durationMs('fill_interval');
  if (fillIntervalMs === undefined) return fields.fail('fill_interval', 'is required');
  if (fillIntervalMs < 50) fields.fail('fill_interval', `must be at least 0.05s, got ${fillIntervalMs / 1000}s`);
  return { maxTokens, tokensPerFill: fields.integer('tokens_per_fill', 1, 2 ** 30) ?? 1, fillIntervalMs };
}
