/** Istio's standard metrics: istio_requests_total and its kin. Source: istio/proxy istio_stats; istio.md §3.1. */
import type { FilterContext, FilterDeps, FilterFactory } from '../proxy/http/filter.ts';
import type { Metadata } from '../proxy/http/stream_info.ts';
import type { TlsInfo } from '../proxy/net/connection_info.ts';
import { Fields } from '../proxy/resource_fields.ts';
import { istioLabels } from '../proxy/telemetry/istio_labels.ts';
import { type Peer, peerOfMetadata } from '../proxy/telemetry/peer.ts';
import type { Counter, Histogram } from '../proxy/telemetry/statistics.ts';

interface Config {
  /** Default false: without a service in the cluster's metadata a client's report names the Host. */
  readonly disableHostFallback: boolean;
}

interface Series {
  readonly requests: Counter;
  readonly duration: Histogram;
  readonly requestBytes: Histogram;
  readonly responseBytes: Histogram;
}

const UNKNOWN = 'unknown';
/** Sets of labels that a thread keeps at hand; beyond, they are looked up again. */
const MAX_CACHED_SERIES = 4096;

export default {
  typeUrls: ['type.googleapis.com/stats.PluginConfig', 'type.googleapis.com/io.istio.http.stats.Config'],
  parse(json: unknown): Config {
    return { disableHostFallback: new Fields(json).boolean('disable_host_header_fallback') ?? false };
  },
  create(config, deps) {
    const series = new SeriesCache(config, deps);
    return {
      onDestroy(ctx) {
        const { info } = ctx;
        const found = series.of(ctx);
        found.requests.inc();
        found.duration.record(info.endMs - info.startMs);
        found.requestBytes.record(info.headerBytesReceived + info.bytesReceived);
        found.responseBytes.record(info.headerBytesSent + info.bytesSent);
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
  #lastTls: TlsInfo | undefined = undefined;
  #lastPeer: Peer | undefined = undefined;
  #last: Series | undefined = undefined;

  constructor(config: Config, deps: FilterDeps) {
    this.#config = config;
    this.#deps = deps;
    this.#own = peerOfMetadata(deps.node.metadata);
  }

  of(ctx: FilterContext): Series {
    const { info } = ctx;
    const { upstreamHostMetadata: host, upstreamClusterMetadata: cluster, responseCode: code, flags } = info;
    const plain = flags === undefined && cluster !== undefined && !isGrpc(ctx);
    const inbound = this.#deps.direction === 'inbound';
    const tls = inbound ? ctx.connection.tls : info.upstreamTls;
    const peer = inbound ? info.downstreamPeer : info.upstreamPeer;
    if (
      plain &&
      host === this.#lastHost &&
      cluster === this.#lastCluster &&
      code === this.#lastCode &&
      tls === this.#lastTls &&
      peer === this.#lastPeer &&
      this.#last
    ) {
      return this.#last;
    }
    const grpc = isGrpc(ctx) ? grpcStatus(ctx) : undefined;
    const service = cluster === undefined ? this.#hostFallback(ctx) : '';
    const name = cluster === undefined ? (info.upstreamCluster ?? '') : '';
    const key = `${this.#id(host)} ${this.#id(cluster)} ${code} ${flags?.join() ?? ''} ${grpc ?? '-'} ${name} ${service} ${this.#id(peer)} ${tls?.mutual ?? ''} ${tls?.peerUriSans[0] ?? ''} ${tls?.localUriSans[0] ?? ''}`;
    let found = this.#series.get(key);
    if (found === undefined) {
      found = this.#make(ctx, grpc);
      if (this.#series.size >= MAX_CACHED_SERIES) this.#series.clear();
      this.#series.set(key, found);
    }
    if (plain) {
      this.#lastHost = host;
      this.#lastCluster = cluster;
      this.#lastCode = code;
      this.#lastTls = tls;
      this.#lastPeer = peer;
      this.#last = found;
    }
    return found;
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

  #make(ctx: FilterContext, grpc: string | undefined): Series {
    const { statistics } = this.#deps;
    const labels = this.#labels(ctx, grpc);
    return {
      requests: statistics.counter('istio_requests_total', labels),
      duration: statistics.histogram('istio_request_duration_milliseconds', labels),
      requestBytes: statistics.histogram('istio_request_bytes', labels),
      responseBytes: statistics.histogram('istio_response_bytes', labels),
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
