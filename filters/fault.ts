/**
 * Delays, aborts and slows a share of requests. Configured for the whole chain or per route, and, where it is allowed,
 * by headers of the request. Envoy: envoy.extensions.filters.http.fault.v3.HTTPFault.
 */
import { draws, type Fraction, NEVER, parseFraction } from '../proxy/fractional_percent.ts';
import type { FilterContext, FilterDeps, FilterFactory, FilterStatus } from '../proxy/http/filter.ts';
import type { RequestHeaders } from '../proxy/http/headers.ts';
import { type HeaderMatcher, parseHeaderMatcher } from '../proxy/http/matchers.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { refuseUnexecuted } from '../proxy/unexecuted_fields.ts';

const HTTP_FAULT = 'type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault';

interface FaultConfig {
  /** undefined: none. */
  readonly delay: { readonly fixedMs: number | undefined; readonly share: Fraction } | undefined;
  readonly abort: AbortConfig | undefined;
  readonly rateLimit: { readonly fixedKbps: number | undefined; readonly share: Fraction } | undefined;
  /** Only for this upstream cluster; '': for all. */
  readonly upstreamCluster: string;
  readonly headers: readonly HeaderMatcher[];
  /** Only for these x-envoy-downstream-service-node; empty: for all. */
  readonly downstreamNodes: ReadonlySet<string>;
  /** At the same time; undefined: any number. */
  readonly maxActive: number | undefined;
}

/** Neither status: as the request's headers say. */
interface AbortConfig {
  readonly httpStatus: number | undefined;
  readonly grpcStatus: number | undefined;
  readonly share: Fraction;
}

interface FaultState {
  active: boolean;
  limiter: Limiter | undefined;
  /** x-envoy-fault-throughput-response, KiB/s; 0: not asked for. */
  kbps: number;
}

/** Bytes leave in ticks. */
interface Limiter {
  readonly tickBytes: number;
  budget: number;
  filledMs: number;
  waiting: Buffer[];
}

const TICK_MS = 50;
const MAX_DELAY_MS = 24 * 3_600_000;
/** HTTP statuses of gRPC's. Source: Envoy Grpc::Utility::grpcToHttpStatus. */
const HTTP_OF_GRPC = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];

export default {
  typeUrls: [HTTP_FAULT],
  parse,
  routeTypeUrls: [HTTP_FAULT],
  parseRoute: parse,
  create(config, deps) {
    const faults = new Faults(deps);
    return {
      newState: (): FaultState => ({ active: false, limiter: undefined, kbps: 0 }),
      decodeHeaders(ctx, headers, _endStream, state) {
        const fault = ctx.routeConfig<FaultConfig>() ?? config;
        if (!applies(fault, ctx, headers)) return 'continue';
        return faults.inject(fault, ctx, headers, state);
      },
      encodeHeaders(_ctx, _headers, _endStream, state) {
        if (state.kbps > 0) {
          const tickBytes = Math.max(1, Math.ceil((state.kbps * 1024 * TICK_MS) / 1000));
          state.limiter = { tickBytes, budget: tickBytes, filledMs: deps.nowMs(), waiting: [] };
        }
        return 'continue';
      },
      encodeData(ctx, body, _endStream, { limiter }) {
        if (limiter === undefined) return 'continue';
        fill(limiter, deps.nowMs());
        const { bytes } = body;
        if (bytes.length <= limiter.budget) {
          limiter.budget -= bytes.length;
          return 'continue';
        }
        limiter.waiting.push(Buffer.from(bytes));
        body.bytes = EMPTY;
        return new Promise((resolve) => trickle(ctx, limiter, deps, resolve));
      },
      onDestroy(_ctx, state) {
        if (state.active) faults.activeFaults.dec();
      },
    };
  },
} satisfies FilterFactory<FaultConfig, FaultState, FaultConfig>;

const EMPTY = Buffer.alloc(0);

function fill(limiter: Limiter, nowMs: number): void {
  const ticks = Math.floor((nowMs - limiter.filledMs) / TICK_MS);
  if (ticks <= 0) return;
  // What was not used is lost: a pause does not buy a burst.
  limiter.budget = limiter.tickBytes;
  limiter.filledMs += ticks * TICK_MS;
}

function trickle(ctx: FilterContext, limiter: Limiter, deps: FilterDeps, done: (status: FilterStatus) => void): void {
  fill(limiter, deps.nowMs());
  while (limiter.budget > 0) {
    const [first] = limiter.waiting;
    if (first === undefined) return done('continue');
    const piece = first.subarray(0, limiter.budget);
    if (piece.length === first.length) limiter.waiting.shift();
    else limiter.waiting[0] = first.subarray(piece.length);
    limiter.budget -= piece.length;
    ctx.injectEncodedData(piece, false);
  }
  if (limiter.waiting.length === 0) return done('continue');
  ctx.setTimer(TICK_MS, () => trickle(ctx, limiter, deps, done));
}

function applies(fault: FaultConfig, ctx: FilterContext, headers: RequestHeaders): boolean {
  if (fault.delay === undefined && fault.abort === undefined && fault.rateLimit === undefined) return false;
  if (fault.upstreamCluster !== '') {
    if (ctx.route()?.forward?.clusterName(headers) !== fault.upstreamCluster) return false;
  }
  for (const matcher of fault.headers) if (!matcher.matches(headers)) return false;
  if (fault.downstreamNodes.size === 0) return true;
  return fault.downstreamNodes.has(headers.get('x-envoy-downstream-service-node') ?? '');
}

class Faults {
  readonly activeFaults;
  readonly #deps: FilterDeps;
  readonly #delays;
  readonly #aborts;
  readonly #rateLimits;
  readonly #overflow;
  #active = 0;

  constructor(deps: FilterDeps) {
    this.#deps = deps;
    const active = deps.gauge('fault.active_faults');
    this.activeFaults = {
      dec: () => {
        this.#active--;
        active.dec();
      },
      inc: () => {
        this.#active++;
        active.inc();
      },
    };
    this.#delays = deps.counter('fault.delays_injected');
    this.#aborts = deps.counter('fault.aborts_injected');
    this.#rateLimits = deps.counter('fault.response_rl_injected');
    this.#overflow = deps.counter('fault.faults_overflow');
  }

  inject(
    fault: FaultConfig,
    ctx: FilterContext,
    headers: RequestHeaders,
    state: FaultState,
  ): FilterStatus | Promise<FilterStatus> {
    if (fault.maxActive !== undefined && this.#active >= fault.maxActive) {
      this.#overflow.inc();
      return 'continue';
    }
    const kbps = this.#kbps(fault, headers);
    const delayMs = this.#delayMs(fault, headers);
    if (kbps > 0) {
      state.kbps = kbps;
      this.#rateLimits.inc();
      this.#activate(state);
    }
    if (delayMs === undefined) return this.#abort(fault, ctx, headers, state);
    this.#delays.inc();
    this.#activate(state);
    ctx.info.addFlag('DI');
    // The abort is drawn after the delay, as in Envoy.
    return new Promise((resolve) => {
      ctx.setTimer(delayMs, () => resolve(this.#abort(fault, ctx, headers, state)));
    });
  }

  #activate(state: FaultState): void {
    if (state.active) return;
    state.active = true;
    this.activeFaults.inc();
  }

  #draws(share: Fraction): boolean {
    return draws(share, this.#deps.random);
  }

  #delayMs({ delay }: FaultConfig, headers: RequestHeaders): number | undefined {
    if (delay === undefined) return undefined;
    if (delay.fixedMs !== undefined) return this.#draws(delay.share) ? delay.fixedMs : undefined;
    const asked = wholeNumber(headers, 'x-envoy-fault-delay-request');
    const share = limitedBy(headers, 'x-envoy-fault-delay-request-percentage', delay.share);
    return asked !== undefined && this.#draws(share) ? Math.min(asked, MAX_DELAY_MS) : undefined;
  }

  #kbps({ rateLimit }: FaultConfig, headers: RequestHeaders): number {
    if (rateLimit === undefined) return 0;
    if (rateLimit.fixedKbps !== undefined) return this.#draws(rateLimit.share) ? rateLimit.fixedKbps : 0;
    const asked = wholeNumber(headers, 'x-envoy-fault-throughput-response');
    const share = limitedBy(headers, 'x-envoy-fault-throughput-response-percentage', rateLimit.share);
    return asked !== undefined && this.#draws(share) ? asked : 0;
  }

  #abort({ abort }: FaultConfig, ctx: FilterContext, headers: RequestHeaders, state: FaultState): FilterStatus {
    if (abort === undefined) return 'continue';
    let { httpStatus, grpcStatus } = abort;
    let { share } = abort;
    if (httpStatus === undefined && grpcStatus === undefined) {
      httpStatus = wholeNumber(headers, 'x-envoy-fault-abort-request');
      if (httpStatus !== undefined && (httpStatus < 200 || httpStatus > 599)) httpStatus = undefined;
      if (httpStatus === undefined) grpcStatus = wholeNumber(headers, 'x-envoy-fault-abort-grpc-request');
      share = limitedBy(headers, 'x-envoy-fault-abort-request-percentage', share);
    }
    if ((httpStatus === undefined && grpcStatus === undefined) || !this.#draws(share)) return 'continue';
    this.#aborts.inc();
    this.#activate(state);
    const status = httpStatus ?? HTTP_OF_GRPC[grpcStatus ?? 2] ?? 500;
    return ctx.sendLocalReply(status, 'FI', 'fault_filter_abort', 'fault filter abort', (reply) => {
      if (grpcStatus !== undefined && reply.has('grpc-status')) reply.set('grpc-status', String(grpcStatus));
    });
  }
}

function wholeNumber(headers: RequestHeaders, name: string): number | undefined {
  const value = headers.get(name);
  return value !== undefined && /^\d{1,10}$/.test(value) ? Number(value) : undefined;
}

/** A header may lower the configured share, never raise it. */
function limitedBy(headers: RequestHeaders, name: string, share: Fraction): Fraction {
  const asked = wholeNumber(headers, name);
  return asked === undefined || asked >= share.numerator ? share : { ...share, numerator: asked };
}

function parse(json: unknown): FaultConfig {
  const fields = new Fields(json);
  refuseUnexecuted(fields, 'HTTPFault');
  const delay = fields.message('delay');
  const abort = fields.message('abort');
  const rateLimit = fields.message('response_rate_limit');
  return {
    delay: delay === undefined ? undefined : parseDelay(delay),
    abort: abort === undefined ? undefined : parseAbort(abort),
    rateLimit: rateLimit === undefined ? undefined : parseRateLimit(rateLimit),
    upstreamCluster: fields.string('upstream_cluster') ?? '',
    headers: fields.messages('headers').map(parseHeaderMatcher),
    downstreamNodes: new Set(fields.strings('downstream_nodes')),
    maxActive: fields.integer('max_active_faults'),
  };
}

function parseDelay(fields: Fields): FaultConfig['delay'] {
  const fixedMs = fields.durationMs('fixed_delay');
  if (fixedMs !== undefined && fixedMs <= 0)
    fields.fail('fixed_delay', `must be greater than 0s, got ${fixedMs / 1000}s`);
  if (fixedMs === undefined && !fields.has('header_delay')) {
    fields.fail('fixed_delay', 'one of fixed_delay, header_delay is required');
  }
  return { fixedMs, share: parseFraction(fields.message('percentage')) ?? NEVER };
}

function parseAbort(fields: Fields): AbortConfig {
  const httpStatus = fields.integer('http_status', 200, 599);
  const grpcStatus = fields.integer('grpc_status');
  if (httpStatus === undefined && grpcStatus === undefined && !fields.has('header_abort')) {
    fields.fail('http_status', 'one of http_status, grpc_status, header_abort is required');
  }
  return { httpStatus, grpcStatus, share: parseFraction(fields.message('percentage')) ?? NEVER };
}

function parseRateLimit(fields: Fields): FaultConfig['rateLimit'] {
  const fixed = fields.message('fixed_limit');
  if (fixed === undefined && !fields.has('header_limit')) {
    fields.fail('fixed_limit', 'one of fixed_limit, header_limit is required');
  }
  const fixedKbps = fixed?.integer('limit_kbps', 1);
  if (fixed !== undefined && fixedKbps === undefined) fixed.fail('limit_kbps', 'is required');
  return { fixedKbps, share: parseFraction(fields.message('percentage')) ?? NEVER };
}
