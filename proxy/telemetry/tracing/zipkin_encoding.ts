/** Spans as Zipkin's v2 JSON (https://zipkin.io/zipkin-api/#/default/post_spans). */
import type { SpanRecord } from './span.ts';

export function zipkinJson(spans: readonly SpanRecord[], serviceName: string, longTraceIds: boolean): Buffer {
  return Buffer.from(JSON.stringify(spans.map((span) => zipkinSpan(span, serviceName, longTraceIds))));
}

function zipkinSpan(span: SpanRecord, serviceName: string, longTraceIds: boolean): unknown {
  const tags: Record<string, string> = {};
  for (let i = 0; i < span.attributes.length; i += 2) tags[String(span.attributes[i])] = String(span.attributes[i + 1]);
  return {
    traceId: longTraceIds ? span.traceId : span.traceId.slice(16),
    id: span.spanId,
    ...(span.parentSpanId !== '' && { parentId: span.parentSpanId }),
    name: span.name,
    kind: span.kind === 'server' ? 'SERVER' : 'CLIENT',
    timestamp: Math.round(span.startMs * 1000),
    duration: Math.max(1, Math.round((span.endMs - span.startMs) * 1000)),
    localEndpoint: { serviceName },
    tags,
  };
}
