/** Spans of a connection manager's requests: begun when the head is there, finished with the stream. */
import type { FormatInput } from '../../http/formatter.ts';
import type { RequestHeaders } from '../../http/headers.ts';
import type { StreamInfo } from '../../http/stream_info.ts';
import type { Route } from '../../router/route.ts';
import { type TagReader, tagReader } from './custom_tags.ts';
import { b3, type Propagation, w3c } from './propagation.ts';
import type { Counter, Statistics } from '../statistics.ts';
import { decideSampling, type SamplingReason } from './sampling.ts';
import { randomSpanId, randomTraceId, type SpanRecord, type SpanSink, type TraceContext } from './span.ts';
import type { TracingConfig } from './tracing_config.ts';

/** What a span reads of its stream. */
export interface TracedStream extends FormatInput {
  readonly info: StreamInfo;
  readonly requestHeaders: RequestHeaders;
  route(): Route | undefined;
}

export interface RequestTracerOptions {
  readonly config: TracingConfig;
  readonly direction: 'inbound' | 'outbound';
  readonly nodeId: string;
  readonly zone: string;
  readonly sink: SpanSink;
  readonly statistics: Statistics;
  /** `http.<stat_prefix>` */
  readonly statPrefix: string;
  random(): number;
}

/** Envoy has them for every connection manager, whether it traces or not. */
export function tracingCounters(statistics: Statistics, prefix: string): Readonly<Record<SamplingReason, Counter>> {
  const counter = (name: SamplingReason): Counter => statistics.counter(`${prefix}.tracing.${name}`);
  return {
    random_sampling: counter('random_sampling'),
    service_forced: counter('service_forced'),
    client_enabled: counter('client_enabled'),
    not_traceable: counter('not_traceable'),
  };
}

/** One a connection manager and thread. */
export class RequestTracer {
  readonly options: RequestTracerOptions;
  readonly tags: readonly (readonly [string, TagReader])[];
  readonly #propagation: Propagation;
  readonly #reasons: Readonly<Record<SamplingReason, Counter>>;

  constructor(options: RequestTracerOptions) {
    this.options = options;
    this.#reasons = tracingCounters(options.statistics, options.statPrefix);
    this.#propagation = options.config.tracer.protocol === 'zipkin' ? b3 : w3c;
    this.tags = options.config.customTags.map(({ tag, value }) => [tag, tagReader(value)] as const);
  }

  /** Takes the caller's context out of the headers and puts the own one in. Before any filter. */
  start(headers: RequestHeaders, stream: TracedStream): RequestSpan {
    const { config, random } = this.options;
    const { traced: decided, reason } = decideSampling(headers, stream.info, config, random);
    this.#reasons[reason].inc();
    const parent = this.#propagation.extract(headers);
    const invalid = parent === 'invalid';
    const known = parent !== undefined && !invalid;
    const context: TraceContext = {
      traceId: known ? parent.traceId : randomTraceId(random),
      spanId: randomSpanId(random),
      parentSpanId: known ? parent.spanId : '',
      // Whoever began the trace has decided for all.
      sampled: known ? parent.sampled : decided && !invalid,
      traceState: known ? parent.traceState : '',
    };
    // What cannot be read is passed on as it came: not ours to mend.
    if (!invalid) this.#propagation.inject(headers, context);
    const span = new RequestSpan(this, context);
    span.decorateRequest(headers, stream);
    return span;
  }
}

export class RequestSpan {
  readonly #tracer: RequestTracer;
  readonly #context: TraceContext;
  /** Given by the peer: it knows the name of what it calls, or of what it is. */
  #operation: string | undefined = undefined;

  constructor(tracer: RequestTracer, context: TraceContext) {
    this.#tracer = tracer;
    this.#context = context;
  }

  /** Names the operation to the server, or takes the name from the client. */
  decorateRequest(headers: RequestHeaders, stream: TracedStream): void {
    if (this.#tracer.options.direction === 'outbound') {
      const operation = stream.route()?.decoratorOperation;
      if (operation !== undefined && operation !== '') headers.set('x-envoy-decorator-operation', operation);
      return;
    }
    const given = headers.get('x-envoy-decorator-operation');
    if (given === undefined) return;
    if (given !== '') this.#operation = given;
    headers.remove('x-envoy-decorator-operation');
  }

  /** Once, when the stream has ended. */
  finish(stream: TracedStream): void {
    if (!this.#context.sampled) return;
    const { config, direction, sink } = this.#tracer.options;
    const { info, requestHeaders } = stream;
    const { traceId, spanId, parentSpanId, traceState } = this.#context;
    const code = info.responseCode;
    const failed = code >= 500 || (code === 0 && info.flags !== undefined);
    const record: SpanRecord = {
      traceId,
      spanId,
      parentSpanId,
      traceState,
      name: this.#operation || stream.route()?.decoratorOperation || (direction === 'outbound' ? 'egress' : 'ingress'),
      kind: direction === 'outbound' ? 'client' : 'server',
      startMs: info.startTimeMs,
      endMs: info.startTimeMs + (info.endMs - info.startMs),
      failed,
      attributes: attributesOf(this.#tracer, stream, requestHeaders, failed, config.maxPathLength),
    };
    sink.add(config.tracer, record);
  }
}

/** Envoy's tags, in Envoy's words (http_tracer_impl.cc finalizeDownstreamSpan). */
function attributesOf(
  tracer: RequestTracer,
  stream: TracedStream,
  headers: RequestHeaders,
  failed: boolean,
  maxPathLength: number,
): (string | number | boolean)[] {
  const { info } = stream;
  const { nodeId, zone } = tracer.options;
  const path = (info.originalPath ?? headers.path).slice(0, maxPathLength);
  const out: (string | number | boolean)[] = [
    'node_id',
    nodeId,
    'zone',
    zone,
    'guid:x-request-id',
    info.requestId ?? '',
    'http.url',
    `${headers.scheme}://${headers.authority}${path}`,
    'http.method',
    headers.method,
    'downstream_cluster',
    headers.get('x-envoy-downstream-service-cluster') ?? '-',
    'user_agent',
    headers.get('user-agent') ?? '-',
    'http.protocol',
    info.protocol,
    'peer.address',
    info.connection.remoteAddress.ip,
    'request_size',
    String(info.bytesReceived),
    'response_size',
    String(info.bytesSent),
    'component',
    'proxy',
    'http.status_code',
    String(info.responseCode),
    'response_flags',
    info.flags?.join(',') ?? '-',
  ];
  if (info.upstreamCluster !== undefined) {
    out.push(
      'upstream_cluster',
      info.upstreamCluster,
      'upstream_cluster.name',
      info.upstreamClusterStatName ?? info.upstreamCluster,
    );
  }
  if (info.upstreamHost !== undefined) out.push('upstream_address', info.upstreamHost.text);
  const client = headers.get('x-client-trace-id');
  if (client !== undefined) out.push('guid:x-client-trace-id', client);
  if (headers.get('content-type')?.startsWith('application/grpc') === true) grpcTags(stream, headers, out);
  if (failed) out.push('error', true);
  for (const [tag, read] of tracer.tags) {
    const value = read(stream);
    if (value !== undefined) out.push(tag, value);
  }
  return out;
}

function grpcTags(stream: TracedStream, headers: RequestHeaders, out: (string | number | boolean)[]): void {
  out.push(
    'grpc.path',
    headers.path,
    'grpc.authority',
    headers.authority,
    'grpc.content-type',
    headers.get('content-type') ?? '',
  );
  const timeout = headers.get('grpc-timeout');
  if (timeout !== undefined) out.push('grpc.timeout', timeout);
  const status = stream.responseTrailers?.get('grpc-status') ?? stream.responseHeaders?.get('grpc-status');
  if (status !== undefined) out.push('grpc.status_code', status);
  const message = stream.responseTrailers?.get('grpc-message') ?? stream.responseHeaders?.get('grpc-message');
  if (message !== undefined) out.push('grpc.message', message);
}
