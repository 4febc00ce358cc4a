/** What one side's codec encodes the other side's decodes to the same, for random messages at random splits. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type Headers, RequestHeaders, ResponseHeaders } from '../../proxy/http/headers.ts';
import {
  addFields,
  ClientWire,
  encodedRequest,
  fieldList,
  type Message,
  requestHead,
  ServerWire,
  trailerFields,
} from '../support/wire.ts';

const RUNS = { seed: 9112, numRuns: 1_500 } as const;

/** Fields that the codecs take out, add, or read. */
const FRAMING = new Set([
  'host',
  'content-length',
  'transfer-encoding',
  'connection',
  'upgrade',
  'keep-alive',
  'trailer',
]);

const chars = (from: string, max: number, min = 0): fc.Arbitrary<string> =>
  fc.string({ unit: fc.constantFrom(...from), minLength: min, maxLength: max });

function range(from: number, to: number): string {
  return Array.from({ length: to - from + 1 }, (_, i) => String.fromCharCode(from + i)).join('');
}

const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const digits = '0123456789';
const visible = range(33, 126);
const tokens = `!#$%&'*+-.^_\`|~${digits}${letters}`;

const name = fc
  .oneof(chars(tokens, 70, 1), fc.constantFrom('Cookie', 'set-cookie', 'X-Forwarded-For', 'Expect', '__proto__', 'te'))
  .filter((text) => !FRAMING.has(text.toLowerCase()));
const value = chars(`\t ${visible}${range(128, 255)}`, 60).map((text) => text.replace(/^[ \t]+|[ \t]+$/g, ''));
const fields = fc.array(fc.tuple(name, value), { maxLength: 12 });
const body = fc.oneof(
  chars(range(0, 255), 200),
  fc.constantFrom('', '\r\n', '0\r\n\r\n', 'GET / HTTP/1.1\r\n\r\n'),
  fc.integer({ min: 1, max: 20_000 }).map((size) => 'b'.repeat(size)),
);
const sizes = fc.array(fc.integer({ min: 1, max: 5_000 }), { maxLength: 5 });
/** How the body is framed; `none`: the head is all. */
const framing = fc.constantFrom('none', 'length', 'chunked', 'trailers');
const cuts = fc.array(fc.nat({ max: 30_000 }), { maxLength: 8 });
const method = fc.oneof(
  fc.constantFrom('GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'OPTIONS', 'PATCH', 'TRACE'),
  fc
    .tuple(chars(letters.slice(0, 26), 1, 1), chars(`${letters.slice(0, 26)}${digits}_-`, 20))
    .map((two) => two.join('')),
);

interface Drawn<H> {
  readonly message: Message<H>;
  readonly sizes: readonly number[];
}

/** A message around `headers`: what the framing asks for is added to them. */
function framed<H extends RequestHeaders | ResponseHeaders>(
  headers: H,
  drawn: { fields: [string, string][]; body: string; framing: string; trailers: [string, string][]; sizes: number[] },
): Drawn<H> {
  addFields(headers, drawn.fields);
  const none = drawn.framing === 'none';
  if (drawn.framing === 'length') headers.append('content-length', String(drawn.body.length));
  let trailers: Headers | undefined;
  if (drawn.framing === 'trailers' && drawn.trailers.length > 0) {
    trailers = trailerFields({});
    addFields(trailers, drawn.trailers);
  }
  return { message: { headers, body: none ? '' : drawn.body, trailers, endsWithHead: none }, sizes: drawn.sizes };
}

const parts = { fields, body, framing, trailers: fields, sizes };

const request = fc
  .record({
    ...parts,
    method: method.filter((text) => text !== 'CONNECT'),
    path: fc.oneof(chars(visible, 80), fc.constant('')).map((text) => `/${text}`),
    authority: chars(`${letters}${digits}-.:[]_~%!`, 40, 1),
  })
  .map((drawn) => framed(requestHead(drawn.method, drawn.path, {}, drawn.authority), drawn));

const response = fc
  .record({
    ...parts,
    status: fc
      .oneof(fc.constantFrom(200, 206, 301, 404, 503), fc.integer({ min: 200, max: 999 }))
      .filter((n) => n !== 204 && n !== 304),
    reason: fc.option(
      chars(`\t ${visible}${range(128, 255)}`, 30).map((text) => text.trimStart()),
      { nil: undefined },
    ),
  })
  .map((drawn) => {
    const headers = new ResponseHeaders();
    headers.status = drawn.status;
    headers.reason = drawn.reason;
    return framed(headers, drawn);
  });

function pieces(script: string, at: readonly number[]): Buffer[] {
  const bytes = Buffer.from(script, 'latin1');
  const bounds = [...new Set([0, bytes.length, ...at.map((cut) => (bytes.length === 0 ? 0 : cut % bytes.length))])];
  bounds.sort((a, b) => a - b);
  return bounds.slice(1).map((end, i) => bytes.subarray(bounds[i], end));
}

/** What must survive the way; the codec may add a length of 0. */
function essence(message: Message): unknown {
  const { headers, body: text, trailers } = message;
  const list = fieldList(headers);
  return {
    start:
      headers instanceof RequestHeaders
        ? [headers.method, headers.authority, headers.path]
        : [headers.status, headers.reason],
    fields: message.body === '' ? list.filter((field) => field !== 'content-length: 0') : list,
    body: text,
    trailers: trailers === undefined ? [] : fieldList(trailers),
  };
}

test('requests of Http1ClientCodec come out of Http1ServerCodec as they went in when several are pipelined', () => {
  fc.assert(
    fc.property(fc.array(request, { minLength: 1, maxLength: 3 }), cuts, fc.boolean(), (requests, at, late) => {
      const sent = requests.map(({ message }) => essence(message));
      const script = requests.map(({ message, sizes: chunks }) => encodedRequest(message, chunks)).join('');
      const wire = new ServerWire({}, late ? {} : { onEnd: (received) => received.answer(204) });
      for (const piece of pieces(script, at)) wire.feed(piece);
      if (late) for (let i = 0; i < wire.requests.length; i++) wire.requests[i]?.answer(204);
      assert.deepEqual(wire.requests.map(essence), sent);
      assert.ok(wire.requests.every(({ ended }) => ended));
      assert.equal(wire.written, 'HTTP/1.1 204 No Content\r\n\r\n'.repeat(requests.length));
    }),
    RUNS,
  );
});

test('responses of Http1ServerCodec come out of Http1ClientCodec as they went in when they are split', () => {
  fc.assert(
    fc.property(
      response,
      cuts,
      fc.array(fc.constantFrom(100, 102, 103, 199), { maxLength: 3 }),
      ({ message, sizes: chunks }, at, interim) => {
        // The standard phrase is written where there is none.
        const sent = essence(message) as { start: unknown[] };
        const server = new ServerWire();
        server.feed(Buffer.from('GET / HTTP/1.1\r\nHost: a\r\n\r\n'));
        const [received] = server.requests;
        assert.ok(received !== undefined);
        for (const status of interim) {
          const head = new ResponseHeaders();
          head.status = status;
          received.encoder.encode1xx(head);
        }
        received.send(message, chunks);
        const client = new ClientWire();
        const answer = client.request({
          headers: requestHead('GET', '/'),
          body: '',
          trailers: undefined,
          endsWithHead: true,
        });
        for (const piece of pieces(server.written, at)) client.feed(piece);
        if (message.headers.reason === undefined) sent.start[1] = answer.headers.reason;
        assert.deepEqual(essence(answer), sent);
        assert.ok(answer.ended);
        assert.deepEqual(client.events.at(-1), { complete: 'keep' });
        assert.equal(
          client.events.filter((event) => typeof event === 'object' && 'interim' in event).length,
          interim.length,
        );
      },
    ),
    RUNS,
  );
});

test('responses without a body have none on the wire when HEAD, 204 or 304 are answered with one', () => {
  fc.assert(
    fc.property(
      response,
      fc.constantFrom(['HEAD', 0], ['GET', 204], ['GET', 304]),
      cuts,
      ({ message }, [verb, status], at) => {
        const method = String(verb);
        const { headers } = message;
        if (status !== 0) headers.status = Number(status);
        if (status === 204) headers.remove('content-length');
        const server = new ServerWire();
        server.feed(Buffer.from(`${method} / HTTP/1.1\r\nHost: a\r\n\r\n`));
        server.requests[0]?.send(message);
        assert.ok(server.written.endsWith('\r\n\r\n'));
        const client = new ClientWire();
        const answer = client.request({
          headers: requestHead(method, '/'),
          body: '',
          trailers: undefined,
          endsWithHead: true,
        });
        for (const piece of pieces(server.written, at)) client.feed(piece);
        assert.deepEqual(fieldList(answer.headers), fieldList(headers));
        assert.deepEqual([answer.ended, answer.body, client.events.length], [true, '', 2]);
      },
    ),
    { ...RUNS, numRuns: 500 },
  );
});
