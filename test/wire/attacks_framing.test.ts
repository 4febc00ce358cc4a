/**
 * Part A of ../shared/reference/attacks.md at the level of the codecs, rows 1 to 13 and 17: what must be refused is
 * refused, however it is cut into pieces; what is accepted leaves Http1ClientCodec without ambiguity.
 */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CodecError } from '../../proxy/http/codec.ts';
import { Headers, RequestHeaders, ResponseHeaders } from '../../proxy/http/headers.ts';
import type { Http1Options } from '../../proxy/http1/options.ts';
import {
  ClientWire,
  encodedRequest,
  everySplit,
  type ReceivedRequest,
  requestHead,
  responseHead,
  ServerWire,
  type WireEvent,
} from '../support/wire.ts';

/** Behind every attack: it must not be taken for a request, unless the attack was none. */
const NEXT = 'GET /smuggled HTTP/1.1\r\nHost: example.com\r\n\r\n';

function serve(pieces: readonly Buffer[], options: Http1Options = {}): ServerWire {
  const wire = new ServerWire(options, { onEnd: (request) => request.answer(200) });
  for (const piece of pieces) wire.feed(piece);
  return wire;
}

/** Long scripts are split at some bytes only. */
function splitsOf(script: string): Iterable<readonly [string, readonly Buffer[]]> {
  if (script.length <= 1_000) return everySplit(script);
  const bytes = Buffer.from(script, 'latin1');
  return [1, 7, 1_000, bytes.length].map((size) => {
    const count = Math.ceil(bytes.length / size);
    return [`pieces of ${size}`, Array.from({ length: count }, (_, i) => bytes.subarray(i * size, (i + 1) * size))];
  });
}

/** Refused with `status`, nothing behind it read; `written` holds answers to requests before it only. */
function refused(row: number, what: string, script: string, status = 400, options?: Http1Options): void {
  test(`Http1ServerCodec answers ${status} when row ${row} sends ${what}`, () => {
    for (const [split, pieces] of splitsOf(script + NEXT)) {
      const wire = serve(pieces, options);
      const last = wire.events.at(-1) as WireEvent;
      assert.ok(typeof last === 'object' && 'error' in last, `${split}: accepted: ${JSON.stringify(wire.events)}`);
      assert.equal(last.error, status, `${split}: ${last.details}`);
      assert.equal(wire.codec.canDispatch, false, split);
      assert.equal(wire.written, '', split);
      assert.ok(
        wire.requests.every(({ headers }) => headers.path !== '/smuggled'),
        split,
      );
    }
  });
}

/** Accepted as one request with `body`; re-encoded, it is one request with the same body to the next parser. */
function accepted(row: number, what: string, script: string, body: string, options?: Http1Options): void {
  test(`Http1ClientCodec forwards one message without ambiguity when row ${row} sends ${what}`, () => {
    for (const [split, pieces] of splitsOf(script)) {
      const wire = serve(pieces, options);
      assert.equal(wire.requests.length, 1, `${split}: ${JSON.stringify(wire.events)}`);
      const request = wire.requests[0] as ReceivedRequest;
      assert.ok(request.ended, split);
      assert.equal(request.body, body, split);
      const forwarded = encodedRequest(request);
      assertUnambiguous(forwarded);
      const again = serve([Buffer.from(forwarded + NEXT, 'latin1')]);
      assert.deepEqual(
        again.requests.map(({ headers, body: text }) => [headers.method, headers.authority, headers.path, text]),
        [
          [request.headers.method, request.headers.authority, request.headers.path, body],
          ['GET', 'example.com', '/smuggled', ''],
        ],
        split,
      );
    }
  });
}

/** One Host, at most one of Content-Length and Transfer-Encoding, no bare CR or LF in the head. */
function assertUnambiguous(message: string): void {
  const head = message.slice(0, message.indexOf('\r\n\r\n') + 2);
  const count = (pattern: RegExp): number => head.match(pattern)?.length ?? 0;
  assert.equal(count(/^host:/gim), 1, head);
  assert.ok(count(/^(?:content-length|transfer-encoding)[ \t]*:/gim) <= 1, head);
  assert.equal(/\r(?!\n)|(?<!\r)\n|\0/.test(head), false, head);
}

const post = (fields: string, body = ''): string => `POST /a HTTP/1.1\r\nHost: example.com\r\n${fields}\r\n${body}`;
const chunked = (body: string): string => post('Transfer-Encoding: chunked\r\n', body);
const get = (lines: string): string => `GET /a HTTP/1.1\r\nHost: example.com\r\n${lines}`;

describe('rows 1 to 4: length and coding', () => {
  refused(1, 'length, then coding', post('Content-Length: 5\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'));
  refused(1, 'coding, then length', post('Transfer-Encoding: chunked\r\nContent-Length: 5\r\n', '0\r\n\r\n'));
  refused(1, 'coding and length 0', post('transfer-encoding: CHUNKED\r\ncontent-length: 0\r\n', '0\r\n\r\n'));

  refused(2, 'two different lengths', post('Content-Length: 5\r\nContent-Length: 6\r\n', 'hello'));
  refused(2, 'two equal lengths', post('Content-Length: 5\r\nContent-Length: 5\r\n', 'hello'));
  refused(2, 'two lengths in mixed case', post('Content-Length: 5\r\ncONTENT-lENGTH: 5\r\n', 'hello'));
  refused(2, 'a list of lengths', post('Content-Length: 5, 5\r\n', 'hello'));
  accepted(2, 'one length in mixed case', post('cONTENT-lENGTH: \t5 \r\n', 'hello'), 'hello');

  for (const value of [
    '1 2',
    '+5',
    '-5',
    '0x5',
    '5,',
    ',5',
    '',
    ' ',
    '12345678901234567890',
    '9007199254740993',
    '5e0',
    '5.0',
    '\xb2',
  ]) {
    refused(3, `length ${JSON.stringify(value)}`, post(`Content-Length: ${value}\r\n`, 'hello'));
  }
  accepted(3, 'a length with zeros in front', post('Content-Length: 005\r\n', 'hello'), 'hello');

  refused(4, 'two codings', post('Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n', '0\r\n\r\n'));
  refused(4, 'chunked, then identity', post('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n'));
  for (const value of [
    'chunked, identity',
    'identity',
    'xchunked',
    'chunked, gzip',
    'gzip, chunked',
    'chunked,',
    ',chunked',
    '',
    '"chunked"',
    'chunked;q=1',
    'chun\tked',
    'chunked\xa0',
  ]) {
    refused(4, `coding ${JSON.stringify(value)}`, post(`Transfer-Encoding: ${value}\r\n`, '0\r\n\r\n'), 501);
  }
  refused(4, 'a coding behind a vertical tab', post('Transfer-Encoding: \x0bchunked\r\n', '0\r\n\r\n'));
  refused(4, 'a coding behind a length and an unknown one', post('Content-Length: 3\r\nTransfer-Encoding: x\r\n'), 501);
  accepted(
    4,
    'chunked in capitals among blanks',
    post('TRANSFER-ENCODING:\t CHUNKED \r\n', '1\r\nx\r\n0\r\n\r\n'),
    'x',
  );
});

describe('rows 5 and 6: lines', () => {
  refused(5, 'a space before the colon of a length', post('Content-Length : 5\r\n', 'hello'));
  refused(5, 'a tab before the colon of a coding', post('Transfer-Encoding\t: chunked\r\n', '0\r\n\r\n'));
  refused(5, 'a space before the first name', 'GET /a HTTP/1.1\r\n Host: example.com\r\n\r\n');
  refused(5, 'a space before a name', get('A: b\r\n Content-Length: 5\r\n\r\n'));
  refused(5, 'a folded line', get('A: b\r\n c\r\n\r\n'));
  refused(5, 'a line folded with a tab, with a colon', get('A: b\r\n\tc: d\r\n\r\n'));
  refused(5, 'a folded coding', post('Transfer-Encoding:\r\n chunked\r\n', '0\r\n\r\n'), 501);
  refused(5, 'a line without a colon', get('A\r\n\r\n'));
  refused(5, 'an empty name', get(': b\r\n\r\n'));
  for (const name of [
    'a b',
    'a"b',
    'a(b',
    'a/b',
    'a@b',
    'a[b',
    'a{b',
    'a\\b',
    'a,b',
    'a;b',
    'a<b',
    'a=b',
    'a?b',
    '\xe9',
  ]) {
    refused(5, `the name ${JSON.stringify(name)}`, get(`${name}: c\r\n\r\n`));
  }

  refused(6, 'LF behind the request line', 'GET /a HTTP/1.1\nHost: example.com\r\n\r\n');
  refused(6, 'LF behind a field', get('A: b\nContent-Length: 5\r\n\r\n'));
  refused(6, 'LF as the end of the head', get('A: b\r\n\n'));
  refused(6, 'LF LF as the end of the head', get('A: b\n\n'));
  refused(6, 'CR behind a field', get('A: b\rContent-Length: 5\r\n\r\n'));
  refused(6, 'CR in a value', get('A: b\rc\r\n\r\n'));
  refused(6, 'CR before CRLF', get('A: b\r\r\n\r\n'));
  refused(6, 'CR LF CR X as the end of the head', get('A: b\r\n\rX'));
  refused(6, 'CR CR LF as the end of the head', get('A: b\r\n\r\r\n'));
  refused(6, 'CR before the request line', `\r${get('\r\n')}`);
  refused(6, 'LF before the request line', `\n${get('\r\n')}`);
  for (const code of [0, 1, 8, 11, 12, 27, 31, 127]) {
    refused(6, `the byte ${code} in a value`, get(`A: b${String.fromCharCode(code)}c\r\n\r\n`));
    refused(6, `the byte ${code} in the target`, `GET /a${String.fromCharCode(code)} HTTP/1.1\r\nHost: a\r\n\r\n`);
  }
});

describe('rows 7 to 9: chunks and limits', () => {
  for (const size of [
    '0x5',
    '-1',
    '+5',
    '5 ',
    ' 5',
    '5\t',
    '',
    ';a',
    'g',
    '5,',
    '10000000000000',
    'FFFFFFFFFFFFFFFF',
    '00000000000005',
    '5\n',
    '5\r',
    '5 ;a',
  ]) {
    refused(7, `chunk size ${JSON.stringify(size)}`, chunked(`${size}\r\nhello\r\n0\r\n\r\n`));
  }
  refused(7, 'a size line that ends in LF', chunked('5\nhello\r\n0\r\n\r\n'));
  refused(7, 'chunk data that ends in LF', chunked('5\r\nhello\n0\r\n\r\n'));
  refused(7, 'chunk data that ends in CR', chunked('5\r\nhello\r0\r\n\r\n'));
  refused(7, 'chunk data that is longer than its size', chunked('5\r\nhello!\r\n0\r\n\r\n'));
  // What a reader that skips two bytes, whatever they are, would find complete.
  refused(7, 'chunk data with CR X behind it', chunked('5\r\nhello\rX0\r\n\r\n'));
  refused(7, 'chunk data with X LF behind it', chunked('5\r\nhelloX\n0\r\n\r\n'));
  refused(7, 'a size with CR X behind it', chunked('5\rXhello\r\n0\r\n\r\n'));
  refused(7, 'a size with LF LF behind it', chunked('5\n\nhello\r\n0\r\n\r\n'));
  refused(7, 'a last chunk with CR X behind it', chunked('5\r\nhello\r\n0\rX\r\n'));
  refused(7, 'CR X as the empty line behind the last chunk', chunked('5\r\nhello\r\n0\r\n\rX'));
  refused(7, 'chunk data without its CRLF', chunked('5\r\nhello0\r\n\r\n'));
  refused(7, 'the last size line with LF', chunked('5\r\nhello\r\n0\n\r\n'));
  refused(7, 'no empty line behind the last chunk', chunked('5\r\nhello\r\n0\r\n'));
  refused(7, 'LF as the empty line behind the last chunk', chunked('5\r\nhello\r\n0\r\n\n'));
  refused(7, 'CR as the empty line behind the last chunk', chunked('5\r\nhello\r\n0\r\n\r'));
  refused(7, 'LF behind a trailer', chunked('0\r\nA: b\n\r\n'));
  refused(7, 'a folded trailer', chunked('0\r\nA: b\r\n c\r\n\r\n'));
  refused(7, 'a trailer with NUL', chunked('0\r\nA: \0\r\n\r\n'));
  refused(7, 'two lengths as trailers', chunked('0\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n'));
  accepted(
    7,
    'framing fields as trailers',
    chunked('1\r\nx\r\n0\r\nContent-Length: 9\r\nHost: b\r\nUpgrade: c\r\n\r\n'),
    'x',
  );

  refused(8, 'an extension without end', chunked(`5;${'a'.repeat(10_000)}`));
  refused(8, 'extensions without end', chunked(`5${';a=b'.repeat(3_000)}`));
  refused(8, 'an extension with CR', chunked('5;a\rb\r\nhello\r\n0\r\n\r\n'));
  refused(8, 'an extension with LF', chunked('5;a\n5\r\nhello\r\n0\r\n\r\n'));
  refused(8, 'an extension with NUL', chunked('5;a\0\r\nhello\r\n0\r\n\r\n'));
  refused(8, 'an extension of the last chunk with LF', chunked('0;a\n\r\n\r\n'));
  accepted(8, 'extensions', chunked('5;a="0\t";b\r\nhello\r\n0;c\r\n\r\n'), 'hello');

  test('Http1ClientCodec copies no extension and no chunk bounds when row 8 sends extensions', () => {
    const wire = serve([Buffer.from(chunked('2;secret=1\r\nhe\r\n3\r\nllo\r\n0;secret=2\r\n\r\n'))]);
    assert.equal(
      encodedRequest(wire.requests[0] as ReceivedRequest),
      'POST /a HTTP/1.1\r\nhost: example.com\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n',
    );
  });

  const many = Array.from({ length: 100 }, (_, i) => `X-${i}: y\r\n`).join('');
  refused(9, 'more fields than the limit, the length last', post(`${many}Content-Length: 5\r\n`, 'hello'), 431);
  refused(9, 'more fields than the limit, the coding last', post(`${many}Transfer-Encoding: chunked\r\n`), 431);
  refused(
    9,
    'one name more often than the limit',
    post(`${'X: y\r\n'.repeat(100)}Content-Length: 5\r\n`, 'hello'),
    431,
  );
  const few = Array.from({ length: 98 }, (_, i) => `X-${i}: y\r\n`).join('');
  accepted(9, 'as many fields as the limit, the length last', post(`${few}Content-Length: 5\r\n`, 'hello'), 'hello');
});

describe('row 10: a request inside a body', () => {
  for (const method of ['GET', 'HEAD', 'OPTIONS', 'DELETE', 'TRACE']) {
    const head = `${method} /a HTTP/1.1\r\nHost: example.com\r\n`;
    accepted(10, `it in the length of ${method}`, `${head}Content-Length: ${NEXT.length}\r\n\r\n${NEXT}`, NEXT);
    const size = NEXT.length.toString(16);
    accepted(
      10,
      `it in a chunk of ${method}`,
      `${head}Transfer-Encoding: chunked\r\n\r\n${size}\r\n${NEXT}\r\n0\r\n\r\n`,
      NEXT,
    );
  }

  test('Http1ServerCodec closes and reads nothing more when row 10 has its request rejected before the body', () => {
    for (const [split, pieces] of everySplit(post(`Content-Length: ${NEXT.length}\r\n`, NEXT) + NEXT)) {
      const wire = new ServerWire({}, { onHead: (request) => request.answer(403) });
      for (const piece of pieces) wire.feed(piece);
      assert.equal(wire.requests.length, 1, split);
      assert.deepEqual(wire.events.at(-1), { complete: 'close' }, split);
    }
  });
});

describe('row 11: bytes before the upgrade is answered', () => {
  const early = `\x81\x05${NEXT}`;
  for (const [what, head, status] of [
    ['Upgrade', get('Connection: upgrade\r\nUpgrade: websocket\r\n\r\n'), 101],
    ['CONNECT', 'CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n', 200],
  ] as const) {
    test(`Http1ServerCodec holds the bytes until the answer when row 11 sends them behind ${what}`, () => {
      for (const [split, pieces] of everySplit(head + early)) {
        const wire = new ServerWire();
        for (const piece of pieces) wire.feed(piece);
        const request = wire.requests[0] as ReceivedRequest;
        assert.deepEqual([request.body, wire.leftover, wire.codec.canDispatch], ['', early, false], split);
        request.encoder.encodeHeaders(responseHead(status), false);
        assert.deepEqual([request.body, wire.requests.length], [early, 1], split);
      }
    });

    test(`Http1ServerCodec closes and never reads the bytes when row 11 has ${what} refused`, () => {
      for (const [split, pieces] of everySplit(head + early)) {
        const wire = new ServerWire({}, {});
        for (const piece of pieces) wire.feed(piece);
        const request = wire.requests[0] as ReceivedRequest;
        request.answer(403);
        assert.deepEqual([request.body, wire.requests.length, wire.closed], ['', 1, true], split);
        assert.ok(wire.written.includes('\r\nconnection: close\r\n'), split);
        assert.equal(wire.codec.canDispatch, false, split);
      }
    });

    test(`Http1ClientCodec is of no more use when row 11 has the upstream refuse ${what}`, () => {
      const wire = new ClientWire();
      const { encoder } = wire.open();
      const fields: Record<string, string> = status === 101 ? { connection: 'upgrade', upgrade: 'websocket' } : {};
      encoder.encodeHeaders(requestHead(status === 101 ? 'GET' : 'CONNECT', '/', fields, 'example.com:443'), false);
      encoder.encodeData(Buffer.from(early), false);
      assert.equal(wire.written.includes('smuggled'), false);
      wire.feed(Buffer.from('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n'));
      assert.deepEqual(wire.events.at(-1), { complete: 'close' });
    });
  }
});

describe('rows 12 and 13: hostile upstreams', () => {
  const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil';

  test('Http1ClientCodec takes no byte of it when row 12 sends a response to an idle connection', () => {
    const wire = new ClientWire();
    wire.request({ headers: requestHead('GET', '/'), body: '', trailers: undefined, endsWithHead: true });
    wire.feed(Buffer.from('HTTP/1.1 204 No Content\r\n\r\n'));
    assert.deepEqual(wire.codec.dispatch(Buffer.from(answer)), { consumed: 0 });
    const next = wire.request({ headers: requestHead('GET', '/'), body: '', trailers: undefined, endsWithHead: true });
    assert.equal(next.hasHead, false);
  });

  test('Http1ClientCodec leaves it when row 12 sends a second response behind the first', () => {
    for (const [split, pieces] of everySplit(answer + answer)) {
      const wire = new ClientWire();
      const response = wire.request({
        headers: requestHead('GET', '/'),
        body: '',
        trailers: undefined,
        endsWithHead: true,
      });
      for (const piece of pieces) wire.feed(piece);
      assert.equal(response.body, 'evil', split);
      assert.deepEqual(wire.events.at(-1), { stray: answer }, split);
    }
  });

  for (const text of ['a\rb', 'a\nb', 'a\0b', 'a\r b', 'a\n b', '\rX: y', '\nX: y']) {
    for (const [where, head] of [
      ['a value', `X: ${text}`],
      ['a name', `X${text}: y`],
      ['a Location', `Location: https://a.example/${text}`],
      ['a cookie', `Set-Cookie: a=${text}`],
    ] as const) {
      test(`Http1ClientCodec refuses when row 13 has an upstream send ${JSON.stringify(text)} in ${where}`, () => {
        const script = `HTTP/1.1 200 OK\r\n${head}\r\nContent-Length: 0\r\n\r\n`;
        for (const [split, pieces] of everySplit(script)) {
          const wire = new ClientWire();
          const headers = requestHead('GET', '/');
          const response = wire.request({ headers, body: '', trailers: undefined, endsWithHead: true });
          for (const piece of pieces) wire.feed(piece);
          const last = wire.events.at(-1);
          assert.ok(typeof last === 'object' && 'error' in last, `${split}: ${JSON.stringify(wire.events)}`);
          assert.equal(response.hasHead, false, split);
        }
      });
    }
    test(`Headers throws when row 13 has a filter set ${JSON.stringify(text)}`, () => {
      for (const headers of [new Headers(), new RequestHeaders(), new ResponseHeaders()]) {
        for (const name of ['x', 'location', ':path', ':authority', ':status']) {
          assert.throws(() => headers.set(name, text), TypeError);
        }
        assert.throws(() => headers.append('set-cookie', text), TypeError);
        assert.throws(() => headers.append(text, 'v'), TypeError);
        assert.deepEqual(headers.fields, []);
      }
    });
    test(`Http1ClientCodec throws and writes nothing when row 13 has a path rewritten to ${JSON.stringify(text)}`, () => {
      const wire = new ClientWire();
      const { encoder } = wire.open();
      assert.throws(() => encoder.encodeHeaders(requestHead('GET', `/${text}`), true), TypeError);
      assert.equal(wire.written, '');
    });
  }
});

describe('row 17: request lines', () => {
  for (const line of [
    'GET /a',
    'GET',
    'GET  /a HTTP/1.1',
    'GET /a  HTTP/1.1',
    'GET /a HTTP/1.1 ',
    ' GET /a HTTP/1.1',
    'GET\t/a HTTP/1.1',
    'GET /a\tHTTP/1.1',
    'GET /a b HTTP/1.1',
    'GET /a HTTP/1.1 x',
    'get /a HTTP/1.1',
    'Get /a HTTP/1.1',
    '/a HTTP/1.1',
    'GET HTTP/1.1',
    'GET /a HTTP/0.9',
    'GET /a HTTP/1.2',
    'GET /a HTTP/2.0',
    'GET /a HTTP/3',
    'GET /a HTTP/11',
    'GET /a HTTP/1,1',
    'GET /a HTTP/01.1',
    'GET /a HTTP/1.10',
    'GET /a http/1.1',
    'GET /a HTTPS/1.1',
    'GET a HTTP/1.1',
    'GET ?a HTTP/1.1',
    'GET * HTTP/1.1',
    'G@T /a HTTP/1.1',
    'GET: /a HTTP/1.1',
    'GET example.com:80 HTTP/1.1',
    'GET ftp://example.com/ HTTP/1.1',
    'GET http:///a HTTP/1.1',
    'GET http://user@example.com/ HTTP/1.1',
    'GET http://a b/ HTTP/1.1',
    'GET http:/a HTTP/1.1',
    'GET /\xe9 HTTP/1.1',
    'CONNECT /a HTTP/1.1',
    'CONNECT example.com HTTP/1.1',
    'CONNECT http://example.com:80 HTTP/1.1',
    'CONNECT a@b:80 HTTP/1.1',
  ]) {
    refused(17, `the line ${JSON.stringify(line)}`, `${line}\r\nHost: example.com\r\n\r\n`);
  }
  refused(17, 'HTTP/0.9 with an empty line', 'GET /a\r\n\r\n');
  refused(17, 'no Host', 'GET /a HTTP/1.1\r\n\r\n');
  refused(17, 'an absolute target and no Host', 'GET http://a.example/ HTTP/1.1\r\n\r\n');
  refused(
    17,
    'an absolute target and two Hosts',
    'GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: b\r\n\r\n',
  );
  refused(17, 'two equal Hosts', 'GET /a HTTP/1.1\r\nHost: a.example\r\nhost: a.example\r\n\r\n');
  refused(17, 'CONNECT with a length', 'CONNECT a.example:1 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello');
  refused(17, 'CONNECT with a coding', 'CONNECT a.example:1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n');
  for (const host of ['', ' ', 'a b', 'user@a', 'a/b', 'a?b', 'a#b', 'a,b', 'a\\b', '\xe9', 'a\tb']) {
    refused(17, `the Host ${JSON.stringify(host)}`, `GET /a HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
  }
  refused(17, 'HTTP/1.0', 'GET /a HTTP/1.0\r\nHost: example.com\r\n\r\n', 426);
  accepted(
    17,
    'an absolute target with another Host',
    'GET http://a.example:81/b?c HTTP/1.1\r\nHost: b.example\r\n\r\n',
    '',
  );
  accepted(
    17,
    'an absolute target with a query only',
    'GET http://a.example?c HTTP/1.1\r\nHost: a.example\r\n\r\n',
    '',
  );
  accepted(17, 'HTTP/1.0 where it is enabled', 'GET /a HTTP/1.0\r\nHost: a\r\n\r\n', '', { acceptHttp10: true });

  test('Http1ClientCodec sends the host of the target when row 17 sends an absolute target with another Host', () => {
    const wire = serve([Buffer.from('GET http://a.example:81/b?c HTTP/1.1\r\nHost: b.example\r\n\r\n')]);
    const forwarded = encodedRequest(wire.requests[0] as ReceivedRequest);
    assert.equal(forwarded, 'GET /b?c HTTP/1.1\r\nhost: a.example:81\r\n\r\n');
  });
});

test('Http1ServerCodec takes nothing more when it has refused once', () => {
  const wire = new ServerWire();
  const refusal = wire.codec.dispatch(Buffer.from('BAD\r\n\r\n'));
  assert.ok(refusal instanceof CodecError);
  assert.equal(refusal.status, 400);
  assert.deepEqual(wire.codec.dispatch(Buffer.from(NEXT)), { consumed: 0 });
  assert.equal(wire.requests.length, 0);
});
