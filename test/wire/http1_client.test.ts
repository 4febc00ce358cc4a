/** Wire scripts for the client side of HTTP/1.1: whole, split at every byte, byte by byte, always the same outcome. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Headers, RequestHeaders, ResponseHeaders } from '../../proxy/http/headers.ts';
import type { Http1Options } from '../../proxy/http1/options.ts';
import {
  assertEverySplit,
  ClientWire,
  encodedRequest,
  fieldList,
  requestHead,
  ServerWire,
  trailerFields,
  type WireEvent,
} from '../support/wire.ts';

interface Script {
  readonly when: string;
  readonly does: string;
  /** Default GET. */
  readonly method?: string;
  readonly fields?: Readonly<Record<string, string>>;
  /** The request stays open: its body is never ended. */
  readonly open?: boolean;
  readonly options?: Http1Options;
  readonly input: string;
  readonly endInput?: boolean;
  readonly events: readonly WireEvent[];
}

const keep: WireEvent = { complete: 'keep' };
const close: WireEvent = { complete: 'close' };

function tests(scripts: readonly Script[]): void {
  for (const { when, does, method = 'GET', fields, open, options, input, endInput, events } of scripts) {
    test(`Http1ClientCodec ${does} when ${when}`, () => {
      const run = (pieces: readonly Buffer[]): readonly WireEvent[] => {
        const wire = new ClientWire(options);
        const headers = requestHead(method, '/', fields, 'example.com:80');
        if (open === true) wire.open().encoder.encodeHeaders(headers, false);
        else wire.request({ headers, body: '', trailers: undefined, endsWithHead: true });
        for (const piece of pieces) wire.feed(piece);
        if (endInput === true) wire.endInput();
        return wire.events;
      };
      assertEverySplit(input, run, events);
    });
  }
}

const ok = (fields: readonly string[], end = false): WireEvent => ({ head: '200 OK', fields, end });

describe('response bodies', () => {
  tests([
    {
      when: 'the body has a length',
      does: 'ends with its last byte',
      input: 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b\r\n\r\nhello',
      events: [ok(['Content-Length: 5', 'X-A: b']), { body: 'hello' }, 'end', keep],
    },
    {
      when: 'the length is 0',
      does: 'ends with the head',
      input: 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n',
      events: [ok(['content-length: 0'], true), keep],
    },
    {
      when: 'the body is chunked with extensions',
      does: 'joins the chunks and drops the extensions',
      input: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n5;a="b"\r\nhello\r\nA\r\n, how are \r\n00;x\r\n\r\n',
      events: [ok([]), { body: 'hello, how are ' }, 'end', keep],
    },
    {
      when: 'trailers follow',
      does: 'hands them over',
      input: 'HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nGrpc-Status: 0\r\nx: \r\n\r\n',
      events: [ok([]), { body: 'hi' }, { trailers: ['Grpc-Status: 0', 'x: '] }, keep],
    },
    {
      when: 'neither length nor chunks are announced',
      does: 'reads until the end of input, then closes',
      input: 'HTTP/1.1 200 OK\r\n\r\nhello\r\n\r\n',
      endInput: true,
      events: [ok([]), { body: 'hello\r\n\r\n' }, 'end', close],
    },
    {
      when: 'the request was HEAD',
      does: 'reads no body whatever is announced',
      method: 'HEAD',
      input: 'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n',
      events: [ok(['Content-Length: 500'], true), keep],
    },
    {
      when: 'the request was HEAD and chunks are announced',
      does: 'reads no body',
      method: 'HEAD',
      input: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n',
      events: [ok([], true), keep],
    },
    {
      when: 'the status is 204 and a length is announced',
      does: 'drops the length and reads no body',
      input: 'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\nX: y\r\n\r\n',
      events: [{ head: '204 No Content', fields: ['X: y'], end: true }, keep],
    },
    {
      when: 'the status is 304 and a length is announced',
      does: 'keeps the length and reads no body',
      input: 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n',
      events: [{ head: '304 Not Modified', fields: ['Content-Length: 5'], end: true }, keep],
    },
  ]);
});

describe('interim responses', () => {
  tests([
    {
      when: '100 and 103 come before the answer',
      does: 'passes them on, without a length',
      method: 'POST',
      fields: { expect: '100-continue', 'content-length': '0' },
      input:
        'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi',
      events: [
        { interim: '100 Continue', fields: [] },
        { interim: '103 Early Hints', fields: ['Link: </a>'] },
        ok(['Content-Length: 2']),
        { body: 'hi' },
        'end',
        keep,
      ],
    },
    {
      when: 'interim responses never end',
      does: 'refuses at the 33rd',
      input: 'HTTP/1.1 102 P\r\n\r\n'.repeat(33),
      events: [
        ...Array.from({ length: 32 }, (): WireEvent => ({ interim: '102 P', fields: [] })),
        { error: 502, details: 'http1.too_many_1xx' },
      ],
    },
  ]);
});

describe('tunnels', () => {
  tests([
    {
      when: '101 answers an upgrade',
      does: 'passes on raw what follows',
      fields: { upgrade: 'websocket', connection: 'upgrade' },
      open: true,
      input: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\n\x81\x02hi\r\n\r\n',
      endInput: true,
      events: [
        { head: '101 Switching Protocols', fields: ['Upgrade: websocket'], end: false },
        { body: '\x81\x02hi\r\n\r\n' },
        'end',
        close,
      ],
    },
    {
      when: '200 answers an upgrade',
      does: 'reads an ordinary response, and closes',
      fields: { upgrade: 'websocket', connection: 'upgrade' },
      open: true,
      input: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno',
      events: [ok(['Content-Length: 2']), { body: 'no' }, 'end', close],
    },
    {
      when: '101 answers a request that asked for no upgrade',
      does: 'refuses',
      input: 'HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n',
      events: [{ error: 502, details: 'http1.unexpected_101' }],
    },
    {
      when: '200 answers CONNECT',
      does: 'passes on raw what follows, whatever length is announced',
      method: 'CONNECT',
      open: true,
      input: 'HTTP/1.1 200 Connection established\r\nContent-Length: 2\r\n\r\n\x16\x03\x01',
      events: [{ head: '200 Connection established', fields: [], end: false }, { body: '\x16\x03\x01' }],
    },
    {
      when: '407 answers CONNECT',
      does: 'reads an ordinary response, and closes',
      method: 'CONNECT',
      open: true,
      input: 'HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n',
      events: [{ head: '407 No', fields: ['Content-Length: 0'], end: true }, close],
    },
  ]);

  test('Http1ClientCodec sends raw bytes when an upgrade was accepted, and none before', () => {
    const wire = new ClientWire();
    const { encoder } = wire.open();
    encoder.encodeHeaders(requestHead('GET', '/ws', { Connection: 'Upgrade', Upgrade: 'websocket' }), false);
    const head = 'GET /ws HTTP/1.1\r\nhost: example.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
    encoder.encodeData(Buffer.from('early'), false);
    assert.equal(wire.written, head);
    wire.feed(Buffer.from('HTTP/1.1 101 Switching Protocols\r\n\r\n'));
    encoder.encodeData(Buffer.from('late'), false);
    assert.equal(wire.written, `${head}late`);
  });
});

describe('the end of a response, and of the connection', () => {
  tests([
    {
      when: 'the upstream announces the close',
      does: 'closes behind the response',
      input: 'HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi',
      events: [ok(['Connection: close', 'Content-Length: 2']), { body: 'hi' }, 'end', close],
    },
    {
      when: 'the response is HTTP/1.0',
      does: 'closes behind it',
      input: 'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi',
      events: [ok(['Content-Length: 2']), { body: 'hi' }, 'end', close],
    },
    {
      when: 'the response is HTTP/1.0 and keeps the connection',
      does: 'keeps it',
      input: 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi',
      events: [ok(['Connection: keep-alive', 'Content-Length: 2']), { body: 'hi' }, 'end', keep],
    },
    {
      when: 'the response is chunked in HTTP/1.0',
      does: 'closes behind it whatever it says of the connection',
      input: 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      events: [ok(['Connection: keep-alive']), 'end', close],
    },
    {
      when: 'the response is complete before the request',
      does: 'closes behind it',
      method: 'POST',
      open: true,
      input: 'HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n',
      events: [{ head: '413 Too Large', fields: ['Content-Length: 0'], end: true }, close],
    },
    {
      when: 'bytes follow the response',
      does: 'leaves them',
      input: 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
      events: [
        ok(['Content-Length: 2']),
        { body: 'hi' },
        'end',
        keep,
        { stray: 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n' },
      ],
    },
    {
      when: 'a body follows 204',
      does: 'leaves it',
      input: 'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n',
      events: [{ head: '204 No Content', fields: [], end: true }, keep, { stray: '2\r\nhi\r\n0\r\n\r\n' }],
    },
    ...(
      [
        ['nothing came', '', []],
        ['the status line is incomplete', 'HTTP/1.1 20', []],
        ['the head is incomplete', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n', []],
        [
          'the body is shorter than announced',
          'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell',
          [ok(['Content-Length: 5']), { body: 'hell' }],
        ],
        [
          'the last chunk is missing',
          'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n',
          [ok([]), { body: 'hello' }],
        ],
        [
          'the empty line behind the last chunk is missing',
          'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n',
          [ok([]), { body: 'hello' }],
        ],
        ['only an interim response came', 'HTTP/1.1 100 Continue\r\n\r\n', [{ interim: '100 Continue', fields: [] }]],
      ] as const
    ).map(
      ([when, input, events]): Script => ({
        when: `the upstream closes and ${when}`,
        does: 'says that the response ended early',
        input,
        endInput: true,
        events: [...events, { error: 0, details: 'http1.connection_closed' }],
      }),
    ),
  ]);

  test('Http1ClientCodec takes nothing and opens no second stream when it is not its turn', () => {
    const wire = new ClientWire();
    wire.feed(Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'));
    assert.deepEqual(wire.events, [{ stray: 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n' }]);
    const { response } = wire.open();
    assert.equal(wire.codec.newStream(response), undefined);
    assert.equal(response.hasHead, false);
  });

  test('Http1ClientCodec serves one request after the other when each answer is complete', () => {
    const wire = new ClientWire();
    for (const path of ['/1', '/2', '/3']) {
      const written = wire.written.length;
      const headers = requestHead('GET', path);
      const response = wire.request({ headers, body: '', trailers: undefined, endsWithHead: true });
      assert.equal(wire.written.slice(written), `GET ${path} HTTP/1.1\r\nhost: example.com\r\n\r\n`);
      wire.feed(Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n${path}`));
      assert.equal(response.body, path);
      assert.deepEqual(wire.events.at(-1), keep);
    }
  });

  test('Http1ClientCodec keeps the announced keep-alive time when the head of a response has one', () => {
    const wire = new ClientWire();
    wire.request({ headers: requestHead('GET', '/'), body: '', trailers: undefined, endsWithHead: true });
    wire.feed(Buffer.from('HTTP/1.1 200 OK\r\nKeep-Alive: max=5, Timeout=15\r\nContent-Length: 0\r\n\r\n'));
    assert.equal(wire.codec.keepAliveTimeoutMs, 15_000);
  });

  test('Http1ClientCodec closes and decodes no more when the stream is reset within a body', () => {
    const wire = new ClientWire();
    const { encoder } = wire.open();
    encoder.readDisable(true);
    encoder.encodeHeaders(requestHead('GET', '/'), true);
    wire.feed(Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhel'));
    encoder.reset('local reset');
    assert.deepEqual(wire.events, [ok(['Content-Length: 9']), { body: 'hel' }, { reset: 'ours' }]);
    assert.equal(wire.readHolds, 0);
    assert.deepEqual(wire.codec.dispatch(Buffer.from('lo')), { consumed: 0 });
  });
});

describe('malformed responses', () => {
  const status: WireEvent = { error: 502, details: 'http1.codec_error' };
  const both: WireEvent = { error: 502, details: 'http1.content_length_and_chunked_not_allowed' };
  const rows: readonly (readonly [when: string, input: string, event: WireEvent])[] = [
    ['it is HTTP/0.9', '<html>\r\n\r\n', status],
    ['the version is HTTP/2.0', 'HTTP/2.0 200 OK\r\n\r\n', status],
    ['the version is HTTP/1.2', 'HTTP/1.2 200 OK\r\n\r\n', status],
    ['the status has two digits', 'HTTP/1.1 20\r\nA: b\r\n\r\n', status],
    ['the status has four digits', 'HTTP/1.1 2000 OK\r\n\r\n', status],
    ['the status is below 100', 'HTTP/1.1 099 OK\r\n\r\n', status],
    ['the status has a sign', 'HTTP/1.1 +20 OK\r\n\r\n', status],
    ['two spaces stand before the status', 'HTTP/1.1  200 OK\r\n\r\n', status],
    [
      'length and chunks are announced',
      'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n',
      both,
    ],
    [
      'chunks and length are announced',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n',
      both,
    ],
    [
      'two lengths are announced',
      'HTTP/1.1 200 OK\r\nContent-Length: 1\r\ncontent-length: 1\r\n\r\n',
      { error: 400, details: 'http1.content_length_repeated' },
    ],
    [
      'the coding is unknown',
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n',
      { error: 501, details: 'http1.invalid_transfer_encoding' },
    ],
    ['a value holds NUL', 'HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n', { error: 400, details: 'http1.invalid_characters' }],
    ['a value holds CR', 'HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n', { error: 400, details: 'http1.invalid_characters' }],
    ['a value holds LF', 'HTTP/1.1 200 OK\r\nX: a\nb\r\n\r\n', { error: 400, details: 'http1.invalid_characters' }],
    ['the reason holds LF', 'HTTP/1.1 200 O\nK\r\n\r\n', { error: 400, details: 'http1.invalid_characters' }],
    ['a line is folded', 'HTTP/1.1 200 OK\r\nX: a\r\n b\r\n\r\n', { error: 400, details: 'http1.codec_error' }],
    ['a name ends in a space', 'HTTP/1.1 200 OK\r\nX : a\r\n\r\n', { error: 400, details: 'http1.invalid_characters' }],
  ];
  tests([
    ...rows.map(([when, input, event]): Script => ({ when, does: 'refuses', input, events: [event] })),
    {
      when: 'a chunk is longer than its size',
      does: 'refuses',
      input: 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n0\r\n\r\n',
      events: [ok([]), { body: 'hi' }, { error: 400, details: 'http1.codec_error' }],
    },
    {
      when: 'the head is longer than the limit',
      does: 'refuses',
      options: { maxHeadBytes: 60 },
      input: `HTTP/1.1 200 OK\r\nX: ${'v'.repeat(40)}\r\n\r\n`,
      events: [{ error: 431, details: 'http1.headers_too_large' }],
    },
    {
      when: 'there are too many fields',
      does: 'refuses',
      options: { maxHeaderCount: 2 },
      input: 'HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nC: 3\r\n\r\n',
      events: [{ error: 431, details: 'http1.too_many_headers' }],
    },
  ]);
});

describe('requests', () => {
  const rows: readonly (readonly [
    when: string,
    request: { readonly headers: RequestHeaders; readonly body?: string; readonly trailers?: Headers },
    sizes: readonly number[],
    written: string,
  ])[] = [
    [
      'names have capitals and an order',
      { headers: requestHead('GET', '/a?b', { 'X-b': '1', 'x-A': '2', 'X-B': '3' }) },
      [],
      'GET /a?b HTTP/1.1\r\nhost: example.com\r\nX-b: 1\r\nx-A: 2\r\nX-B: 3\r\n\r\n',
    ],
    [
      'POST has no body',
      { headers: requestHead('POST', '/') },
      [],
      'POST / HTTP/1.1\r\nhost: example.com\r\ncontent-length: 0\r\n\r\n',
    ],
    [
      'the body has a length',
      { headers: requestHead('PUT', '/', { 'Content-Length': '5' }), body: 'hello' },
      [2],
      'PUT / HTTP/1.1\r\nhost: example.com\r\nContent-Length: 5\r\n\r\nhello',
    ],
    [
      'the body has no length',
      { headers: requestHead('GET', '/'), body: 'hello world, all' },
      [5],
      'GET / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\nb\r\n world, all\r\n0\r\n\r\n',
    ],
    [
      'trailers follow',
      { headers: requestHead('POST', '/'), body: 'hi', trailers: trailerFields({ 'X-Sum': '1' }) },
      [],
      'POST / HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n',
    ],
    [
      'the method is CONNECT',
      { headers: requestHead('CONNECT', '', {}, 'example.com:443') },
      [],
      'CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n',
    ],
  ];
  for (const [when, { headers, body = '', trailers }, sizes, written] of rows) {
    test(`Http1ClientCodec frames the request as RFC 9112 §6 says when ${when}`, () => {
      const endsWithHead = body === '' && trailers === undefined;
      assert.equal(encodedRequest({ headers, body, trailers, endsWithHead }, sizes), written);
    });
  }

  test('Http1ClientCodec sends the fields as Http1ServerCodec received them when nothing touches them', () => {
    const fields = ['ACCEPT: */*', 'x-Mixed: a', 'cookie: b', 'X-mixed: c', 'coOkie: d', 'Empty: '];
    const server = new ServerWire();
    server.feed(Buffer.from(`GET / HTTP/1.1\r\nHost: a.example\r\n${fields.join('\r\n')}\r\n\r\n`));
    const request = server.requests[0];
    assert.ok(request !== undefined);
    assert.equal(encodedRequest(request), `GET / HTTP/1.1\r\nhost: a.example\r\n${fields.join('\r\n')}\r\n\r\n`);
    request.headers.remove('cookie');
    request.headers.set('x-mixed', 'e');
    request.headers.append('new', 'f');
    assert.deepEqual(fieldList(request.headers), ['ACCEPT: */*', 'x-Mixed: e', 'Empty: ', 'new: f']);
  });

  for (const [what, headers] of [
    ['the path', requestHead('GET', '/a b')],
    ['the path', requestHead('GET', '/a\r\nX: y')],
    ['the path', requestHead('GET', '/a\tb')],
    ['the path', requestHead('GET', '/\u010d\u010a')],
    ['the method', requestHead('GET /x HTTP/1.1\r\n', '/')],
    ['the host', requestHead('GET', '/', {}, 'a\r\nx: y')],
    ['the host', requestHead('GET', '/', {}, 'a\u010ab')],
    ['the host', requestHead('CONNECT', '', {}, 'a b:1')],
  ] as const) {
    test(`Http1ClientCodec throws and writes nothing when ${what} of ${JSON.stringify(`${headers.method} ${headers.authority} ${headers.path}`)} would break the head`, () => {
      const wire = new ClientWire();
      const { encoder } = wire.open();
      assert.throws(() => encoder.encodeHeaders(headers, true), TypeError);
      assert.equal(wire.written, '');
    });
  }
});

describe('header maps', () => {
  const breaking = ['a\rb', 'a\nb', 'a\0b', 'a\r\nX: y', '\r\n\r\nHTTP/1.1 200 OK', 'a\u010ab', '\u560d\u560a'];
  for (const map of [new Headers(), new RequestHeaders(), new ResponseHeaders()]) {
    for (const text of breaking) {
      test(`${map.constructor.name} refuses to be split when a value or a name is ${JSON.stringify(text)}`, () => {
        assert.throws(() => map.set('x', text), TypeError);
        assert.throws(() => map.append('x', text), TypeError);
        assert.throws(() => map.set('location', `https://a/${text}`), TypeError);
        assert.throws(() => map.set(text, 'v'), TypeError);
        assert.throws(() => map.append(text, 'v'), TypeError);
        assert.deepEqual(map.fields, []);
      });
    }
  }

  test('RequestHeaders refuses to be split when a pseudo-header is set', () => {
    const headers = new RequestHeaders();
    for (const name of [':path', ':authority', ':method', ':scheme']) {
      for (const text of breaking) assert.throws(() => headers.set(name, text), TypeError);
    }
    assert.equal(headers.path, '/');
  });

  test('Headers keeps spellings beside their fields when fields are removed, set and filtered', () => {
    const headers = trailerFields({ 'A-a': '1', b: '2', 'C-c': '3', 'D-d': '4', e: '5' });
    headers.remove('b');
    assert.deepEqual(fieldList(headers), ['A-a: 1', 'C-c: 3', 'D-d: 4', 'e: 5']);
    headers.filter((name) => name !== 'a-a');
    assert.deepEqual(fieldList(headers), ['C-c: 3', 'D-d: 4', 'e: 5']);
    headers.append('f', '6');
    headers.append('c-c', '7');
    headers.set('c-c', '8');
    assert.deepEqual(fieldList(headers), ['C-c: 8', 'D-d: 4', 'e: 5', 'f: 6']);
    assert.equal(headers.byteSize, 'c-c8d-d4e5f6'.length);
  });
});
