/** Wire scripts for the server side of HTTP/1.1: whole, split at every byte, byte by byte, always the same outcome. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Http1Options } from '../../proxy/http1/options.ts';
import {
  assertEverySplit,
  type ReceivedRequest,
  responseHead,
  type ServerHooks,
  ServerWire,
  trailerFields,
  type WireEvent,
} from '../support/wire.ts';

interface Outcome {
  readonly events: readonly WireEvent[];
  readonly written: string;
}

interface Script {
  readonly when: string;
  readonly does: string;
  readonly options?: Http1Options;
  readonly input: string;
  /** Answers each request as it ends, unless the hooks say otherwise. */
  readonly hooks?: ServerHooks;
  /** Answers one request after the other when all of the input has come, instead. */
  readonly late?: (request: ReceivedRequest) => void;
  readonly endInput?: boolean;
  readonly events: readonly WireEvent[];
  /** Undefined: not looked at. */
  readonly written?: string;
}

const EMPTY_200 = 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n';
const EMPTY_200_CLOSE = 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n';
/** Clients of HTTP/1.0 are answered in it. */
const in10 = (response: string): string => response.replace('HTTP/1.1', 'HTTP/1.0');
const ok = (request: ReceivedRequest): void => request.answer(200);
const keep: WireEvent = { complete: 'keep' };
const close: WireEvent = { complete: 'close' };

function run(script: Script, pieces: readonly Buffer[]): Outcome {
  const hooks = script.hooks ?? (script.late === undefined ? { onEnd: ok } : {});
  const wire = new ServerWire(script.options, hooks);
  for (const piece of pieces) wire.feed(piece);
  if (script.late !== undefined) {
    // Each answer may let the next request in.
    for (let i = 0; i < wire.requests.length; i++) script.late(wire.requests[i] as ReceivedRequest);
  }
  if (script.endInput === true) wire.endInput();
  return { events: wire.events, written: script.written === undefined ? '' : wire.written };
}

function tests(scripts: readonly Script[]): void {
  for (const script of scripts) {
    test(`Http1ServerCodec ${script.does} when ${script.when}`, () => {
      assertEverySplit(script.input, (pieces) => run(script, pieces), {
        events: script.events,
        written: script.written ?? '',
      });
    });
  }
}

/** A head event of `GET / ` to example.com, without other fields. */
const get = (path: string, fields: readonly string[] = [], end = true): WireEvent => ({
  head: `GET http://example.com ${path}`,
  fields,
  end,
});

describe('keep-alive and pipelining', () => {
  tests([
    {
      when: 'one request comes',
      does: 'keeps the connection',
      input: 'GET /a?b=c HTTP/1.1\r\nHost: example.com\r\nAccept: */*\r\n\r\n',
      events: [get('/a?b=c', ['Accept: */*']), keep],
      written: EMPTY_200,
    },
    {
      when: 'two requests come, the first with a body',
      does: 'reads the second behind the body',
      input:
        'POST /1 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n',
      events: [
        { head: 'POST http://example.com /1', fields: ['Content-Length: 5'], end: false },
        { body: 'hello' },
        'end',
        keep,
        get('/2'),
        keep,
      ],
      written: EMPTY_200 + EMPTY_200,
    },
    {
      when: 'three are pipelined and answered late',
      does: 'takes the next only when the one before is answered',
      input: ['/1', '/2', '/3'].map((path) => `GET ${path} HTTP/1.1\r\nHost: example.com\r\n\r\n`).join(''),
      late: (request) => request.answer(200, request.headers.path),
      events: [get('/1'), keep, get('/2'), keep, get('/3'), keep],
      written: ['/1', '/2', '/3'].map((path) => `HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n${path}`).join(''),
    },
    {
      when: 'Connection: close is pipelined with another request, answered at once',
      does: 'reads nothing behind it',
      input:
        'GET /1 HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\nGET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n',
      events: [get('/1', ['Connection: close']), close],
      written: EMPTY_200_CLOSE,
    },
    {
      when: 'Connection: close is pipelined with another request, answered late',
      does: 'reads nothing behind it',
      input:
        'GET /1 HTTP/1.1\r\nHost: example.com\r\nConnection: x, Close\r\n\r\nGET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n',
      late: ok,
      events: [get('/1', ['Connection: x, Close']), close],
      written: EMPTY_200_CLOSE,
    },
    {
      when: 'empty lines stand before and between requests',
      does: 'ignores them',
      input: '\r\n\r\nGET /1 HTTP/1.1\r\nHost: example.com\r\n\r\n\r\n\r\nGET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n',
      events: [get('/1'), keep, get('/2'), keep],
    },
    {
      when: 'the answer is complete before the body',
      does: 'closes and reads no more',
      input:
        'POST /1 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 40\r\n\r\nGET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n',
      hooks: { onHead: (request) => request.answer(413) },
      events: [{ head: 'POST http://example.com /1', fields: ['Content-Length: 40'], end: false }, close],
    },
    {
      when: 'the client closes within a head',
      does: 'says so and answers nothing',
      input: 'GET / HTTP/1.1\r\nHost: exam',
      endInput: true,
      events: [{ error: 0, details: 'http1.connection_closed' }],
      written: '',
    },
    {
      when: 'the client closes within a body',
      does: 'says so',
      input: 'POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 5\r\n\r\nhel',
      endInput: true,
      events: [
        { head: 'POST http://example.com /', fields: ['Content-Length: 5'], end: false },
        { body: 'hel' },
        { error: 0, details: 'http1.connection_closed' },
      ],
    },
    {
      when: 'the client closes between requests',
      does: 'finds nothing wrong',
      input: 'GET / HTTP/1.1\r\nHost: example.com\r\n\r\n',
      endInput: true,
      events: [get('/'), keep],
    },
  ]);

  test('Http1ServerCodec announces the close with the next response when goAway came while it was idle', () => {
    const wire = new ServerWire({}, { onEnd: ok });
    wire.codec.goAway();
    wire.feed(Buffer.from('GET / HTTP/1.1\r\nHost: example.com\r\n\r\n'));
    assert.equal(wire.written, EMPTY_200_CLOSE);
    assert.deepEqual(wire.events.at(-1), close);
  });

  test('Http1ServerCodec closes behind the answer when the stream is reset', () => {
    const wire = new ServerWire({}, { onEnd: (request) => request.encoder.reset('local reset') });
    wire.feed(Buffer.from('GET /1 HTTP/1.1\r\nHost: example.com\r\n\r\nGET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n'));
    assert.deepEqual(wire.events, [get('/1'), { reset: 'ours' }]);
    assert.equal(wire.codec.canDispatch, false);
  });

  test('Http1ServerCodec lets go of reads a response held when the response ends', () => {
    const wire = new ServerWire();
    wire.feed(Buffer.from('GET / HTTP/1.1\r\nHost: example.com\r\n\r\n'));
    const [request] = wire.requests as [ReceivedRequest];
    request.encoder.readDisable(true);
    request.encoder.readDisable(true);
    assert.equal(wire.readHolds, 2);
    request.answer(200);
    assert.equal(wire.readHolds, 0);
    request.encoder.readDisable(true);
    assert.equal(wire.readHolds, 0, 'an ended stream holds nothing');
  });
});

describe('request bodies', () => {
  const head = 'POST /up HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n';
  const begins: WireEvent = { head: 'POST http://example.com /up', fields: [], end: false };
  tests([
    {
      when: 'the body is chunked',
      does: 'joins the chunks',
      input: `${head}5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n`,
      events: [begins, { body: 'hello world' }, 'end', keep],
    },
    {
      when: 'chunk sizes are hexadecimal in both cases with zeros in front',
      does: 'reads them',
      input: `${head}00a\r\n0123456789\r\nB\r\n0123456789a\r\n000\r\n\r\n`,
      events: [begins, { body: '01234567890123456789a' }, 'end', keep],
    },
    {
      when: 'chunks have extensions',
      does: 'drops the extensions',
      input: `${head}5;a=b;c="d e"\r\nhello\r\n0;last\r\n\r\n`,
      events: [begins, { body: 'hello' }, 'end', keep],
    },
    {
      when: 'trailers follow',
      does: 'hands them over without framing fields',
      input: `${head}2\r\nhi\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\nConnection: close\r\nx-sum: 2\r\n\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n`,
      events: [begins, { body: 'hi' }, { trailers: ['X-Sum: 1', 'x-sum: 2'] }, keep, get('/'), keep],
    },
    {
      when: 'the chunked body is empty',
      does: 'ends the stream without data',
      input: `${head}0\r\n\r\n`,
      events: [begins, 'end', keep],
    },
    {
      when: 'the body holds what looks like a request',
      does: 'takes it for body',
      input: `POST /1 HTTP/1.1\r\nHost: example.com\r\nContent-Length: 36\r\n\r\nGET /2 HTTP/1.1\r\nHost: example.c\r\n\r\n`,
      events: [
        { head: 'POST http://example.com /1', fields: ['Content-Length: 36'], end: false },
        { body: 'GET /2 HTTP/1.1\r\nHost: example.c\r\n\r\n' },
        'end',
        keep,
      ],
    },
    {
      when: 'Content-Length is 0',
      does: 'ends with the head',
      input: 'POST / HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n',
      events: [{ head: 'POST http://example.com /', fields: ['Content-Length: 0'], end: true }, keep],
    },
    {
      when: 'Expect: 100-continue is answered with an interim head',
      does: 'writes 100, then the answer',
      input: 'POST / HTTP/1.1\r\nHost: example.com\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nhi',
      hooks: { onHead: (request) => request.encoder.encode1xx(responseHead(100)), onEnd: ok },
      events: [
        { head: 'POST http://example.com /', fields: ['Expect: 100-continue', 'Content-Length: 2'], end: false },
        { body: 'hi' },
        'end',
        keep,
      ],
      written: `HTTP/1.1 100 Continue\r\n\r\n${EMPTY_200}`,
    },
  ]);
});

describe('responses', () => {
  const request = (method: string, version = '1.1'): string =>
    `${method} / HTTP/${version}\r\nHost: example.com\r\n\r\n`;
  interface Case {
    readonly when: string;
    readonly input: string;
    readonly options?: Http1Options;
    readonly answer: (request: ReceivedRequest) => void;
    readonly written: string;
  }
  const cases: readonly Case[] = [
    {
      when: 'the body has a length',
      input: request('GET'),
      answer: (r) => r.answer(200, 'hello'),
      written: 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello',
    },
    {
      when: 'the body has no length',
      input: request('GET'),
      answer: (r) =>
        r.send({ headers: responseHead(200), body: 'hello world', trailers: undefined, endsWithHead: false }, [5, 1]),
      written: 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n',
    },
    {
      when: 'trailers follow a chunked body',
      input: request('GET'),
      answer: (r) =>
        r.send({
          headers: responseHead(200),
          body: 'hi',
          trailers: trailerFields({ 'X-Sum': '1' }),
          endsWithHead: false,
        }),
      written: 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n',
    },
    {
      when: 'trailers follow a body with a length',
      input: request('GET'),
      answer: (r) =>
        r.send({
          headers: responseHead(200, { 'content-length': '2' }),
          body: 'hi',
          trailers: trailerFields({ 'x-sum': '1' }),
          endsWithHead: false,
        }),
      written: 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi',
    },
    {
      when: 'HEAD is answered with the length of the body it stands for',
      input: request('HEAD'),
      answer: (r) =>
        r.send({
          headers: responseHead(200, { 'content-length': '5' }),
          body: 'hello',
          trailers: undefined,
          endsWithHead: false,
        }),
      written: 'HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n',
    },
    {
      when: 'HEAD is answered without a length',
      input: request('HEAD'),
      answer: (r) => r.send({ headers: responseHead(200), body: 'x', trailers: undefined, endsWithHead: false }),
      written: 'HTTP/1.1 200 OK\r\n\r\n',
    },
    {
      when: 'the status is 204',
      input: request('GET'),
      answer: (r) => r.answer(204),
      written: 'HTTP/1.1 204 No Content\r\n\r\n',
    },
    {
      when: 'the status is 304 with a length and a body',
      input: request('GET'),
      answer: (r) => r.answer(304, 'hello'),
      written: 'HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n',
    },
    {
      when: 'names have capitals and an order',
      input: request('GET'),
      answer: (r) => r.answer(200, '', { 'X-b': '1', 'x-A': '2', 'X-B': '3' }),
      written: 'HTTP/1.1 200 OK\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\ncontent-length: 0\r\n\r\n',
    },
    {
      when: 'the reason phrase is the upstream’s own',
      input: request('GET'),
      answer: (r) => {
        const headers = responseHead(200);
        headers.reason = 'Fine';
        r.send({ headers, body: '', trailers: undefined, endsWithHead: true });
      },
      written: 'HTTP/1.1 200 Fine\r\ncontent-length: 0\r\n\r\n',
    },
    {
      when: 'the status has no name',
      input: request('GET'),
      answer: (r) => r.answer(799),
      written: 'HTTP/1.1 799 Unknown\r\ncontent-length: 0\r\n\r\n',
    },
    {
      when: 'more is encoded behind the end',
      input: request('GET'),
      answer: (r) => {
        r.answer(200);
        r.encoder.encodeHeaders(responseHead(500), true);
        r.encoder.encodeData(Buffer.from('x'), true);
        r.encoder.encodeTrailers(trailerFields({ a: 'b' }));
        r.encoder.encode1xx(responseHead(103));
      },
      written: EMPTY_200,
    },
    {
      when: 'an HTTP/1.0 client gets an interim response',
      input: request('GET', '1.0'),
      options: { acceptHttp10: true },
      answer: (r) => {
        r.encoder.encode1xx(responseHead(103));
        r.answer(200);
      },
      written: in10(EMPTY_200_CLOSE),
    },
    {
      when: 'an HTTP/1.0 client gets a body without a length',
      input: 'GET / HTTP/1.0\r\nHost: example.com\r\nConnection: keep-alive\r\n\r\n',
      options: { acceptHttp10: true },
      answer: (r) => r.send({ headers: responseHead(200), body: 'hi', trailers: undefined, endsWithHead: false }),
      written: 'HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nhi',
    },
  ];
  for (const { when, input, options, answer, written } of cases) {
    test(`Http1ServerCodec frames the response as RFC 9112 §6 says when ${when}`, () => {
      const wire = new ServerWire(options, { onEnd: answer });
      wire.feed(Buffer.from(input));
      assert.equal(wire.written, written);
    });
  }
});

describe('request targets', () => {
  tests([
    {
      when: 'the target is absolute and names another host',
      does: 'lets the target win',
      input: 'GET http://other.example:81/a?b HTTP/1.1\r\nHost: example.com\r\n\r\n',
      events: [{ head: 'GET http://other.example:81 /a?b', fields: [], end: true }, keep],
    },
    {
      when: 'the target is absolute without a path',
      does: 'makes the path /',
      input: 'GET HTTPS://other.example HTTP/1.1\r\nHost: other.example\r\n\r\n',
      events: [{ head: 'GET https://other.example /', fields: [], end: true }, keep],
    },
    {
      when: 'the target is absolute with a query only',
      does: 'puts / before it',
      input: 'GET http://other.example?q HTTP/1.1\r\nHost: other.example\r\n\r\n',
      events: [{ head: 'GET http://other.example /?q', fields: [], end: true }, keep],
    },
    {
      when: 'OPTIONS asks of the server as a whole',
      does: 'keeps the asterisk',
      input: 'OPTIONS * HTTP/1.1\r\nHost: example.com\r\n\r\nOPTIONS http://other.example HTTP/1.1\r\nHost: a\r\n\r\n',
      events: [
        { head: 'OPTIONS http://example.com *', fields: [], end: true },
        keep,
        { head: 'OPTIONS http://other.example *', fields: [], end: true },
        keep,
      ],
    },
    {
      when: 'CONNECT is accepted',
      does: 'holds what follows until then, and then passes it on raw',
      input: 'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n\x16\x03\x01GET / HTTP/1.1\r\n\r\n',
      late: (request) => {
        assert.equal(request.body, '');
        request.encoder.encodeHeaders(responseHead(200), false);
        request.encoder.encodeData(Buffer.from('\x16\x03\x03', 'latin1'), false);
      },
      events: [
        { head: 'CONNECT http://example.com:443', fields: [], end: false },
        { body: '\x16\x03\x01GET / HTTP/1.1\r\n\r\n' },
      ],
      written: 'HTTP/1.1 200 OK\r\n\r\n\x16\x03\x03',
    },
    {
      when: 'CONNECT is refused',
      does: 'closes and reads nothing behind it',
      input: 'CONNECT [::1]:443 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: example.com\r\n\r\n',
      late: (request) => request.answer(403),
      events: [{ head: 'CONNECT http://[::1]:443', fields: [], end: false }, close],
      written: 'HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n',
    },
  ]);
});

describe('upgrades', () => {
  const upgrade = 'GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n';
  const asks = get('/ws', ['Upgrade: websocket', 'Connection: Upgrade'], false);
  const switching = (): ReturnType<typeof responseHead> =>
    responseHead(101, { Upgrade: 'websocket', Connection: 'Upgrade' });
  tests([
    {
      when: 'an upgrade is accepted late',
      does: 'holds what follows until then, and then passes it on raw',
      input: `${upgrade}\x81\x05hello\r\n\r\n`,
      late: (request) => {
        assert.equal(request.body, '');
        request.encoder.encodeHeaders(switching(), false);
        request.encoder.encodeData(Buffer.from('\x81\x00', 'latin1'), false);
      },
      events: [asks, { body: '\x81\x05hello\r\n\r\n' }],
      written: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00',
    },
    {
      when: 'an upgrade is accepted at once',
      does: 'passes on raw what follows in the same bytes',
      input: `${upgrade}GET / HTTP/1.1\r\n\r\n`,
      hooks: { onHead: (request) => request.encoder.encodeHeaders(switching(), false) },
      events: [asks, { body: 'GET / HTTP/1.1\r\n\r\n' }],
    },
    {
      when: 'an upgrade is refused',
      does: 'closes and reads nothing behind it',
      input: `${upgrade}GET / HTTP/1.1\r\nHost: example.com\r\n\r\n`,
      late: (request) => request.answer(403),
      events: [asks, close],
      written: 'HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n',
    },
    {
      when: 'Upgrade comes without its token in Connection',
      does: 'takes it for an ordinary request',
      input:
        'GET / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\r\nGET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n',
      events: [get('/'), keep, get('/2'), keep],
    },
    ...['h2c', 'TLS/1.2'].map((protocol) => ({
      when: `an upgrade to ${protocol} is offered`,
      does: 'takes it for an ordinary request without the offer',
      input: `GET / HTTP/1.1\r\nHost: example.com\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: ${protocol}\r\nHTTP2-Settings: AAMAAABk\r\n\r\n`,
      events: [get('/', ['Connection: Upgrade, HTTP2-Settings', 'HTTP2-Settings: AAMAAABk']), keep],
    })),
    {
      when: 'a request with a body asks for an upgrade',
      does: 'takes it for an ordinary request that asks for none',
      input:
        'POST / HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nhiGET /2 HTTP/1.1\r\nHost: example.com\r\n\r\n',
      events: [
        {
          head: 'POST http://example.com /',
          fields: ['Connection: Upgrade', 'Content-Length: 2'],
          end: false,
        },
        { body: 'hi' },
        'end',
        keep,
        get('/2'),
        keep,
      ],
    },
  ]);

  test('Http1ServerCodec closes when the response of an upgraded connection ends', () => {
    const wire = new ServerWire();
    wire.feed(Buffer.from(upgrade));
    const [request] = wire.requests as [ReceivedRequest];
    request.encoder.encodeHeaders(switching(), false);
    request.encoder.encodeData(Buffer.from('bye'), true);
    assert.deepEqual(wire.events.at(-1), close);
    assert.ok(wire.written.endsWith('\r\n\r\nbye'));
  });
});

describe('HTTP/1.0', () => {
  const accept: Http1Options = { acceptHttp10: true };
  tests([
    {
      when: 'HTTP/1.0 is not enabled',
      does: 'answers 426',
      input: 'GET / HTTP/1.0\r\nHost: example.com\r\n\r\n',
      events: [{ error: 426, details: 'low_version' }],
    },
    {
      when: 'an HTTP/1.0 request says nothing of the connection',
      does: 'closes',
      options: accept,
      input: 'GET / HTTP/1.0\r\nHost: example.com\r\n\r\nGET /2 HTTP/1.0\r\nHost: example.com\r\n\r\n',
      events: [get('/'), close],
      written: in10(EMPTY_200_CLOSE),
    },
    {
      when: 'an HTTP/1.0 request wants to keep the connection',
      does: 'keeps it and says so',
      options: accept,
      input:
        'GET / HTTP/1.0\r\nHost: example.com\r\nConnection: Keep-Alive\r\n\r\nGET /2 HTTP/1.0\r\nHost: example.com\r\n\r\n',
      events: [get('/', ['Connection: Keep-Alive']), keep, get('/2'), close],
      written: `HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: keep-alive\r\n\r\n${in10(EMPTY_200_CLOSE)}`,
    },
    {
      when: 'an HTTP/1.0 request names no host and there is a default',
      does: 'takes the default',
      options: { acceptHttp10: true, defaultHostForHttp10: 'default.example' },
      input: 'GET / HTTP/1.0\r\n\r\n',
      events: [{ head: 'GET http://default.example /', fields: [], end: true }, close],
    },
    {
      when: 'an HTTP/1.0 request names no host and there is no default',
      does: 'refuses',
      options: accept,
      input: 'GET / HTTP/1.0\r\n\r\n',
      events: [{ error: 400, details: 'http1.invalid_host' }],
    },
    {
      when: 'an HTTP/1.0 request is chunked',
      does: 'refuses',
      options: accept,
      input: 'POST / HTTP/1.0\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      events: [{ error: 400, details: 'http1.transfer_encoding_not_allowed' }],
    },
    {
      when: 'an HTTP/1.0 request asks for an upgrade',
      does: 'takes it for an ordinary request',
      options: accept,
      input: 'GET / HTTP/1.0\r\nHost: example.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n',
      events: [get('/', ['Connection: upgrade']), close],
    },
  ]);
});

describe('limits', () => {
  /** A request of exactly `size` bytes whose request line has `lineSize` bytes without its CRLF. */
  function sized(size: number, lineSize: number): string {
    const line = `GET /${'p'.repeat(lineSize - 'GET / HTTP/1.1'.length)} HTTP/1.1`;
    const before = `${line}\r\nHost: example.com\r\nX: `;
    return `${before}${'v'.repeat(size - before.length - 4)}\r\n\r\n`;
  }
  const small: Http1Options = { maxHeadBytes: 120 };
  const path = (lineSize: number): string => `/${'p'.repeat(lineSize - 'GET / HTTP/1.1'.length)}`;
  tests([
    {
      when: 'the head is one byte below the limit',
      does: 'takes it',
      options: small,
      input: sized(119, 40),
      events: [get(path(40), [`X: ${'v'.repeat(51)}`]), keep],
    },
    {
      when: 'the head is as long as the limit',
      does: 'takes it',
      options: small,
      input: sized(120, 40),
      events: [get(path(40), [`X: ${'v'.repeat(52)}`]), keep],
    },
    {
      when: 'the head is one byte above the limit',
      does: 'answers 431',
      options: small,
      input: sized(121, 40),
      events: [{ error: 431, details: 'http1.headers_too_large' }],
    },
    {
      when: 'the request line is as long as the limit',
      does: 'answers 431, for the head is too long',
      options: small,
      input: sized(160, 120),
      events: [{ error: 431, details: 'http1.headers_too_large' }],
    },
    {
      when: 'the request line alone is longer than the limit',
      does: 'answers 414',
      options: small,
      input: sized(160, 121),
      events: [{ error: 414, details: 'http1.uri_too_long' }],
    },
    {
      when: 'there are as many fields as the limit',
      does: 'takes them',
      options: { maxHeaderCount: 3 },
      input: 'GET / HTTP/1.1\r\nHost: example.com\r\nA: 1\r\nB: 2\r\n\r\n',
      events: [get('/', ['A: 1', 'B: 2']), keep],
    },
    {
      when: 'there is one field more than the limit',
      does: 'answers 431',
      options: { maxHeaderCount: 3 },
      input: 'GET / HTTP/1.1\r\nHost: example.com\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n',
      events: [{ error: 431, details: 'http1.too_many_headers' }],
    },
  ]);

  test('Http1ServerCodec has the documented limits when no option says otherwise', () => {
    const outcome = (input: string): WireEvent | undefined => {
      const wire = new ServerWire({}, { onEnd: ok });
      wire.feed(Buffer.from(input));
      return wire.events.at(-1);
    };
    const fields = (count: number): string => Array.from({ length: count }, (_, i) => `x-${i}: v\r\n`).join('');
    assert.deepEqual(outcome(sized(61_440, 40)), keep);
    assert.deepEqual(outcome(sized(61_441, 40)), { error: 431, details: 'http1.headers_too_large' });
    assert.deepEqual(outcome(sized(61_500, 61_441)), { error: 414, details: 'http1.uri_too_long' });
    assert.deepEqual(outcome(`GET / HTTP/1.1\r\nHost: a\r\n${fields(99)}\r\n`), keep);
    const tooMany = { error: 431, details: 'http1.too_many_headers' };
    assert.deepEqual(outcome(`GET / HTTP/1.1\r\nHost: a\r\n${fields(100)}\r\n`), tooMany);
  });

  const chunked = 'POST / HTTP/1.1\r\nHost: example.com\r\nTransfer-Encoding: chunked\r\n\r\n';
  for (const [name, input, expected] of [
    ['trailers are as long as the limit', `${chunked}0\r\nx: ${'v'.repeat(16_384 - 7)}\r\n\r\n`, keep],
    [
      'trailers are one byte longer than the limit',
      `${chunked}0\r\nx: ${'v'.repeat(16_384 - 6)}\r\n\r\n`,
      { error: 431, details: 'http1.trailers_too_large' },
    ],
    [
      'trailers have too many fields',
      `${chunked}0\r\n${'x: v\r\n'.repeat(101)}\r\n`,
      { error: 431, details: 'http1.too_many_headers' },
    ],
    ['extensions are as long as the limit', `${chunked}1;${'e'.repeat(4_096)}\r\nx\r\n0\r\n\r\n`, keep],
    [
      'extensions are one byte longer than the limit',
      `${chunked}1;${'e'.repeat(4_097)}\r\nx\r\n0\r\n\r\n`,
      { error: 400, details: 'http1.codec_error' },
    ],
  ] as const) {
    test(`Http1ServerCodec keeps its limit when ${name}`, () => {
      const bytes = Buffer.from(input);
      for (const size of [bytes.length, 1_000, 1]) {
        const wire = new ServerWire({}, { onEnd: ok });
        for (let at = 0; at < bytes.length; at += size) wire.feed(bytes.subarray(at, at + size));
        assert.deepEqual(wire.events.at(-1), expected, `in pieces of ${size}`);
      }
    });
  }
});

describe('names and values', () => {
  test('Http1ServerCodec gives lower-case names, trimmed values and the wire’s spelling when names have capitals', () => {
    const wire = new ServerWire();
    const head = 'GET / HTTP/1.1\r\nhOsT: a\r\nX-Two: \t v w \t\r\nx-two:\r\nX-TWO:\xe9\r\n\r\n';
    wire.feed(Buffer.from(head, 'latin1'));
    const { headers } = wire.requests[0] as ReceivedRequest;
    assert.equal(headers.authority, 'a');
    assert.deepEqual(headers.fields, ['x-two', 'v w', 'x-two', '', 'x-two', 'é']);
    assert.deepEqual(headers.getAll('x-two'), ['v w', '', 'é']);
    assert.equal(headers.get(':authority'), 'a');
    assert.equal(headers.wireBytes, head.length);
  });

  test('Http1ServerCodec knows names whatever their number when many have one length and one first letter', () => {
    const names = Array.from({ length: 40 }, (_, i) => `q-${String(i).padStart(3, '0')}`);
    for (let round = 0; round < 2; round++) {
      const wire = new ServerWire();
      wire.feed(
        Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\n${names.map((name) => `${name}: ${name}\r\n`).join('')}\r\n`),
      );
      const { headers } = wire.requests[0] as ReceivedRequest;
      assert.deepEqual(
        names.map((name) => headers.get(name)),
        names,
      );
    }
  });

  for (const name of ['__proto__', 'constructor', 'toString']) {
    test(`Http1ServerCodec takes a field for an ordinary one when it is called ${name}`, () => {
      const wire = new ServerWire();
      wire.feed(Buffer.from(`GET / HTTP/1.1\r\nHost: a\r\n${name}: v\r\n\r\n`));
      assert.deepEqual((wire.requests[0] as ReceivedRequest).headers.fields, [name.toLowerCase(), 'v']);
    });
  }
});
