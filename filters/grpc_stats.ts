/** Counts gRPC messages and outcomes. Envoy: envoy.extensions.filters.http.grpc_stats.v3.FilterConfig. */
import type { FilterContext, FilterDeps, FilterFactory } from '../proxy/http/filter.ts';
import { GrpcMessageCounter, type GrpcMessages } from '../proxy/http/grpc_message_counter.ts';
import { isGrpc } from '../proxy/http/local_reply.ts';
import { Fields } from '../proxy/resource_fields.ts';
import type { Counter, Histogram } from '../proxy/telemetry/statistics.ts';

interface Config {
  /** Message counts are left for istio.stats. */
  readonly emitFilterState: boolean;
  /** Every method has counters of its own; default false: one set for a cluster. */
  readonly allMethods: boolean;
  /** `service/method` → the counters' name. */
  readonly methods: ReadonlySet<string>;
  readonly upstreamTime: boolean;
  readonly replaceDots: boolean;
}

interface State {
  /** undefined: not gRPC. */
  messages: GrpcMessages | undefined;
}

/** Methods are named by clients: beyond this many sets of counters the rest is counted together. */
const MAX_SETS = 1000;

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig'],
  parse,
  create(config, deps) {
    const sets = new CounterSets(config, deps);
    return {
      newState: (): State => ({ messages: undefined }),
      decodeHeaders(ctx, headers, _endStream, state) {
        if (!isGrpc(headers)) return 'continue';
        state.messages = { request: new GrpcMessageCounter(), response: new GrpcMessageCounter() };
        if (config.emitFilterState) ctx.info.grpcMessages = state.messages;
        return 'continue';
      },
      decodeData(_ctx, body, _endStream, { messages }) {
        messages?.request.add(body.bytes);
        return 'continue';
      },
      encodeData(_ctx, body, _endStream, { messages }) {
        messages?.response.add(body.bytes);
        return 'continue';
      },
      onDestroy(ctx, { messages }) {
        const cluster = ctx.info.upstreamClusterStatName;
        if (messages === undefined || cluster === undefined) return;
        sets.of(cluster, ctx).charge(ctx, messages.request.count, messages.response.count);
      },
    };
  },
} satisfies FilterFactory<Config, State>;

function parse(json: unknown): Config {
  const fields = new Fields(json);
  const list = fields.message('individual_method_stats_allowlist');
  const all = fields.boolean('stats_for_all_methods');
  if (list !== undefined && all !== undefined) {
    fields.fail('stats_for_all_methods', 'cannot stand beside individual_method_stats_allowlist');
  }
  const methods = new Set<string>();
  for (const service of list?.messages('services') ?? []) {
    const name = service.requiredString('name');
    for (const method of service.list('method_names')) methods.add(`${name}/${String(method)}`);
  }
  return {
    emitFilterState: fields.boolean('emit_filter_state') ?? false,
    allMethods: all ?? false,
    methods,
    upstreamTime: fields.boolean('enable_upstream_stats') ?? false,
    replaceDots: fields.boolean('replace_dots_in_grpc_service_name') ?? false,
  };
}

/** The counters of a cluster, or of one of its methods. */
class CounterSet {
  readonly #deps: FilterDeps;
  readonly #prefix: string;
  readonly #success: Counter;
  readonly #failure: Counter;
  readonly #total: Counter;
  readonly #requests: Counter;
  readonly #responses: Counter;
  readonly #time: Histogram | undefined;
  readonly #byStatus = new Map<string, Counter>();

  constructor(prefix: string, config: Config, deps: FilterDeps) {
    const { statistics } = deps;
    this.#deps = deps;
    this.#prefix = prefix;
    this.#success = statistics.counter(`${prefix}.success`);
    this.#failure = statistics.counter(`${prefix}.failure`);
    this.#total = statistics.counter(`${prefix}.total`);
    this.#requests = statistics.counter(`${prefix}.request_message_count`);
    this.#responses = statistics.counter(`${prefix}.response_message_count`);
    this.#time = config.upstreamTime ? statistics.histogram(`${prefix}.upstream_rq_time`) : undefined;
  }

  charge({ info, responseTrailers, responseHeaders }: FilterContext, requests: number, responses: number): void {
    this.#requests.add(requests);
    this.#responses.add(responses);
    if (info.upstreamFirstByteSentMs > 0) this.#time?.record(info.endMs - info.upstreamFirstByteSentMs);
    const status = responseTrailers?.get('grpc-status') ?? responseHeaders?.get('grpc-status');
    if (status === undefined) return;
    this.#total.inc();
    (status === '0' ? this.#success : this.#failure).inc();
    // 0 to 16 are defined; what a peer makes up has no counter.
    if (!/^(?:\d|1[0-6])$/.test(status)) return;
    let counter = this.#byStatus.get(status);
    if (counter === undefined) {
      counter = this.#deps.statistics.counter(`${this.#prefix}.${status}`);
      this.#byStatus.set(status, counter);
    }
    counter.inc();
  }
}

class CounterSets {
  readonly #config: Config;
  readonly #deps: FilterDeps;
  readonly #sets = new Map<string, CounterSet>();

  constructor(config: Config, deps: FilterDeps) {
    this.#config = config;
    this.#deps = deps;
  }

  of(cluster: string, ctx: FilterContext): CounterSet {
    const { allMethods, methods, replaceDots } = this.#config;
    let prefix = `cluster.${cluster}.grpc`;
    if (allMethods || methods.size > 0) {
      const method = methodOf(ctx.info.originalPath ?? ctx.requestHeaders.path);
      if (method !== undefined && (allMethods || methods.has(`${method.service}/${method.name}`))) {
        const service = replaceDots ? method.service.replaceAll('.', '_') : method.service;
        const own = `${prefix}.${service}.${method.name}`;
        if (this.#sets.has(own) || this.#sets.size < MAX_SETS) prefix = own;
      }
    }
    let set = this.#sets.get(prefix);
    if (set === undefined) {
      set = new CounterSet(prefix, this.#config, this.#deps);
      this.#sets.set(prefix, set);
    }
    return set;
  }
}

/** `/package.Service/Method` */
function methodOf(path: string): { readonly service: string; readonly name: string } | undefined {
  const slash = path.indexOf('/', 1);
  const query = path.indexOf('?');
  const end = query < 0 ? path.length : query;
  if (slash <= 1 || slash + 1 >= end || path.indexOf('/', slash + 1) >= 0) return undefined;
  return { service: path.slice(1, slash), name: path.slice(slash + 1, end) };
}
