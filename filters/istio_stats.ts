/** Istio's standard metrics: istio_requests_total and its kin. Source: istio/proxy istio_stats; istio.md §3.1. */
import type { FilterContext, FilterDeps, FilterFactory } from '../proxy/http/filter.ts';
import type { Metadata } from '../proxy/http/stream_info.ts';
import type { TlsInfo } from '../proxy/net/connection_info.ts';
import type { FormatInput } from '../proxy/http/formatter.ts';
import { Fields } from '../proxy/resource_fields.ts';
import type { Evaluate } from '../proxy/telemetry/cel/evaluator.ts';
import { GrpcMessageReports } from '../proxy/telemetry/grpc_message_reports.ts';
import {
  type CustomMetric,
  type Evaluated,
  IstioMetrics,
  type IstioMetricsConfig,
  parseIstioMetrics,
} from '../proxy/telemetry/istio_metrics.ts';
import { istioLabels } from '../proxy/telemetry/istio_labels.ts';
import { type Peer, peerOfMetadata } from '../proxy/telemetry/peer.ts';
import type { Counter, Histogram, Labels } from '../proxy/telemetry/statistics.ts';
import { refuseUnexecuted } from '../proxy/unexecuted_fields.ts';

interface Config {
  /** Default false: without a service in the cluster's metadata a client's report names the Host. */
  readonly disableHostFallback: boolean;
  readonly metrics: IstioMetricsConfig;
  /** How often messages of open gRPC streams are counted. Default 5,000. */
  readonly reportingMs: number;
}

/** undefined: the metric is dropped. */
interface Series {
  readonly requests: Counter | undefined;
  readonly duration: Histogram | undefined;
  readonly requestBytes: Histogram | undefined;
  readonly responseBytes: Histogram | undefined;
  readonly custom: readonly { readonly metric: CustomMetric | undefined; readonly value: Evaluate<FormatInput> }[];
}

const DEFAULT_REPORTING_MS = 5000;

const UNKNOWN = 'unknown';
/** Sets of labels that a thread keeps at hand; beyond, they are looked up again. */
const MAX_CACHED_SERIES = 4096;

export default {
  typeUrls: ['type.googleapis.com/stats.PluginConfig', 'type.googleapis.com/io.istio.http.stats.Config'],
  parse(json: unknown): Config {
    const fields = new Fields(json);
    refuseUnexecuted(fields, 'StatsPluginConfig');
    return {
      disableHostFallback: fields.boolean('disable_host_header_fallback') ?? false,
      metrics: parseIstioMetrics(fields),
      reportingMs: fields.durationMs('tcp_reporting_duration') || DEFAULT_REPORTING_MS,
    };
  },
  create(config, deps) {
    const series = new SeriesCache(config, deps);
    const messages = new GrpcMessageReports(deps, config.reportingMs, (ctx) => series.messageLabels(ctx));
    return {
      decodeHeaders(ctx) {
        if (isGrpc(ctx)) messages.begin(ctx);
        return 'continue';
      },
      onDestroy(ctx) {
        const { info } = ctx;
        const found = series.of(ctx);
        found.requests?.inc();
        found.duration?.record(info.endMs - info.startMs);
        found.requestBytes?.record(info.headerBytesReceived + info.bytesReceived);
        found.responseBytes?.record(info.headerBytesSent + info.bytesSent);
        for (const { metric, value } of found.custom) {
          const amount = value(ctx);
          if (metric !== undefined && typeof amount === 'number') metric.add(amount);
        }
        messages.end(ctx);
      },
    };
  },
} satisfies FilterFactory<Config>;

/** Series by what distinguishes them. Nearly every request's labels are those of the request before it. */
class SeriesCache {
  readonly #config: Config;
  readonly #deps: FilterDeps;
  readonly #own: Peer;
  readonly #series = new Map<string, Series>();
  readonly #ids = new WeakMap<object, number>();
  #nextId = 1;
  #lastHost: Metadata | undefined = undefined;
  #lastCluster: Metadata | undefined = undefined;
  #lastCode = -1;
  #lastNames = '';
  readonly #names = new WeakMap<TlsInfo, string>();
  readonly #sameNames = new Map<string, string>();
  #lastPeer: Peer | undefined = undefined;
  #last: Series | undefined = undefined;
  readonly #metrics: IstioMetrics;
  #expirations: number;

  constructor(config: Config, deps: FilterDeps) {
    this.#metrics = new IstioMetrics(config.metrics, deps.node);
    this.#expirations = deps.statistics.expirations ?? 0;
    this.#config = config;
    this.#deps = deps;
    this.#own = peerOfMetadata(deps.node.metadata);
  }

  of(ctx: FilterContext): Series {
    const { info } = ctx;
    const { upstreamHostMetadata: host, upstreamClusterMetadata: cluster, responseCode: code, flags } = info;
    // Series may have expired since: their slots may be somebody else's now.
    if (this.#deps.statistics.expirations !== this.#expirations) this.#forget();
    const plain = flags === undefined && cluster !== undefined && this.#metrics.isPlain && !isGrpc(ctx);
    const inbound = this.#deps.direction === 'inbound';
    const names = this.#namesOf(inbound ? ctx.connection.tls : info.upstreamTls);
    const peer = inbound ? info.downstreamPeer : info.upstreamPeer;
    if (
      plain &&
      host === this.#lastHost &&
      cluster === this.#lastCluster &&
      code === this.#lastCode &&
      names === this.#lastNames &&
      peer === this.#lastPeer &&
      this.#last
    ) {
      return this.#last;
    }
    const grpc = isGrpc(ctx) ? grpcStatus(ctx) : undefined;
    const service = cluster === undefined ? this.#hostFallback(ctx) : '';
    const name = cluster === undefined ? (info.upstreamCluster ?? '') : '';
    const key = `${this.#id(host)} ${this.#id(cluster)} ${code} ${flags?.join() ?? ''} ${grpc ?? '-'} ${name} ${service} ${this.#id(peer)} ${names}`;
    const evaluated = this.#metrics.evaluate(ctx);
    const fullKey = this.#metrics.isPlain ? key : `${key} ${JSON.stringify(evaluated)}`;
    let found = this.#series.get(fullKey);
    if (found === undefined) {
      found = this.#make(ctx, grpc, evaluated);
      if (this.#series.size >= MAX_CACHED_SERIES) this.#series.clear();
      this.#series.set(fullKey, found);
    }
    if (plain) {
      this.#lastHost = host;
      this.#lastCluster = cluster;
      this.#lastCode = code;
      this.#lastNames = names;
      this.#lastPeer = peer;
      this.#last = found;
    }
    return found;
  }

  /** Whose connection it is, as labels say it. Connections of one peer have the same string, so that a comparison is cheap. */
  #namesOf(tls: TlsInfo | undefined): string {
    if (tls === undefined) return '';
    let names = this.#names.get(tls);
    if (names === undefined) {
      const made = `${tls.mutual} ${tls.peerUriSans[0] ?? ''} ${tls.localUriSans[0] ?? ''}`;
      names = this.#sameNames.get(made) ?? made;
      if (this.#sameNames.size >= MAX_CACHED_SERIES) this.#sameNames.clear();
      this.#sameNames.set(names, names);
      this.#names.set(tls, names);
    }
    return names;
  }

  #id(metadata: object | undefined): number {
    if (metadata === undefined) return 0;
    let id = this.#ids.get(metadata);
    if (id === undefined) {
      id = this.#nextId++;
      this.#ids.set(metadata, id);
    }
    return id;
  }

  #hostFallback(ctx: FilterContext): string {
    if (this.#config.disableHostFallback || this.#deps.direction === 'inbound') return UNKNOWN;
    return ctx.requestHeaders.authority.toLowerCase() || UNKNOWN;
  }

  #forget(): void {
    this.#expirations = this.#deps.statistics.expirations ?? 0;
    this.#series.clear();
    this.#last = undefined;
  }

  #make(ctx: FilterContext, grpc: string | undefined, evaluated: Evaluated): Series {
    const { statistics } = this.#deps;
    const metrics = this.#metrics;
    const base = this.#labels(ctx, grpc);
    const counter = (name: string): Counter | undefined => {
      const labels = metrics.labels(name, base, evaluated);
      return labels === undefined ? undefined : statistics.counter(`istio_${name}`, labels);
    };
    const histogram = (name: string): Histogram | undefined => {
      const labels = metrics.labels(name, base, evaluated);
      return labels === undefined ? undefined : statistics.histogram(`istio_${name}`, labels);
    };
    return {
      requests: counter('requests_total'),
      duration: histogram('request_duration_milliseconds'),
      requestBytes: histogram('request_bytes'),
      responseBytes: histogram('response_bytes'),
      custom: metrics.definitions.map(({ definition, value }) => ({
        metric: metrics.custom(statistics, definition, base, evaluated),
        value,
      })),
    };
  }

  /** For both metrics of messages; they are counted before there is an answer, so they know no code. */
  messageLabels(ctx: FilterContext): { readonly request: Labels | undefined; readonly response: Labels | undefined } {
    const { response_code: _, grpc_response_status: _status, ...base } = this.#labels(ctx, '');
    const evaluated = this.#metrics.evaluate(ctx);
    return {
      request: this.#metrics.labels('request_messages_total', base, evaluated),
      response: this.#metrics.labels('response_messages_total', base, evaluated),
    };
  }

  #labels(ctx: FilterContext, grpc: string | undefined): Record<string, string> {
    const { info, connection } = ctx;
    return {
      ...istioLabels({
        inbound: this.#deps.direction === 'inbound',
        own: this.#own,
        info,
        connection,
        serviceFallback: this.#hostFallback(ctx),
      }),
      request_protocol: grpc === undefined ? 'http' : 'grpc',
      response_code: String(info.responseCode),
      grpc_response_status: grpc ?? '',
    };
  }
}

function isGrpc(ctx: FilterContext): boolean {
  return ctx.requestHeaders.get('content-type')?.startsWith('application/grpc') === true;
}

function grpcStatus(ctx: FilterContext): string {
  return ctx.responseTrailers?.get('grpc-status') ?? ctx.responseHeaders?.get('grpc-status') ?? '';
}
