import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { RequestHeaders } from '../../../../proxy/http/headers.ts';
import { b3, w3c } from '../../../../proxy/telemetry/tracing/propagation.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SPAN = 'b7ad6b7169203331';

function headers(fields: Readonly<Record<string, string>>): RequestHeaders {
  const out = new RequestHeaders();
  for (const [name, value] of Object.entries(fields)) out.append(name, value);
  return out;
}

describe('W3C trace context', () => {
  for (const [traceparent, expected] of [
    [`00-${TRACE}-${SPAN}-01`, true],
    [`00-${TRACE}-${SPAN}-00`, false],
    [`00-${TRACE}-${SPAN}-03`, true],
    [`cc-${TRACE}-${SPAN}-01-what-the-future-holds`, true],
    [`00-${TRACE}-${SPAN}-01-x`, 'invalid'],
    [`ff-${TRACE}-${SPAN}-01`, 'invalid'],
    [`00-${TRACE.toUpperCase()}-${SPAN}-01`, 'invalid'],
    [`00-${'0'.repeat(32)}-${SPAN}-01`, 'invalid'],
    [`00-${TRACE}-${'0'.repeat(16)}-01`, 'invalid'],
    [`00-${TRACE}-${SPAN}-0g`, 'invalid'],
    [`00-${TRACE}-${SPAN}`, 'invalid'],
    [`cc-${TRACE}-${SPAN}-01.x`, 'invalid'],
    ['', 'invalid'],
  ] as const) {
    it(`extract reads ${expected} of traceparent "${traceparent}"`, () => {
      const context = w3c.extract(headers({ traceparent }));
      assert.equal(typeof context === 'object' ? context.sampled : context, expected);
    });
  }

  it('inject replaces what was there', () => {
    const request = headers({ traceparent: `00-${TRACE}-${SPAN}-00` });
    w3c.inject(request, {
      traceId: TRACE,
      spanId: '00f067aa0ba902b7',
      parentSpanId: SPAN,
      sampled: true,
      traceState: '',
    });
    assert.deepEqual(request.getAll('traceparent'), [`00-${TRACE}-00f067aa0ba902b7-01`]);
  });
});

describe('B3', () => {
  for (const [fields, expected] of [
    [{ b3: `${TRACE}-${SPAN}-1` }, true],
    [{ b3: `${TRACE}-${SPAN}-d` }, true],
    [{ b3: `${TRACE}-${SPAN}-0-${SPAN}` }, false],
    [{ b3: `${TRACE}-${SPAN}` }, true],
    [{ b3: '0' }, undefined],
    [{ b3: 'x' }, 'invalid'],
    [{ b3: `${TRACE}-short-1` }, 'invalid'],
    [{ 'x-b3-traceid': TRACE, 'x-b3-spanid': SPAN, 'x-b3-sampled': '0' }, false],
    [{ 'x-b3-traceid': TRACE, 'x-b3-spanid': SPAN, 'x-b3-sampled': '0', 'x-b3-flags': '1' }, true],
    [{ 'x-b3-traceid': TRACE.slice(16), 'x-b3-spanid': SPAN, 'x-b3-sampled': '1' }, true],
    [{ 'x-b3-traceid': TRACE }, 'invalid'],
    [{}, undefined],
  ] as const) {
    it(`extract reads ${expected} of ${JSON.stringify(fields)}`, () => {
      const context = b3.extract(headers(fields));
      assert.equal(typeof context === 'object' ? context.sampled : context, expected);
    });
  }
});
