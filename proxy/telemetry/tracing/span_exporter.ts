/** The control thread's end of tracing: spans of all data threads, in bounded queues, to collectors. */
import CircuitBreaker from 'opossum';
import type { ClusterCall, ClusterCaller } from '../../cluster_caller.ts';
import type { NodeIdentity } from '../../proxy_options.ts';
import { limitedLog } from '../log_limit.ts';
import type { Logger } from '../log.ts';
import type { Counter, Statistics } from '../statistics.ts';
import type { SpanBatch } from './thread_spans.ts';
import type { SpanRecord } from './span.ts';
import type { TracerConfig } from './tracing_config.ts';

/** Waiting for one collector; beyond, spans are dropped and counted. */
const MAX_QUEUED_SPANS = 8192;
const MAX_SPANS_A_REQUEST = 512;
const GRPC_PATH = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';

export interface SpanExportersOptions {
  readonly caller: ClusterCaller;
  readonly log: Logger;
  readonly node: NodeIdentity;
  readonly statistics: Statistics;
}

/** One exporter a tracer configuration. */
export class SpanExporters {
  readonly #options: SpanExportersOptions;
  readonly #exporters = new Map<string, SpanExporter>();

  constructor(options: SpanExportersOptions) {
    this.#options = options;
  }

  add({ tracer, spans }: SpanBatch): void {
    const key = JSON.stringify(tracer);
    let exporter = this.#exporters.get(key);
    if (exporter === undefined) {
      exporter = new SpanExporter(tracer, this.#options);
      this.#exporters.set(key, exporter);
    }
    exporter.add(spans);
  }

  /** Resolves when what is queued now was sent, or could not be. */
  async flush(): Promise<void> {
    await Promise.all([...this.#exporters.values()].map((exporter) => exporter.flush()));
  }
}

class SpanExporter {
  readonly #tracer: TracerConfig;
  readonly #options: SpanExportersOptions;
  readonly #queue: SpanRecord[] = [];
  readonly #sent: Counter;
  readonly #dropped: Counter;
  readonly #complain: (level: 'warning', message: string) => void;
  /** A collector that is down is asked again every ten seconds, not with every batch. */
  readonly #breaker: CircuitBreaker<[readonly SpanRecord[]], void>;
  #sending: Promise<void> | undefined = undefined;

  constructor(tracer: TracerConfig, options: SpanExportersOptions) {
    this.#tracer = tracer;
    this.#options = options;
    this.#sent = options.statistics.counter('tracing.spans_sent');
    this.#dropped = options.statistics.counter('tracing.spans_dropped');
    this.#complain = limitedLog(options.log, 'tracing');
    this.#breaker = new CircuitBreaker((spans: readonly SpanRecord[]) => this.#send(spans), {
      timeout: false,
      errorThresholdPercentage: 50,
      volumeThreshold: 3,
      resetTimeout: 10_000,
    });
  }

  add(spans: readonly SpanRecord[]): void {
    const room = MAX_QUEUED_SPANS - this.#queue.length;
    for (const span of spans.slice(0, room)) this.#queue.push(span);
    if (spans.length > room) this.#dropped.add(spans.length - room);
    this.#sending ??= this.#drain();
  }

  async flush(): Promise<void> {
    await this.#sending;
  }

  async #drain(): Promise<void> {
    while (this.#queue.length > 0) {
      const spans = this.#queue.splice(0, MAX_SPANS_A_REQUEST);
      try {
        await this.#breaker.fire(spans);
        this.#sent.add(spans.length);
      } catch (error) {
        this.#dropped.add(spans.length);
        this.#complain('warning', `Cannot send ${spans.length} spans to ${this.#place()}: ${(error as Error).message}`);
      }
    }
    this.#sending = undefined;
  }

  #place(): string {
    return this.#tracer.cluster === '' ? this.#tracer.url : `cluster "${this.#tracer.cluster}"`;
  }

  async #send(spans: readonly SpanRecord[]): Promise<void> {
    const { protocol, headers, timeoutMs, authority, path, cluster, url } = this.#tracer;
    const { caller, node } = this.#options;
    const serviceName = this.#tracer.serviceName || serviceNameOf(node);
    let call: ClusterCall;
    if (protocol === 'zipkin') {
      const { zipkinJson } = await import('./zipkin_encoding.ts');
      const body = zipkinJson(spans, serviceName, this.#tracer.longTraceIds);
      call = { authority, path, headers: [['content-type', 'application/json'], ...headers], body, timeoutMs };
    } else {
      const { otlpRequest } = await import('./otlp_encoding.ts');
      const message = otlpRequest(spans, serviceName, node);
      call =
        protocol === 'otlp_grpc'
          ? { authority, path: GRPC_PATH, headers: [...headers], body: message, timeoutMs, grpc: true }
          : {
              authority,
              path,
              headers: [['content-type', 'application/x-protobuf'], ...headers],
              body: message,
              timeoutMs,
            };
    }
    if (cluster !== '' && caller.has(cluster)) await caller.call(cluster, call);
    else if (url !== '') await post(url, call);
    else throw new Error(`there is no cluster "${cluster}"`);
  }
}

/** Istio's default: the application's name and namespace. */
function serviceNameOf({ metadata, cluster }: NodeIdentity): string {
  const labels = metadata['LABELS'] as Readonly<Record<string, unknown>> | undefined;
  const name = labels?.['service.istio.io/canonical-name'] ?? labels?.['app'] ?? metadata['WORKLOAD_NAME'];
  const namespace = metadata['NAMESPACE'];
  if (typeof name === 'string' && name !== '') return typeof namespace === 'string' ? `${name}.${namespace}` : name;
  return cluster === '' ? 'pillion' : cluster;
}

async function post(url: string, { headers, body, timeoutMs }: ClusterCall): Promise<void> {
  const { request } = await import('undici');
  const answer = await request(url, {
    method: 'POST',
    headers: Object.fromEntries(headers),
    body,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  });
  await answer.body.dump();
  if (answer.statusCode >= 300) throw new Error(`${url} answered ${answer.statusCode}`);
}
