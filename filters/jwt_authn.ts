/** Verifies JSON Web Tokens and hands on what they claim. Envoy: envoy.extensions.filters.http.jwt_authn.v3. */
import type { FilterContext, FilterDeps, FilterFactory, FilterStatus } from '../proxy/http/filter.ts';
import { RequestHeaders } from '../proxy/http/headers.ts';
import { callCluster } from '../proxy/http/internal_call.ts';
import { type FetchKeys, type KeySource, RemoteKeySource } from '../proxy/policy/jwt/key_source.ts';
import { stripToken } from '../proxy/policy/jwt/locations.ts';
import { type JwtProvider, parseProvider, type RemoteKeys } from '../proxy/policy/jwt/provider.ts';
import { type JwtRequirement, parseRequirement } from '../proxy/policy/jwt/requirement.ts';
import { JWT_STATUS, type JwtStatus } from '../proxy/policy/jwt/token.ts';
import { type Accepted, type Decision, JwtVerifier, Lessons, ProviderTokens } from '../proxy/policy/jwt/verifier.ts';
import { conditionsMatch, parseRouteMatch, pathMatches, type RouteMatch } from '../proxy/router/route_match.ts';
import { withoutQuery } from '../proxy/policy/facts.ts';
import { Fields } from '../proxy/resource_fields.ts';

interface JwtRule {
  readonly match: RouteMatch;
  /** undefined: nothing is required there. */
  readonly requirement: JwtRequirement | undefined;
}

interface JwtConfig {
  readonly providers: ReadonlyMap<string, JwtProvider>;
  readonly rules: readonly JwtRule[];
  readonly requirements: ReadonlyMap<string, JwtRequirement | undefined>;
  readonly bypassCorsPreflight: boolean;
  readonly stripFailureResponse: boolean;
  readonly statPrefix: string;
}

interface JwtRouteConfig {
  readonly disabled: boolean;
  readonly requirementName: string;
}

const NAMESPACE = 'envoy.filters.http.jwt_authn';
const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.';
const NEVER = new AbortController().signal;
/** Envoy cuts the path of the realm. */
const MAX_REALM_PATH = 256;

export default {
  typeUrls: [`${TYPE}JwtAuthentication`],
  parse,
  routeTypeUrls: [`${TYPE}PerRouteConfig`],
  parseRoute(json): JwtRouteConfig {
    const fields = new Fields(json);
    const requirementName = fields.string('requirement_name') ?? '';
    const disabled = fields.boolean('disabled') ?? false;
    if (!disabled && requirementName === '') fields.fail('disabled', 'disabled or requirement_name is required');
    return { disabled, requirementName };
  },
  create(config, deps) {
    const counter = (name: string) => deps.counter(`jwt_authn.${config.statPrefix}${name}`);
    const counters = {
      allowed: counter('allowed'),
      denied: counter('denied'),
      preflight: counter('cors_preflight_bypassed'),
    };
    const providers = makeProviders(config, deps);
    const verifier = new JwtVerifier(providers, () => Date.now() / 1000);
    const made = [...new Set([...config.providers.values()].flatMap(madeHeaders))];

    const settle = (ctx: FilterContext, headers: RequestHeaders, decision: Decision): FilterStatus => {
      if (decision.status !== JWT_STATUS.ok) {
        counters.denied.inc();
        return deny(ctx, headers, decision.status, config.stripFailureResponse);
      }
      counters.allowed.inc();
      for (const accepted of decision.accepted) apply(ctx, headers, accepted);
      return 'continue';
    };
    const wait = async (
      ctx: FilterContext,
      headers: RequestHeaders,
      requirement: JwtRequirement,
      lessons: Lessons,
      waiting: readonly Promise<void>[],
    ): Promise<FilterStatus> => {
      let pending = waiting;
      for (;;) {
        await Promise.all(pending);
        const again = verifier.decide(requirement, headers, lessons);
        if (!('length' in again)) return ctx.signal.aborted ? 'stop' : settle(ctx, headers, again);
        pending = again;
      }
    };
    return {
      decodeHeaders(ctx, headers) {
        // What only this filter may say is never taken from a client.
        for (const name of made) headers.remove(name);
        if (config.bypassCorsPreflight && isPreflight(headers)) {
          counters.preflight.inc();
          return 'continue';
        }
        const requirement = requirementOf(config, ctx, headers);
        if (requirement === 'unknown') {
          counters.denied.inc();
          return ctx.sendLocalReply(
            403,
            '',
            'jwt_authn_access_denied{unknown_requirement}',
            'Jwt requirement is unknown',
          );
        }
        if (requirement === undefined) {
          counters.allowed.inc();
          return 'continue';
        }
        const lessons = new Lessons();
        const decision = verifier.decide(requirement, headers, lessons);
        if ('length' in decision) return wait(ctx, headers, requirement, lessons, decision);
        return settle(ctx, headers, decision);
      },
    };
  },
} satisfies FilterFactory<JwtConfig, undefined, JwtRouteConfig>;

function parse(json: unknown): JwtConfig {
  const fields = new Fields(json);
  if (fields.has('filter_state_rules')) {
    fields.fail('filter_state_rules', 'requirements by filter state are not executed by this version');
  }
  const providers = new Map(
    fields.entries('providers').map(([name, item]) => {
      const provider = new Fields(item, `${fields.at('providers')}["${name}"]`);
      if (provider.has('failed_status_in_metadata')) {
        provider.fail('failed_status_in_metadata', 'is not executed by this version');
      }
      return [name, parseProvider(name, provider)] as const;
    }),
  );
  const requirements = new Map(
    fields
      .entries('requirement_map')
      .map(
        ([name, item]) =>
          [name, parseRequirement(new Fields(item, `${fields.at('requirement_map')}["${name}"]`), providers)] as const,
      ),
  );
  const prefix = fields.string('stat_prefix') ?? '';
  return {
    providers,
    requirements,
    rules: fields.messages('rules').map((rule) => parseRule(rule, providers, requirements)),
    bypassCorsPreflight: fields.boolean('bypass_cors_preflight') ?? false,
    stripFailureResponse: fields.boolean('strip_failure_response') ?? false,
    statPrefix: prefix === '' || prefix.endsWith('.') ? prefix : `${prefix}.`,
  };
}

function parseRule(
  rule: Fields,
  providers: ReadonlyMap<string, JwtProvider>,
  requirements: ReadonlyMap<string, JwtRequirement | undefined>,
): JwtRule {
  const match = parseRouteMatch(rule.requiredMessage('match'));
  if (match.fraction !== undefined)
    rule.fail('match.runtime_fraction', 'a share of requests cannot be without authentication');
  const name = rule.string('requirement_name');
  if (name !== undefined && name !== '') {
    if (!requirements.has(name)) rule.fail('requirement_name', `requirement_map has no "${name}"`);
    return { match, requirement: requirements.get(name) };
  }
  const requires = rule.message('requires');
  return { match, requirement: requires === undefined ? undefined : parseRequirement(requires, providers) };
}

function makeProviders(config: JwtConfig, deps: FilterDeps): ReadonlyMap<JwtProvider, ProviderTokens> {
  const fetched = deps.counter(`jwt_authn.${config.statPrefix}jwks_fetch_success`);
  const failed = deps.counter(`jwt_authn.${config.statPrefix}jwks_fetch_failed`);
  const fetch = fetcher(deps);
  const out = new Map<JwtProvider, ProviderTokens>();
  for (const provider of config.providers.values()) {
    const { keys } = provider;
    const source = (changed: () => void): KeySource => {
      if ('inline' in keys) return { keys: () => keys.inline };
      const remote = new RemoteKeySource(keys.remote, fetch, deps.nowMs, changed, (error) =>
        (error === undefined ? fetched : failed).inc(),
      );
      if (keys.remote.ahead) void remote.keys();
      return remote;
    };
    out.set(provider, new ProviderTokens(provider, source));
  }
  return out;
}

/** Through the named cluster, with its balancer, transport and limits. */
function fetcher(deps: FilterDeps): FetchKeys {
  return async (remote: RemoteKeys) => {
    const url = new URL(remote.uri);
    const headers = new RequestHeaders();
    headers.authority = url.host;
    headers.scheme = url.protocol.slice(0, -1);
    headers.path = url.pathname + url.search;
    const answer = await callCluster(
      deps.clusters,
      deps.deadlines,
      remote.cluster,
      { headers, timeoutMs: remote.timeoutMs },
      NEVER,
    );
    // A redirect would let whoever answers it choose the keys (attacks.md row 52).
    if (answer.headers.status !== 200) throw new Error(`${remote.uri} answered ${answer.headers.status}`);
    return answer.body.toString();
  };
}

function madeHeaders(provider: JwtProvider): string[] {
  const claims = provider.claimHeaders.map(({ header }) => header);
  return provider.payloadHeader === '' ? claims : [provider.payloadHeader, ...claims];
}

function isPreflight(headers: RequestHeaders): boolean {
  return (
    headers.method === 'OPTIONS' &&
    (headers.get('origin') ?? '') !== '' &&
    (headers.get('access-control-request-method') ?? '') !== ''
  );
}

/** The route's own, else that of the first rule that matches. `unknown`: the route names one that is not there. */
function requirementOf(
  config: JwtConfig,
  ctx: FilterContext,
  headers: RequestHeaders,
): JwtRequirement | 'unknown' | undefined {
  const route = ctx.routeConfig<JwtRouteConfig>();
  if (route !== undefined) {
    if (route.disabled) return undefined;
    return config.requirements.has(route.requirementName) ? config.requirements.get(route.requirementName) : 'unknown';
  }
  const path = withoutQuery(headers.path);
  for (const { match, requirement } of config.rules) {
    const key = 'ignoreCase' in match.path && match.path.ignoreCase ? path.toLowerCase() : path;
    const fits = match.path.kind === 'connect' ? headers.method === 'CONNECT' : pathMatches(match.path, key, path);
    if (
      fits &&
      conditionsMatch(match, headers, { info: ctx.info, randomValue: 0 } as Parameters<typeof conditionsMatch>[2])
    ) {
      return requirement;
    }
  }
  return undefined;
}

function apply(ctx: FilterContext, headers: RequestHeaders, { tokens: { provider }, token }: Accepted): void {
  if (!provider.forward) for (const location of provider.locations) stripToken(location, headers);
  for (const [name, value] of token.headers) headers.set(name, value);
  if (token.metadata !== undefined) {
    ctx.info.dynamicMetadata ??= new Map();
    const before = ctx.info.dynamicMetadata.get(NAMESPACE);
    ctx.info.dynamicMetadata.set(NAMESPACE, before === undefined ? token.metadata : { ...before, ...token.metadata });
  }
  if (provider.clearRouteCache) ctx.clearRouteCache();
}

function deny(ctx: FilterContext, headers: RequestHeaders, status: JwtStatus, silent: boolean): 'stop' {
  const code = status === JWT_STATUS.audienceNotAllowed ? 403 : 401;
  const details = `jwt_authn_access_denied{${status.replaceAll(' ', '_')}}`;
  const realm = realmOf(headers);
  return ctx.sendLocalReply(code, '', details, silent ? '' : status, (reply) => {
    if (silent) return;
    const error = status === JWT_STATUS.missing ? '' : ', error="invalid_token"';
    reply.set('www-authenticate', `Bearer realm="${realm}"${error}`);
  });
}

/** The request's own URI, in which nothing can end the quotes. */
function realmOf(headers: RequestHeaders): string {
  const path = (headers.get('x-envoy-original-path') ?? headers.path).slice(0, MAX_REALM_PATH);
  return `${headers.scheme}://${headers.authority}${path}`.replaceAll('"', '%22').replaceAll('\\', '%5C');
}
