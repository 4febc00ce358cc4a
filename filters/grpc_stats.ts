/**
 * Counts gRPC calls and their messages. Envoy: envoy.extensions.filters.http.grpc_stats.v3.FilterConfig.
 * `emit_filter_state` is what istio.stats reads for istio_request_messages_total.
 */
import type { FilterContext, FilterFactory } from '../proxy/http/filter.ts';
import { GrpcMessageCounter, type GrpcMessages } from '../proxy/http/grpc_message_counter.ts';
import { Fields } from '../proxy/resource_fields.ts';
import type { Counter } from '../proxy/telemetry/statistics.ts';

interface Config {
  /** Names of the methods that are counted one by one, by service; undefined: all. */
  readonly methods: ReadonlyMap<string, readonly string[]> | undefined;
}

/** Methods that a thread counts one by one where all are wanted: clients choose them. */
const MAX_METHODS = 500;

interface State {
  messages: GrpcMessages | undefined;
}

interface MethodCounters {
  readonly total: Counter;
  readonly success: Counter;
  readonly failure: Counter;
  readonly requestMessages: Counter;
  readonly responseMessages: Counter;
}

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig'],
  parse(json): Config {
    const fields = new Fields(json);
    if (fields.boolean('stats_for_all_methods') === true) return { methods: undefined };
    const services = fields.message('individual_method_stats_allowlist')?.messages('services') ?? [];
    return {
      methods: new Map(services.map((service) => [service.requiredString('name'), service.strings('method_names')])),
    };
  },
  create({ methods }, { statistics }) {
    const known = new Map<string, MethodCounters>();
    const countersOf = (cluster: string, path: string): MethodCounters => {
      const [service = '', method = ''] = path.slice(1).split('?', 1)[0]?.split('/') ?? [];
      const wanted = methods === undefined ? known.size < MAX_METHODS : methods.get(service)?.includes(method) === true;
      const prefix = `cluster.${cluster}.grpc.${wanted ? `${service}.${method}.` : ''}`;
      let counters = known.get(prefix);
      if (counters === undefined) {
        const counter = (name: string): Counter => statistics.counter(`${prefix}${name}`);
        counters = {
          total: counter('total'),
          success: counter('success'),
          failure: counter('failure'),
          requestMessages: counter('request_message_count'),
          responseMessages: counter('response_message_count'),
        };
        known.set(prefix, counters);
      }
      return counters;
    };
    return {
      newState: (): State => ({ messages: undefined }),
      decodeHeaders(ctx, headers, _endStream, state) {
        if (headers.get('content-type')?.startsWith('application/grpc') === true) {
          state.messages = { request: new GrpcMessageCounter(), response: new GrpcMessageCounter() };
          ctx.info.grpcMessages = state.messages;
        }
        return 'continue';
      },
      decodeData(_ctx, body, _endStream, state) {
        state.messages?.request.add(body.bytes);
        return 'continue';
      },
      encodeData(_ctx, body, _endStream, state) {
        state.messages?.response.add(body.bytes);
        return 'continue';
      },
      onDestroy(ctx, { messages }) {
        const { upstreamClusterStatName, upstreamCluster } = ctx.info;
        const cluster = upstreamClusterStatName || upstreamCluster;
        if (messages === undefined || cluster === undefined) return;
        const counters = countersOf(cluster, ctx.requestHeaders.path);
        counters.total.inc();
        if (succeeded(ctx)) counters.success.inc();
        else counters.failure.inc();
        counters.requestMessages.add(messages.request.count);
        counters.responseMessages.add(messages.response.count);
      },
    };
  },
} satisfies FilterFactory<Config, State>;

function succeeded({ responseTrailers, responseHeaders }: FilterContext): boolean {
  return (responseTrailers?.get('grpc-status') ?? responseHeaders?.get('grpc-status')) === '0';
}
