/**
 * Asks a rate-limit service whether a request may pass, by the descriptors that the route's rate_limits make of it.
 * Envoy: envoy.extensions.filters.http.ratelimit.v3.RateLimit.
 */
import type { FilterContext, FilterDeps, FilterFactory, FilterStatus } from '../proxy/http/filter.ts';
import type { RequestHeaders } from '../proxy/http/headers.ts';
import { type LimitAnswer, rateLimitAnswer, rateLimitRequest } from '../proxy/policy/ratelimit/protocol.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { type Descriptor, parseRateLimits, type RateLimitPolicy } from '../proxy/router/rate_limit_actions.ts';
import { refuseUnexecuted } from '../proxy/unexecuted_fields.ts';

const PACKAGE = 'type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.';

interface RateLimitConfig {
  readonly domain: string;
  readonly stage: number;
  readonly requests: 'internal' | 'external' | 'both';
  /** Default 20; 0: none. */
  readonly timeoutMs: number;
  readonly cluster: string;
  readonly authority: string;
  /** When the service does not answer: refuse. Default: pass. */
  readonly failureModeDeny: boolean;
  readonly statusOnError: number;
  readonly limitedStatus: number;
  readonly xRateLimitHeaders: boolean;
  readonly disableEnvoyHeader: boolean;
  readonly asResourceExhausted: boolean;
}

interface RateLimitRoute {
  readonly domain: string;
  /** Own policies, instead of the route's. */
  readonly policies: readonly RateLimitPolicy[];
}

interface RateLimitState {
  answer: LimitAnswer | undefined;
}

/** What "no timeout" is to the internal client. */
const FOREVER_MS = 24 * 3_600_000;

export default {
  typeUrls: [`${PACKAGE}RateLimit`],
  parse,
  routeTypeUrls: [`${PACKAGE}RateLimitPerRoute`],
  parseRoute(json: unknown): RateLimitRoute {
    const fields = new Fields(json);
    refuseUnexecuted(fields, 'RateLimitPerRoute');
    if ((fields.string('override_option') ?? 'DEFAULT') !== 'DEFAULT')
      fields.fail('override_option', 'is not supported');
    return { domain: fields.string('domain') ?? '', policies: parseRateLimits(fields.messages('rate_limits')) };
  },
  create(config, deps) {
    const ask = asker(config, deps);
    return {
      newState: (): RateLimitState => ({ answer: undefined }),
      decodeHeaders(ctx, headers, _endStream, state) {
        if (config.requests !== 'both' && ctx.info.internal !== (config.requests === 'internal')) return 'continue';
        const ofRoute = ctx.routeConfig<RateLimitRoute>();
        const policies =
          ofRoute !== undefined && ofRoute.policies.length > 0 ? ofRoute.policies : (ctx.route()?.rateLimits ?? []);
        const descriptors: Descriptor[] = [];
        for (const policy of policies) {
          if (policy.stage !== config.stage) continue;
          const descriptor = policy.descriptor(ctx, headers);
          if (descriptor !== undefined) descriptors.push(descriptor);
        }
        if (descriptors.length === 0) return 'continue';
        return ask(ctx, headers, ofRoute?.domain || config.domain, descriptors, state);
      },
      encodeHeaders(_ctx, headers, _endStream, { answer }) {
        if (answer === undefined) return 'continue';
        for (const [name, value] of answer.responseHeaders) headers.append(name, value);
        if (config.xRateLimitHeaders && answer.tightest !== undefined) {
          headers.set('x-ratelimit-limit', String(answer.tightest.perUnit));
          headers.set('x-ratelimit-remaining', String(answer.tightest.remaining));
          headers.set('x-ratelimit-reset', String(answer.tightest.resetSeconds));
        }
        return 'continue';
      },
    };
  },
} satisfies FilterFactory<RateLimitConfig, RateLimitState, RateLimitRoute>;

type Ask = (
  ctx: FilterContext,
  headers: RequestHeaders,
  domain: string,
  descriptors: readonly Descriptor[],
  state: RateLimitState,
) => Promise<FilterStatus>;

function asker(config: RateLimitConfig, deps: FilterDeps): Ask {
  const ok = deps.counter('ratelimit.ok');
  const overLimit = deps.counter('ratelimit.over_limit');
  const errors = deps.counter('ratelimit.error');
  const allowed = deps.counter('ratelimit.failure_mode_allowed');
  const failed = (ctx: FilterContext): FilterStatus => {
    errors.inc();
    if (!config.failureModeDeny) {
      allowed.inc();
      return 'continue';
    }
    return ctx.sendLocalReply(config.statusOnError, 'RLSE', 'rate_limiter_error', '');
  };
  return async (ctx, headers, domain, descriptors, state) => {
    let answer: LimitAnswer | undefined;
    try {
      answer = rateLimitAnswer(
        await ctx.call(
          config.cluster,
          rateLimitRequest(domain, descriptors, config.authority, config.timeoutMs || FOREVER_MS),
        ),
      );
    } catch {
      return failed(ctx);
    }
    if (answer === undefined) return failed(ctx);
    const found = answer;
    state.answer = found;
    if (!found.overLimit) {
      ok.inc();
      for (const [name, value] of found.requestHeaders) headers.append(name, value);
      return 'continue';
    }
    overLimit.inc();
    return ctx.sendLocalReply(config.limitedStatus, 'RL', 'request_rate_limited', found.rawBody, (reply) => {
      if (config.asResourceExhausted && reply.has('grpc-status')) reply.set('grpc-status', '8');
      if (!config.disableEnvoyHeader) reply.set('x-envoy-ratelimited', 'true');
    });
  };
}

function parse(json: unknown): RateLimitConfig {
  const fields = new Fields(json);
  const service = fields.requiredMessage('rate_limit_service').requiredMessage('grpc_service');
  if (service.has('google_grpc')) service.fail('google_grpc', 'is not supported: name a cluster with envoy_grpc');
  const grpc = service.requiredMessage('envoy_grpc');
  refuseUnexecuted(fields, 'RateLimit');
  refuseUnexecuted(service, 'RateLimitGrpcService');
  refuseUnexecuted(grpc, 'EnvoyGrpc');
  for (const name of [
    'filter_enabled',
    'filter_enforced',
    'failure_mode_deny_percent',
    'response_headers_to_add',
    'rate_limits',
  ]) {
    if (fields.has(name)) fields.fail(name, 'is not supported');
  }
  const cluster = grpc.requiredString('cluster_name');
  return {
    domain: fields.requiredString('domain'),
    stage: fields.integer('stage', 0, 10) ?? 0,
    requests: fields.oneOf('request_type', ['internal', 'external', 'both', ''], 'both') || 'both',
    timeoutMs: fields.durationMs('timeout') ?? 20,
    cluster,
    authority: grpc.string('authority') || cluster,
    failureModeDeny: fields.boolean('failure_mode_deny') ?? false,
    statusOnError: fields.message('status_on_error')?.integer('code', 400, 599) ?? 500,
    limitedStatus: fields.message('rate_limited_status')?.integer('code', 400, 599) ?? 429,
    xRateLimitHeaders: fields.oneOf('enable_x_ratelimit_headers', ['OFF', 'DRAFT_VERSION_03'], 'OFF') !== 'OFF',
    disableEnvoyHeader: fields.boolean('disable_x_envoy_ratelimited_header') ?? false,
    asResourceExhausted: fields.boolean('rate_limited_as_resource_exhausted') ?? false,
  };
}
