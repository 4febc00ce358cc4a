/**
 * Mutated and random bytes into the HTTP/1.1 codecs, with a fixed seed and a fixed number of rounds. Nothing throws or
 * loops; splits change nothing; what is accepted is re-encoded to what this parser and llhttp read as the same message.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { RequestHeaders } from '../../proxy/http/headers.ts';
import { readWithLlhttp } from '../support/llhttp.ts';
import {
  ClientWire,
  encodedRequest,
  fieldList,
  type Message,
  requestHead,
  ServerWire,
  type WireEvent,
} from '../support/wire.ts';

const ROUNDS = 50_000;
const NEXT = 'GET /next HTTP/1.1\r\nHost: example.com\r\n\r\n';

/** What llhttp refuses and this parser does not, on purpose; test/wire/llhttp_strict.test.ts says more. */
const TOLERATED: ReadonlySet<string> = new Set([
  // Any token in capitals is a method.
  'Invalid method encountered',
  'Expected space after method',
  // Extensions are dropped unread.
  'Invalid character in chunk extensions name',
  'Invalid character in chunk extensions quote value',
  'Invalid character in chunk extensions quoted value',
  // An upgrade asked for with a body, in HTTP/1.0, or to h2c is none.
  'Pause on CONNECT/Upgrade',
  // As a trailer: dropped.
  "Content-Length can't be present with Transfer-Encoding",
]);

const REQUESTS: readonly string[] = [
  'GET / HTTP/1.1\r\nHost: example.com\r\n\r\n',
  'GET /a?b=c HTTP/1.1\r\nHost: example.com:80\r\nAccept: */*\r\nCookie: a=b\r\ncookie: c\r\n\r\n',
  'POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: b\r\n\r\n',
  'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x="y"\r\nhello\r\nA\r\n0123456789\r\n0\r\nX-T: u\r\n\r\n',
  'PUT / HTTP/1.1\r\nHost: a\r\ntransfer-encoding: chunked\r\nTrailer: X\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n',
  'GET http://b.example/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n',
  'OPTIONS * HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\r\nHEAD / HTTP/1.1\r\nHost: a\r\n\r\n',
  'CONNECT a.example:443 HTTP/1.1\r\nHost: a\r\n\r\n\x16\x03\x01',
  'GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x01x',
  'GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n',
  'DELETE /\xe9 HTTP/1.1\r\nHost: [::1]:8\r\nX: \t \xff \r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n\r\n\r',
];

const RESPONSES: readonly string[] = [
  'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello',
  'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nhello\r\n1\r\n!\r\n0\r\nGrpc-Status: 0\r\n\r\n',
  'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n',
  'HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\n',
  'HTTP/1.1 304 Not Modified\r\nContent-Length: 3\r\nETag: "a"\r\n\r\n',
  'HTTP/1.0 200\r\nConnection: keep-alive\r\nKeep-Alive: timeout=5\r\n\r\nuntil the end\r\n',
  'HTTP/1.1 503 \xe9\r\nConnection: close\r\nSet-Cookie: a\r\nset-cookie: b\r\nContent-Length: 2\r\n\r\nhi',
];

const SNIPPETS: readonly string[] = [
  '\r',
  '\n',
  '\r\n',
  '\r\n\r\n',
  '\0',
  ' ',
  '\t',
  ':',
  ';',
  ',',
  '"',
  '0',
  '-',
  '+',
  '\x0b',
  '\x7f',
  '\x80',
  '\xff',
  '0x',
  'ffffffffffffff',
  'Content-Length: 5\r\n',
  'content-length: 0\r\n',
  'Content-Length : 5\r\n',
  '\nContent-Length: 5\r\n',
  'Transfer-Encoding: chunked\r\n',
  'Transfer-Encoding: identity\r\n',
  'Transfer-Encoding:\x0bchunked\r\n',
  'Host: c\r\n',
  'Connection: close\r\n',
  'Connection: keep-alive\r\n',
  'Connection: upgrade\r\n',
  'Upgrade: websocket\r\n',
  'Upgrade: h2c\r\n',
  ' HTTP/1.1\r\n',
  'HTTP/1.0',
  'HTTP/1.1 200 OK\r\n',
  '0\r\n\r\n',
  '5\r\nhello\r\n',
  ' folded\r\n',
  'GET /x HTTP/1.1\r\nHost: d\r\n\r\n',
  'X: y\r\n',
  '1;a=b\r\nz\r\n',
  'http://e',
  '100',
  '101',
  '999',
];

/** mulberry32: the same numbers on every machine. */
class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit;
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}

function mutated(random: Random, corpus: readonly string[]): string {
  let text = random.of(corpus);
  for (let left = 1 + random.below(4); left > 0; left--) {
    const at = random.below(text.length + 1);
    const end = Math.min(text.length, at + random.below(8));
    switch (random.below(7)) {
      case 0:
        text = text.slice(0, at) + String.fromCharCode(random.below(256)) + text.slice(at + 1);
        break;
      case 1:
        text = text.slice(0, at) + text.slice(end);
        break;
      case 2:
        text = text.slice(0, end) + text.slice(at);
        break;
      case 3:
        text = text.slice(0, at) + random.of(corpus).slice(random.below(40));
        break;
      case 4: {
        // A whole line, where lines begin.
        const line = text.indexOf('\r\n', at) + 2;
        text = text.slice(0, line) + random.of(SNIPPETS) + text.slice(line);
        break;
      }
      default:
        text = text.slice(0, at) + random.of(SNIPPETS) + text.slice(at);
    }
  }
  return text;
}

function noise(random: Random): string {
  const length = random.below(200);
  let text = '';
  while (text.length < length) {
    text += random.below(3) === 0 ? random.of(SNIPPETS) : String.fromCharCode(random.below(256));
  }
  return text;
}

function pieces(random: Random, text: string): Buffer[] {
  const bytes = Buffer.from(text, 'latin1');
  if (random.below(8) === 0) return Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
  const cuts = [0, bytes.length];
  for (let left = 1 + random.below(4); left > 0; left--) cuts.push(random.below(bytes.length + 1));
  cuts.sort((a, b) => a - b);
  return cuts.slice(1).map((end, i) => bytes.subarray(cuts[i], end));
}

function serve(input: readonly Buffer[]): ServerWire {
  const wire = new ServerWire({ acceptHttp10: true }, { onEnd: (request) => request.answer(204) });
  for (const piece of input) wire.feed(piece);
  return wire;
}

function receive(method: string, input: readonly Buffer[], upgrade = false): ClientWire {
  const wire = new ClientWire();
  const headers = requestHead(method, '/', upgrade ? { connection: 'upgrade', upgrade: 'websocket' } : {});
  wire.request({ headers, body: '', trailers: undefined, endsWithHead: true });
  for (const piece of input) wire.feed(piece);
  wire.endInput();
  return wire;
}

/** The fields but those that an encoder may add or leave out. */
function comparable(fields: readonly string[], message: Message): string[] {
  return fields.filter((field) => !(message.body === '' && /^content-length: ?0+$/i.test(field)));
}

const outcomeOf = (message: Message): unknown => [
  comparable(fieldList(message.headers), message),
  message.body,
  message.trailers === undefined ? [] : fieldList(message.trailers),
];

/** To this parser, and to llhttp where it knows the method, `forwarded` is the request and nothing else. */
function assertSameRequest(request: Message<RequestHeaders>, input: string): void {
  const forwarded = encodedRequest(request);
  const says = `${JSON.stringify(input)} was forwarded as ${JSON.stringify(forwarded)}`;
  const { method, authority, path } = request.headers;
  const closes = /(?:^|,)\s*close\s*(?:,|$)/i.test(request.headers.joined('connection') ?? '');
  const again = serve([Buffer.from(closes ? forwarded : forwarded + NEXT, 'latin1')]);
  assert.equal(again.requests.length, closes ? 1 : 2, says);
  const [first, second] = again.requests;
  assert.ok(first?.ended === true && (closes || second?.headers.path === '/next'), says);
  assert.deepEqual(
    [first.headers.method, first.headers.authority, first.headers.path],
    [method, authority, path],
    says,
  );
  assert.deepEqual(outcomeOf(first), outcomeOf(request), says);

  const { messages, errno } = readWithLlhttp(forwarded, 'request');
  // 6 and 8: a method that is not on its list.
  if (errno === 6 || errno === 8) return;
  assert.equal(errno, 0, says);
  assert.deepEqual([messages.length, messages[0]?.start, messages[0]?.body], [1, path, request.body], says);
  const expected = [
    `host: ${authority}`,
    ...fieldList(request.headers),
    ...(request.trailers === undefined ? [] : fieldList(request.trailers)),
  ];
  const read = (messages[0]?.fields ?? []).filter((field) => field !== 'transfer-encoding: chunked');
  assert.deepEqual(comparable(read, request), comparable(expected, request), says);
}

function assertSameResponse(method: string, client: ClientWire, input: string): void {
  const response = client.responses[0];
  if (response === undefined || !response.ended || response.headers.status === 101) return;
  const server = new ServerWire();
  server.feed(Buffer.from(`${method} / HTTP/1.1\r\nHost: a\r\n\r\n`));
  server.requests[0]?.send(response);
  const says = `${JSON.stringify(input)} was forwarded as ${JSON.stringify(server.written)}`;
  const again = receive(method, [Buffer.from(server.written, 'latin1')]);
  const [received] = again.responses;
  assert.ok(received?.ended === true, says);
  assert.deepEqual(
    [received.headers.status, outcomeOf(received)],
    [response.headers.status, outcomeOf(response)],
    says,
  );
  assert.ok(
    again.events.every((event) => typeof event !== 'object' || !('stray' in event)),
    says,
  );
  const { messages, errno } = readWithLlhttp(server.written, 'response', method === 'HEAD');
  assert.equal(errno, 0, says);
  assert.deepEqual(
    [messages.length, messages[0]?.start, messages[0]?.body],
    [1, String(response.headers.status), response.body],
    says,
  );
}

const hasError = (events: readonly WireEvent[]): boolean =>
  events.some((event) => typeof event === 'object' && 'error' in event);

/** After a full collection, in bytes. */
function heapUsed(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  return process.memoryUsage().heapUsed;
}

test('Http1ServerCodec and Http1ClientCodec agree with each other and with llhttp when requests are mutated', () => {
  const random = new Random(1);
  let accepted = 0;
  let refused = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const input = round % 10 === 9 ? noise(random) : mutated(random, REQUESTS);
    const whole = serve([Buffer.from(input, 'latin1')]);
    const split = serve(pieces(random, input));
    assert.deepEqual(split.events, whole.events, JSON.stringify(input));
    assert.equal(split.written, whole.written, JSON.stringify(input));
    for (const request of whole.requests) {
      if (!request.ended) continue;
      accepted++;
      assertSameRequest(request, input);
    }
    if (hasError(whole.events)) {
      refused++;
      continue;
    }
    // What this parser reads to its end llhttp reads too, and both see the same messages.
    if (whole.closed || whole.codec.hasPartialHead || whole.requests.some(({ ended }) => !ended)) continue;
    const { messages, errno, reason } = readWithLlhttp(input, 'request');
    if (errno !== 0) {
      assert.ok(TOLERATED.has(reason), `llhttp says "${reason}" of ${JSON.stringify(input)}`);
      continue;
    }
    const seen = whole.requests.map(({ body }) => body);
    assert.deepEqual(
      seen,
      messages.map(({ body }) => body),
      JSON.stringify(input),
    );
  }
  // A fuzzer that only ever sees one side tests nothing.
  assert.ok(accepted > ROUNDS / 10, `accepted ${accepted}`);
  assert.ok(refused > ROUNDS / 10, `refused ${refused}`);
});

test('Http1ClientCodec and Http1ServerCodec agree with each other and with llhttp when responses are mutated', () => {
  const random = new Random(2);
  let accepted = 0;
  let refused = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const input = round % 10 === 9 ? `HTTP/1.1 ${noise(random)}` : mutated(random, RESPONSES);
    const method = random.of(['GET', 'GET', 'GET', 'HEAD', 'CONNECT']);
    const upgrade = random.below(8) === 0;
    const whole = receive(method, [Buffer.from(input, 'latin1')], upgrade);
    const split = receive(method, pieces(random, input), upgrade);
    assert.deepEqual(split.events, whole.events, JSON.stringify(input));
    if (hasError(whole.events)) refused++;
    else accepted++;
    if (method !== 'CONNECT') assertSameResponse(method, whole, input);
  }
  assert.ok(accepted > ROUNDS / 10, `accepted ${accepted}`);
  assert.ok(refused > ROUNDS / 10, `refused ${refused}`);
});

test('the codecs hold no memory when many connections sent large heads with names of their own', () => {
  const value = 'v'.repeat(50_000);
  const run = (from: number): void => {
    for (let i = from; i < from + 1_000; i++) {
      // Few names have one length and one first letter: those are remembered.
      const name = `${String.fromCharCode(97 + (i % 26))}${String(i).padStart(20 + ((i / 26) % 40), '-')}`;
      const wire = serve([Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\n${name}: w\r\nX: ${value}\r\n\r\n`)]);
      assert.equal(wire.requests.length, 1);
    }
  };
  run(1);
  const before = heapUsed();
  run(1_001);
  assert.ok(heapUsed() - before < 5_000_000, `1,000 heads of 50 kB left ${heapUsed() - before} bytes`);
});

for (const [what, head, piece] of [
  ['empty lines', '', '\r\n'.repeat(500)],
  ['body', `POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ${1e12}\r\n\r\n`, 'b'.repeat(1_000)],
  ['chunks of one byte', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n', '1\r\nx\r\n'.repeat(150)],
  ['pipelined requests', '', 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(30)],
] as const) {
  test(`Http1ServerCodec takes all of it at once when ${what} never end`, () => {
    const codec = new ServerWire({}, { onEnd: (request) => request.answer(204) });
    codec.feed(Buffer.from(head));
    for (let round = 0; round < 200; round++) {
      codec.feed(Buffer.from(piece));
      assert.equal(codec.leftover, '');
    }
    assert.equal(hasError(codec.events), false);
  });
}

for (const [what, head, piece] of [
  ['request line', 'GET /', 'a'.repeat(100)],
  ['field', 'GET / HTTP/1.1\r\nHost: a\r\nX: ', 'a'.repeat(100)],
  ['list of fields', 'GET / HTTP/1.1\r\nHost: a\r\n', 'X: y\r\n'.repeat(20)],
  ['chunk extension', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;', 'a'.repeat(100)],
  ['chunk size', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n', '0'.repeat(100)],
  ['list of trailers', 'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n', 'X: y\r\n'.repeat(20)],
] as const) {
  test(`Http1ServerCodec refuses before 64 kB when a ${what} never ends`, () => {
    const wire = serve([Buffer.from(head)]);
    let sent = head.length;
    while (!hasError(wire.events) && sent < 65_536) {
      wire.feed(Buffer.from(piece));
      sent += piece.length;
    }
    assert.ok(hasError(wire.events), `${sent} bytes were taken`);
  });
}
