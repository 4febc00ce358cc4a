/** The control thread's end of tracing: spans of all data threads, in bounded queues, to collectors. */
import type { ClusterCall, ClusterCaller } from '../../cluster_caller.ts';
import type { NodeIdentity } from '../../proxy_options.ts';
import { ExportQueue } from '../export_queue.ts';
import type { Logger } from '../log.ts';
import { serviceNameOf } from '../otlp_resource.ts';
import type { Statistics } from '../statistics.ts';
import type { SpanRecord } from './span.ts';
import type { TracerConfig } from './tracing_config.ts';

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

  add(tracer: TracerConfig, spans: readonly SpanRecord[]): void {
    const key = JSON.stringify(tracer);
    let exporter = this.#exporters.get(key);
    if (exporter === undefined) {
      exporter = new SpanExporter(tracer, this.#options);
      this.#exporters.set(key, exporter);
    }
    exporter.queue.add(spans);
  }

  /** Resolves when what is queued now was sent, or could not be. */
  async flush(): Promise<void> {
    await Promise.all([...this.#exporters.values()].map(({ queue }) => queue.flush()));
  }
}

class SpanExporter {
  readonly queue: ExportQueue<SpanRecord>;
  readonly #tracer: TracerConfig;
  readonly #options: SpanExportersOptions;

  constructor(tracer: TracerConfig, options: SpanExportersOptions) {
    this.#tracer = tracer;
    this.#options = options;
    this.queue = new ExportQueue({
      what: 'spans',
      place: tracer.cluster === '' ? tracer.url : `cluster "${tracer.cluster}"`,
      component: 'tracing',
      log: options.log,
      sent: options.statistics.counter('tracing.spans_sent'),
      dropped: options.statistics.counter('tracing.spans_dropped'),
      send: (spans) => this.#send(spans),
    });
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
