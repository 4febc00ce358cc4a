/** Istio's metrics of connections: opened, closed, bytes each way. Source: istio/proxy istio_stats; istio.md §3.1. */
import { Deadline } from '../../proxy/net/deadlines.ts';
import type { ConnectionContext, NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { istioLabels } from '../../proxy/telemetry/istio_labels.ts';
import { peerOfMetadata } from '../../proxy/telemetry/peer.ts';
import type { Counter } from '../../proxy/telemetry/statistics.ts';

interface Config {
  /** How often open connections are counted. Default 5,000. */
  readonly reportingMs: number;
}

const DEFAULT_REPORTING_MS = 5000;

/** What one connection has reported. */
interface State {
  counters: Counters | undefined;
  sent: number;
  received: number;
  timer: Deadline | undefined;
}

interface Counters {
  readonly closed: Counter;
  readonly sent: Counter;
  readonly received: Counter;
}

export default {
  typeUrls: ['type.googleapis.com/stats.PluginConfig'],
  parse(json): Config {
    return { reportingMs: new Fields(json).durationMs('tcp_reporting_duration') || DEFAULT_REPORTING_MS };
  },
  create({ reportingMs }, { services, direction }) {
    const { statistics } = services;
    const timers = services.deadlines.list(reportingMs);
    const inbound = direction === 'inbound';
    const own = peerOfMetadata(services.node.metadata);

    /** The first report counts it as opened: only then is known where it went. */
    const open = (ctx: ConnectionContext): Counters => {
      const { info, connection } = ctx;
      const labels = {
        ...istioLabels({ inbound, own, info, connection, serviceFallback: 'unknown' }),
        request_protocol: 'tcp',
      };
      const counter = (name: string): Counter => statistics.counter(`istio_tcp_${name}_total`, labels);
      counter('connections_opened').inc();
      return {
        closed: counter('connections_closed'),
        sent: counter('sent_bytes'),
        received: counter('received_bytes'),
      };
    };
    const report = (ctx: ConnectionContext, state: State): Counters => {
      state.counters ??= open(ctx);
      const { bytesSent, bytesReceived } = ctx.info;
      state.counters.sent.add(bytesSent - state.sent);
      state.counters.received.add(bytesReceived - state.received);
      state.sent = bytesSent;
      state.received = bytesReceived;
      return state.counters;
    };
    return {
      newState: (): State => ({ counters: undefined, sent: 0, received: 0, timer: undefined }),
      onNewConnection(ctx, state) {
        state.timer = new Deadline(() => {
          report(ctx, state);
          if (state.timer !== undefined) timers.arm(state.timer);
        });
        timers.arm(state.timer);
        return 'continue';
      },
      onDestroy(ctx, state) {
        state.timer?.cancel();
        state.timer = undefined;
        report(ctx, state).closed.inc();
      },
    };
  },
} satisfies NetworkFilterFactory<Config, State>;
