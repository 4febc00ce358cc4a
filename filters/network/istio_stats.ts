/** Istio's metrics of connections: opened, closed, bytes each way. Source: istio/proxy istio_stats; istio.md §3.1. */
import { Deadline } from '../../proxy/net/deadlines.ts';
import type { ConnectionContext, NetworkFilterFactory } from '../../proxy/net/network_filter.ts';
import { Fields } from '../../proxy/resource_fields.ts';
import { IstioMetrics, type IstioMetricsConfig, parseIstioMetrics } from '../../proxy/telemetry/istio_metrics.ts';
import { istioLabels } from '../../proxy/telemetry/istio_labels.ts';
import { peerOfMetadata } from '../../proxy/telemetry/peer.ts';
import type { Counter } from '../../proxy/telemetry/statistics.ts';
import { refuseUnexecuted } from '../../proxy/unexecuted_fields.ts';

interface Config {
  /** How often open connections are counted. Default 5,000. */
  readonly reportingMs: number;
  readonly metrics: IstioMetricsConfig;
}

const DEFAULT_REPORTING_MS = 5000;

/** What one connection has reported. */
interface State {
  counters: Counters | undefined;
  /** Of the statistics when `counters` were looked up: later they may have expired. */
  expirations: number;
  opened: boolean;
  sent: number;
  received: number;
  timer: Deadline | undefined;
}

/** undefined: the metric is dropped. */
interface Counters {
  readonly closed: Counter | undefined;
  readonly sent: Counter | undefined;
  readonly received: Counter | undefined;
}

export default {
  typeUrls: ['type.googleapis.com/stats.PluginConfig'],
  parse(json): Config {
    const fields = new Fields(json);
    refuseUnexecuted(fields, 'StatsPluginConfig');
    return {
      reportingMs: fields.durationMs('tcp_reporting_duration') || DEFAULT_REPORTING_MS,
      metrics: parseIstioMetrics(fields),
    };
  },
  create({ reportingMs, metrics: config }, { services, direction }) {
    const metrics = new IstioMetrics(config, services.node);
    const { statistics } = services;
    const timers = services.deadlines.list(reportingMs);
    const inbound = direction === 'inbound';
    const own = peerOfMetadata(services.node.metadata);

    /** The first report counts it as opened: only then is known where it went. */
    const open = (ctx: ConnectionContext, state: State): Counters => {
      const { info, connection } = ctx;
      const labels = {
        ...istioLabels({ inbound, own, info, connection, serviceFallback: 'unknown' }),
        request_protocol: 'tcp',
      };
      const evaluated = metrics.evaluate({
        info,
        requestHeaders: undefined,
        responseHeaders: undefined,
        responseTrailers: undefined,
      });
      const counter = (name: string): Counter | undefined => {
        const own = metrics.labels(`tcp_${name}_total`, labels, evaluated);
        return own === undefined ? undefined : statistics.counter(`istio_tcp_${name}_total`, own);
      };
      if (!state.opened) counter('connections_opened')?.inc();
      state.opened = true;
      return {
        closed: counter('connections_closed'),
        sent: counter('sent_bytes'),
        received: counter('received_bytes'),
      };
    };
    const report = (ctx: ConnectionContext, state: State): Counters => {
      const { expirations = 0 } = statistics;
      if (state.counters === undefined || state.expirations !== expirations) {
        state.counters = open(ctx, state);
        state.expirations = expirations;
      }
      const { bytesSent, bytesReceived } = ctx.info;
      state.counters.sent?.add(bytesSent - state.sent);
      state.counters.received?.add(bytesReceived - state.received);
      state.sent = bytesSent;
      state.received = bytesReceived;
      return state.counters;
    };
    return {
      newState: (): State => ({
        counters: undefined,
        expirations: 0,
        opened: false,
        sent: 0,
        received: 0,
        timer: undefined,
      }),
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
        report(ctx, state).closed?.inc();
      },
    };
  },
} satisfies NetworkFilterFactory<Config, State>;
