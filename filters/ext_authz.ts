/** Asks an external service whether a request may go on. Envoy: envoy.extensions.filters.http.ext_authz.v3. */
import type { FilterContext, FilterDeps, FilterFactory, FilterStatus, MutableBody } from '../proxy/http/filter.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from '../proxy/http/headers.ts';
import type { CheckFacts } from '../proxy/policy/ext_authz/check_request.ts';
import {
  type BodySettings,
  type ExtAuthzConfig,
  type GrpcService,
  type HttpService,
  parseBody,
  parseExtAuthz,
  parseService,
} from '../proxy/policy/ext_authz/config.ts';
import { grpcCheckRequest, grpcVerdict } from '../proxy/policy/ext_authz/grpc_check.ts';
import { httpCheckRequest, httpVerdict } from '../proxy/policy/ext_authz/http_check.ts';
import { changeQuery } from '../proxy/policy/ext_authz/query.ts';
import type { CheckBody, HeaderChange, Verdict } from '../proxy/policy/ext_authz/verdict.ts';
import { PolicyFacts } from '../proxy/policy/facts.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { draws } from '../proxy/fractional_percent.ts';
import { isOn } from '../proxy/runtime_values.ts';

interface RouteConfig {
  readonly disabled: boolean;
  readonly contextExtensions: Readonly<Record<string, string>>;
  readonly service: HttpService | GrpcService | undefined;
  /** null: none is kept whatever the filter says. */
  readonly body: BodySettings | null | undefined;
}

interface ExtAuthzState {
  /** Collecting a body: what there is of it, and whom to ask. */
  collecting: BodySettings | undefined;
  chunks: Buffer[];
  bytes: number;
  asked: boolean;
  /** For the response, once the request was let through. */
  response: readonly HeaderChange[];
}

const NAMESPACE = 'envoy.filters.http.ext_authz';
const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.';
const NOTHING: Readonly<Record<string, string>> = {};
const NO_CHANGES: readonly HeaderChange[] = [];

export default {
  typeUrls: [`${TYPE}ExtAuthz`],
  parse: (json) => parseExtAuthz(new Fields(json)),
  routeTypeUrls: [`${TYPE}ExtAuthzPerRoute`],
  parseRoute,
  create(config, deps) {
    const counters = makeCounters(config, deps);
    const facts = new PolicyFacts();

    const ask = async (
      ctx: FilterContext,
      state: ExtAuthzState,
      body: CheckBody | undefined,
      settings: BodySettings | undefined,
    ): Promise<FilterStatus> => {
      state.asked = true;
      const verdict = await decide(config, ctx, body, settings);
      if (ctx.signal.aborted) return 'stop';
      return act(verdict, ctx, state);
    };

    const act = (verdict: Verdict, ctx: FilterContext, state: ExtAuthzState): FilterStatus => {
      if (verdict.kind === 'error') {
        counters.error.inc();
        ctx.info.dynamicMetadata ??= new Map();
        if (config.failureModeAllow) {
          counters.failureModeAllowed.inc();
          if (config.failureModeHeader) ctx.requestHeaders.set('x-envoy-auth-failure-mode-allowed', 'true');
          return 'continue';
        }
        return ctx.sendLocalReply(config.statusOnError, 'UAEX', 'ext_authz_error');
      }
      if (verdict.kind === 'denied') {
        if (!areSendable(verdict.headers)) return invalid(ctx);
        counters.denied.inc();
        return ctx.sendLocalReply(verdict.status, 'UAEX', 'ext_authz_denied', verdict.body, (reply) => {
          for (const change of verdict.headers) applyChange(reply, change);
        });
      }
      if (!areSendable(verdict.request) || !areSendable(verdict.response)) return invalid(ctx);
      counters.ok.inc();
      allow(config, verdict, ctx);
      state.response = verdict.response;
      return 'continue';
    };

    /** An answer that would split a message is none. */
    const invalid = (ctx: FilterContext): 'stop' => {
      counters.invalid.inc();
      return ctx.sendLocalReply(500, 'UAEX', 'ext_authz_invalid');
    };

    return {
      newState: (): ExtAuthzState => ({
        collecting: undefined,
        chunks: [],
        bytes: 0,
        asked: false,
        response: NO_CHANGES,
      }),
      decodeHeaders(ctx, headers, endStream, state) {
        const route = ctx.routeConfig<RouteConfig>();
        if (route?.disabled === true) return 'continue';
        if (config.enabledBy !== undefined) {
          facts.begin(ctx);
          if (!config.enabledBy(facts)) return skip(ctx, config, counters.disabled);
        }
        if (!draws(config.enabled, deps.random)) return skip(ctx, config, counters.disabled);
        const body = route?.body === undefined ? config.body : (route.body ?? undefined);
        // A tunnel has no end to wait for.
        const isTunnel = headers.method === 'CONNECT' || headers.has('upgrade');
        if (body === undefined || endStream || isTunnel) return ask(ctx, state, undefined, body);
        state.collecting = body;
        return 'buffer';
      },
      decodeData(ctx, { bytes }: MutableBody, endStream, state) {
        const settings = state.collecting;
        if (settings === undefined || state.asked) return 'continue';
        const room = settings.maxBytes - state.bytes;
        if (bytes.length > room && !settings.allowPartial) {
          return ctx.sendLocalReply(413, '', 'request_payload_too_large', 'Payload Too Large');
        }
        state.bytes += bytes.length;
        // Borrowed: the pass keeps its own copy for the upstream.
        if (room > 0) state.chunks.push(Buffer.from(bytes.subarray(0, room)));
        const full = settings.allowPartial && state.bytes >= settings.maxBytes;
        if (!endStream && !full) return 'buffer';
        return ask(ctx, state, collected(state, !endStream || state.bytes > settings.maxBytes), settings);
      },
      decodeTrailers(ctx, _trailers: Headers, state) {
        if (state.collecting === undefined || state.asked) return 'continue';
        return ask(ctx, state, collected(state, false), state.collecting);
      },
      encodeHeaders(_ctx, headers, _endStream, state) {
        for (const change of state.response) applyChange(headers, change);
        return 'continue';
      },
    };
  },
} satisfies FilterFactory<ExtAuthzConfig, ExtAuthzState, RouteConfig>;

function parseRoute(json: unknown): RouteConfig {
  const fields = new Fields(json);
  const disabled = fields.boolean('disabled') ?? false;
  const settings = fields.message('check_settings');
  if (!disabled && settings === undefined) fields.fail('disabled', 'disabled or check_settings is required');
  const extensions = settings?.entries('context_extensions').map(([name, value]) => [name, String(value)] as const);
  return {
    disabled,
    contextExtensions: Object.fromEntries(extensions ?? []),
    service: settings === undefined ? undefined : parseService(settings),
    body: settings?.boolean('disable_request_body_buffering')
      ? null
      : parseBody(settings?.message('with_request_body')),
  };
}

function makeCounters(config: ExtAuthzConfig, deps: FilterDeps) {
  const counter = (name: string) => deps.counter(`ext_authz.${config.statPrefix}${name}`);
  return {
    ok: counter('ok'),
    denied: counter('denied'),
    error: counter('error'),
    invalid: counter('invalid'),
    disabled: counter('disabled'),
    failureModeAllowed: counter('failure_mode_allowed'),
  };
}

function skip(ctx: FilterContext, config: ExtAuthzConfig, disabled: { inc(): void }): FilterStatus {
  disabled.inc();
  if (!isOn(config.denyAtDisable)) return 'continue';
  return ctx.sendLocalReply(config.statusOnError, 'UAEX', 'ext_authz_denied');
}

function collected({ chunks }: ExtAuthzState, partial: boolean): CheckBody {
  return { bytes: Buffer.concat(chunks), partial };
}

/** The request's own method goes to the authorizer, and this one would open a tunnel to it instead of asking it. */
const NOT_OVER_HTTP: Verdict = { kind: 'error', reason: 'a CONNECT cannot be asked about over HTTP' };

/** Never rejects: what fails decides nothing. */
async function decide(
  config: ExtAuthzConfig,
  ctx: FilterContext,
  body: CheckBody | undefined,
  settings: BodySettings | undefined,
): Promise<Verdict> {
  const route = ctx.routeConfig<RouteConfig>();
  const service = route?.service ?? config.service;
  try {
    if (service.kind === 'http') {
      if (ctx.requestHeaders.method === 'CONNECT') return NOT_OVER_HTTP;
      const request = httpCheckRequest(config, service, ctx.requestHeaders, body);
      return httpVerdict(service, await ctx.call(service.cluster, request));
    }
    const facts = factsOf(config, ctx, route?.contextExtensions ?? NOTHING, body, settings);
    return grpcVerdict(await ctx.call(service.cluster, grpcCheckRequest(service, facts)));
  } catch (error) {
    return { kind: 'error', reason: error instanceof Error ? error.message : String(error) };
  }
}

function factsOf(
  config: ExtAuthzConfig,
  ctx: FilterContext,
  contextExtensions: Readonly<Record<string, string>>,
  body: CheckBody | undefined,
  settings: BodySettings | undefined,
): CheckFacts {
  const { info } = ctx;
  const { allowedHeaders, disallowedHeaders } = config;
  const from = (namespaces: readonly string[], get: (name: string) => Record<string, unknown> | undefined) =>
    Object.fromEntries(namespaces.flatMap((name) => [[name, get(name)] as const])) as Record<
      string,
      Record<string, unknown>
    >;
  const present = (all: Record<string, Record<string, unknown> | undefined>) =>
    Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined)) as CheckFacts['metadata'];
  return {
    connection: ctx.connection,
    remoteAddress: info.remoteAddress,
    http: {
      headers: ctx.requestHeaders,
      id: info.requestId ?? '',
      protocol: info.protocol,
      timeMs: info.startTimeMs,
      includes: (name) => disallowedHeaders?.(name) !== true && (allowedHeaders === undefined || allowedHeaders(name)),
      body: body === undefined ? undefined : { ...body, asBytes: settings?.asBytes ?? false },
    },
    contextExtensions,
    metadata: present(from(config.metadataNamespaces, (name) => info.dynamicMetadata?.get(name))),
    routeMetadata: present(
      from(
        config.routeMetadataNamespaces,
        (name) => ctx.route()?.metadata?.[name] as Record<string, unknown> | undefined,
      ),
    ),
    includeTlsSession: config.includeTlsSession,
  };
}

function allow(config: ExtAuthzConfig, verdict: Extract<Verdict, { kind: 'ok' }>, ctx: FilterContext): void {
  const headers = ctx.requestHeaders;
  // Host and pseudo-headers carry the request's meaning: an authorizer may change them, never take them away.
  for (const name of verdict.remove) if (name !== 'host' && !name.startsWith(':')) headers.remove(name);
  for (const change of verdict.request) applyChange(headers, change);
  if (verdict.querySet.length > 0 || verdict.queryRemove.length > 0) {
    headers.path = changeQuery(headers.path, verdict.querySet, verdict.queryRemove);
  }
  if (verdict.metadata !== undefined) {
    ctx.info.dynamicMetadata ??= new Map();
    ctx.info.dynamicMetadata.set(NAMESPACE, { ...ctx.info.dynamicMetadata.get(NAMESPACE), ...verdict.metadata });
  }
  const changes = verdict.remove.length + verdict.request.length + verdict.querySet.length + verdict.queryRemove.length;
  if (config.clearRouteCache && changes > 0) ctx.clearRouteCache();
}

function applyChange(headers: RequestHeaders | ResponseHeaders, { name, value, how }: HeaderChange): void {
  const there = headers.has(name);
  if (how === 'set' || (how === 'add_if_absent' && !there) || (how === 'overwrite_if_exists' && there)) {
    headers.set(name === 'host' ? ':authority' : name, value);
  } else if (how === 'append') headers.append(name, value);
}

/** What an authorizer may say in a header: no line ends, no name that is none. */
function areSendable(changes: readonly HeaderChange[]): boolean {
  return changes.every(({ name, value }) => isName(name) && isValue(value));
}

function isName(name: string): boolean {
  for (let i = name.charCodeAt(0) === 58 ? 1 : 0; i < name.length; i++) {
    const code = name.charCodeAt(i);
    if (code <= 32 || code === 58 || code > 126) return false;
  }
  return name !== '' && name !== ':';
}

function isValue(value: string): boolean {
  for (let i = 0; i < value.length; i++) {
    const code = value.charCodeAt(i);
    if (code === 10 || code === 13 || code === 0 || code > 255) return false;
  }
  return true;
}
