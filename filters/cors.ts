/** Answers preflight requests and names allowed origins in responses. Envoy: envoy.extensions.filters.http.cors.v3. */
import type { FilterContext, FilterFactory } from '../proxy/http/filter.ts';
import type { ResponseHeaders } from '../proxy/http/headers.ts';
import { parseStringMatcher, type StringMatcher } from '../proxy/http/matchers.ts';
import { ALWAYS, draws, type Fraction, NEVER, parseRuntimeFraction } from '../proxy/fractional_percent.ts';
import { Fields } from '../proxy/resource_fields.ts';

/** envoy.extensions.filters.http.cors.v3.CorsPolicy; undefined fields leave the choice to a less specific level. */
interface CorsPolicy {
  readonly origins: readonly StringMatcher[];
  /** Comma-joined, '*' echoes what was asked for; '' is unset. */
  readonly methods: string;
  readonly headers: string;
  readonly expose: string;
  /** Seconds, as text. */
  readonly maxAge: string;
  readonly credentials: boolean | undefined;
  readonly privateNetwork: boolean | undefined;
  /** Default true. */
  readonly forwardUnmatchedPreflights: boolean | undefined;
  readonly enabled: Fraction;
  readonly shadow: Fraction;
}

interface CorsState {
  policy: CorsPolicy | undefined;
  /** '' unless it is an allowed one. */
  origin: string;
}

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors'],
  parse: () => undefined,
  routeTypeUrls: ['type.googleapis.com/envoy.extensions.filters.http.cors.v3.CorsPolicy'],
  parseRoute: parsePolicy,
  create(_config, deps) {
    const originValid = deps.counter('cors.origin_valid');
    const originInvalid = deps.counter('cors.origin_invalid');
    const merged = new WeakMap<readonly CorsPolicy[], CorsPolicy>();
    const policyOf = (ctx: FilterContext): CorsPolicy | undefined => {
      const levels = ctx.routeConfigs<CorsPolicy>();
      if (levels.length === 0) return undefined;
      let policy = merged.get(levels);
      if (policy === undefined) {
        policy = mergePolicies(levels);
        merged.set(levels, policy);
      }
      return policy;
    };
    return {
      newState: (): CorsState => ({ policy: undefined, origin: '' }),
      decodeHeaders(ctx, headers, _endStream, state) {
        const origin = headers.get('origin');
        if (origin === undefined || origin === '') return 'continue';
        const policy = policyOf(ctx);
        if (policy === undefined) return 'continue';
        const enabled = draws(policy.enabled, deps.random);
        if (!enabled && !draws(policy.shadow, deps.random)) return 'continue';
        const allowed = policy.origins.some((matcher) => matcher.matches(origin) || matcher.matches('*'));
        (allowed ? originValid : originInvalid).inc();
        if (!enabled) return 'continue';
        if (allowed) {
          state.policy = policy;
          state.origin = origin;
        }
        const isPreflight = headers.method === 'OPTIONS' && (headers.get('access-control-request-method') ?? '') !== '';
        if (!isPreflight || (!allowed && policy.forwardUnmatchedPreflights !== false)) return 'continue';
        // The reply passes encodeHeaders too, which would set the same origin again and expose headers nobody asked for.
        state.policy = undefined;
        return ctx.sendLocalReply(200, '', 'cors_response', '', (reply) => {
          if (allowed) reply.set('access-control-allow-origin', origin);
          answerPreflight(policy, headers, reply);
        });
      },
      encodeHeaders(_ctx, headers, _endStream, { policy, origin }) {
        if (policy === undefined) return 'continue';
        headers.set('access-control-allow-origin', origin);
        if (policy.credentials === true) headers.set('access-control-allow-credentials', 'true');
        if (policy.expose !== '') headers.set('access-control-expose-headers', policy.expose);
        return 'continue';
      },
    };
  },
} satisfies FilterFactory<undefined, CorsState, CorsPolicy>;

function answerPreflight(
  policy: CorsPolicy,
  request: { get(name: string): string | undefined },
  reply: ResponseHeaders,
): void {
  if (policy.credentials === true) reply.set('access-control-allow-credentials', 'true');
  const echoed = (value: string, asked: string): string => (value === '*' ? (request.get(asked) ?? '') : value);
  for (const [name, value] of [
    ['access-control-allow-methods', echoed(policy.methods, 'access-control-request-method')],
    ['access-control-allow-headers', echoed(policy.headers, 'access-control-request-headers')],
    ['access-control-max-age', policy.maxAge],
  ] as const) {
    if (value !== '') reply.set(name, value);
  }
  if (policy.privateNetwork === true && request.get('access-control-request-private-network') === 'true') {
    reply.set('access-control-allow-private-network', 'true');
  }
}

/** @throws {ConfigError} */
function parsePolicy(json: unknown): CorsPolicy {
  const fields = new Fields(json);
  return {
    origins: fields.messages('allow_origin_string_match').map(parseStringMatcher),
    methods: fields.string('allow_methods') ?? '',
    headers: fields.string('allow_headers') ?? '',
    expose: fields.string('expose_headers') ?? '',
    maxAge: fields.string('max_age') ?? '',
    credentials: fields.boolean('allow_credentials'),
    privateNetwork: fields.boolean('allow_private_network_access'),
    forwardUnmatchedPreflights: fields.boolean('forward_not_matching_preflights'),
    enabled: parseRuntimeFraction(fields.message('filter_enabled'), ALWAYS),
    shadow: parseRuntimeFraction(fields.message('shadow_enabled'), NEVER),
  };
}

/** Each setting from the most specific level that has it; whether the filter runs, from the most specific level. */
function mergePolicies(leastSpecificFirst: readonly CorsPolicy[]): CorsPolicy {
  return leastSpecificFirst.reduce((less, more) => ({
    origins: more.origins.length > 0 ? more.origins : less.origins,
    methods: more.methods || less.methods,
    headers: more.headers || less.headers,
    expose: more.expose || less.expose,
    maxAge: more.maxAge || less.maxAge,
    credentials: more.credentials ?? less.credentials,
    privateNetwork: more.privateNetwork ?? less.privateNetwork,
    forwardUnmatchedPreflights: more.forwardUnmatchedPreflights ?? less.forwardUnmatchedPreflights,
    enabled: more.enabled,
    shadow: more.shadow,
  }));
}
