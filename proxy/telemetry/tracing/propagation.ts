/** Trace context in headers: W3C Trace Context (traceparent, tracestate) and Zipkin's B3, single and multiple headers. */
import type { RequestHeaders } from '../../http/headers.ts';
import type { TraceContext } from './span.ts';

export interface Propagation {
  /** undefined: no context came. `invalid`: one came that cannot be read, the request is not traced. */
  extract(headers: RequestHeaders): TraceContext | 'invalid' | undefined;
  inject(headers: RequestHeaders, context: TraceContext): void;
}

const ZERO_TRACE = '0'.repeat(32);
const ZERO_SPAN = '0'.repeat(16);

/** https://www.w3.org/TR/trace-context/ §3.2 */
export const w3c: Propagation = {
  extract(headers) {
    const header = headers.get('traceparent');
    if (header === undefined) return undefined;
    // version-traceid-parentid-flags; a later version may have more behind a further dash.
    if (
      header.length < 55 ||
      header.charCodeAt(2) !== 45 ||
      header.charCodeAt(35) !== 45 ||
      header.charCodeAt(52) !== 45
    )
      return 'invalid';
    const version = header.slice(0, 2);
    const traceId = header.slice(3, 35);
    const spanId = header.slice(36, 52);
    const flags = header.slice(53, 55);
    if (version === 'ff' || !isHex(version) || (version === '00' && header.length !== 55)) return 'invalid';
    if (header.length > 55 && header.charCodeAt(55) !== 45) return 'invalid';
    if (!isHex(traceId) || !isHex(spanId) || !isHex(flags) || traceId === ZERO_TRACE || spanId === ZERO_SPAN)
      return 'invalid';
    return {
      traceId,
      spanId,
      parentSpanId: '',
      sampled: (Number.parseInt(flags, 16) & 1) === 1,
      traceState: headers.joined('tracestate') ?? '',
    };
  },
  inject(headers, { traceId, spanId, sampled, traceState }) {
    headers.set('traceparent', `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`);
    if (traceState !== '') headers.set('tracestate', traceState);
  },
};

/** https://github.com/openzipkin/b3-propagation */
export const b3: Propagation = {
  extract(headers) {
    const single = headers.get('b3');
    if (single !== undefined) return fromSingle(single);
    const traceId = headers.get('x-b3-traceid');
    const sampled = headers.get('x-b3-sampled');
    const debug = headers.get('x-b3-flags') === '1';
    if (traceId === undefined) return undefined;
    return contextOf(
      traceId,
      headers.get('x-b3-spanid') ?? '',
      headers.get('x-b3-parentspanid') ?? '',
      debug ? '1' : sampled,
    );
  },
  inject(headers, { traceId, spanId, parentSpanId, sampled }) {
    headers.remove('b3');
    headers.set('x-b3-traceid', traceId);
    headers.set('x-b3-spanid', spanId);
    if (parentSpanId !== '') headers.set('x-b3-parentspanid', parentSpanId);
    else headers.remove('x-b3-parentspanid');
    headers.set('x-b3-sampled', sampled ? '1' : '0');
  },
};

/** `traceid-spanid[-sampled[-parentid]]`, or the decision alone. */
function fromSingle(header: string): TraceContext | 'invalid' | undefined {
  const [traceId = '', spanId, sampled, parent] = header.split('-', 4);
  // A decision without a trace: there is no parent, and what is to be sampled we decide ourselves.
  if (spanId === undefined) return traceId === '0' || traceId === '1' || traceId === 'd' ? undefined : 'invalid';
  return contextOf(traceId, spanId, parent ?? '', sampled === 'd' ? '1' : sampled);
}

function contextOf(
  traceId: string,
  spanId: string,
  parent: string,
  sampled: string | undefined,
): TraceContext | 'invalid' {
  const long = traceId.length === 16 ? ZERO_SPAN + traceId : traceId;
  if (long.length !== 32 || spanId.length !== 16 || !isHex(long) || !isHex(spanId)) return 'invalid';
  if (parent !== '' && (parent.length !== 16 || !isHex(parent))) return 'invalid';
  return {
    traceId: long,
    spanId,
    parentSpanId: parent,
    // Absent: deferred to us; the one who began the trace wants it.
    sampled: sampled === undefined || sampled === '1' || sampled === 'true',
    traceState: '',
  };
}

/** Lower-case, as the recommendation wants it; what is not has no meaning. */
function isHex(text: string): boolean {
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (!((code >= 48 && code <= 57) || (code >= 97 && code <= 102))) return false;
  }
  return true;
}
