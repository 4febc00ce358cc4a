/** Spans as OTLP's ExportTraceServiceRequest in protobuf. Loaded with the first span: it brings OpenTelemetry's parts. */
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import type { NodeIdentity } from '../../proxy_options.ts';
import { hrTime, type OtlpResource, resourceOf } from '../otlp_resource.ts';
import type { SpanRecord } from './span.ts';

/** OpenTelemetry's SpanKind and SpanStatusCode (api 1.x). */
const KIND = { server: 1, client: 2 } as const;
const STATUS_UNSET = 0;
const STATUS_ERROR = 2;
const SCOPE = { name: 'pillion' };

type Serializable = Parameters<typeof ProtobufTraceSerializer.serializeRequest>[0];

/** @throws {Error} when OpenTelemetry makes nothing of it. */
export function otlpRequest(spans: readonly SpanRecord[], serviceName: string, node: NodeIdentity): Buffer {
  const resource = resourceOf(serviceName, node);
  const bytes = ProtobufTraceSerializer.serializeRequest(
    spans.map((span) => readable(span, resource)) as unknown as Serializable,
  );
  if (bytes === undefined) throw new Error('OpenTelemetry could not encode the spans');
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** What the serializer reads of a ReadableSpan. */
function readable(span: SpanRecord, resource: OtlpResource): unknown {
  const attributes: Record<string, unknown> = {};
  for (let i = 0; i < span.attributes.length; i += 2) attributes[String(span.attributes[i])] = span.attributes[i + 1];
  const context = (spanId: string) => ({
    traceId: span.traceId,
    spanId,
    traceFlags: 1,
    ...(span.traceState !== '' && { traceState: { serialize: () => span.traceState } }),
  });
  return {
    name: span.name,
    kind: KIND[span.kind],
    spanContext: () => context(span.spanId),
    ...(span.parentSpanId !== '' && { parentSpanContext: { ...context(span.parentSpanId), isRemote: true } }),
    startTime: hrTime(span.startMs),
    endTime: hrTime(span.endMs),
    status: { code: span.failed ? STATUS_ERROR : STATUS_UNSET },
    attributes,
    links: [],
    events: [],
    duration: hrTime(span.endMs - span.startMs),
    ended: true,
    resource,
    instrumentationScope: SCOPE,
    droppedAttributesCount: 0,
    droppedEventsCount: 0,
    droppedLinksCount: 0,
  };
}
