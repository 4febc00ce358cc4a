import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import httpInspector from '../../../filters/listener/http_inspector.ts';
import { CountedFilter, newFacts } from '../../support/listener_filters.ts';

/** says, what is sent, protocols found, after how many bytes it is decided at the latest. */
const cases: readonly (readonly [string, string, string, number])[] = [
  ['HTTP/1.1', 'GET / HTTP/1.1\r\nhost: x\r\n\r\n', 'http/1.1', 15],
  ['HTTP/1.0', 'GET /x HTTP/1.0\r\n\r\n', 'http/1.0', 16],
  ['a bare LF behind the line', 'GET / HTTP/1.1\nhost: x\n\n', 'http/1.1', 15],
  ['empty lines before the request', '\r\n\r\nPOST /a HTTP/1.1\r\n', 'http/1.1', 21],
  ['the asterisk form', 'OPTIONS * HTTP/1.1\r\n', 'http/1.1', 19],
  ['a method with a hyphen', 'VERSION-CONTROL /a HTTP/1.1\r\n', 'http/1.1', 28],
  ['a target of UTF-8', 'GET /\xc3\xa9 HTTP/1.1\r\n', 'http/1.1', 17],
  ['HTTP/2 with prior knowledge', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'h2c', 24],
  ['a target that does not end', `GET /${'a'.repeat(9000)}`, 'http/1.1', 8197],
  ['a preface that breaks off into something else', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\rX', '', 24],
  ['HTTP/2.0 in a request line', 'GET / HTTP/2.0\r\n', '', 12],
  ['HTTP/0.9', 'GET /\r\n', '', 6],
  ['two spaces', 'GET  / HTTP/1.1\r\n', '', 5],
  ['lower-case text', 'hello', '', 1],
  ['SMTP', 'EHLO example.org\r\n', '', 17],
  ['Redis', '*1\r\n$4\r\nPING\r\n', '', 1],
  ['Postgres', '\x00\x00\x00\x08\x04\xd2\x16\x2f', '', 1],
  ['a TLS hello that nobody inspected', '\x16\x03\x01\x02\x00\x01', '', 1],
  ['a method longer than any', 'A'.repeat(30), '', 25],
  ['an HTTP response', 'HTTP/1.1 200 OK\r\n', '', 5],
  ['a control byte in the target', 'GET /\x01 HTTP/1.1\r\n', '', 6],
];

for (const [says, text, found, after] of cases) {
  test(`http_inspector finds ${found || 'no HTTP'}, at any split and no later than it can, in ${says}`, () => {
    const bytes = Buffer.from(text, 'latin1');
    for (const step of [bytes.length, 1, 3]) {
      const inspected = new CountedFilter(httpInspector).inspect(bytes, step);
      assert.equal(inspected.verdict, 'done');
      assert.equal(inspected.facts.applicationProtocols.join(), found);
      if (step === 1) assert.equal(inspected.after, after);
    }
  });
}

test('http_inspector waits when there is but the beginning of a request', () => {
  for (const text of ['', 'G', 'GET ', 'GET /', 'GET / HTT', 'GET / HTTP/1.1', 'PRI * HTTP/2.0\r\n\r\n', '\r\n']) {
    assert.equal(new CountedFilter(httpInspector).inspect(Buffer.from(text)).verdict, 'more', JSON.stringify(text));
  }
});

test('http_inspector leaves a TLS connection alone', () => {
  const facts = newFacts();
  facts.transportProtocol = 'tls';
  facts.applicationProtocols = ['h2'];
  const { verdict } = new CountedFilter(httpInspector).inspect(Buffer.from('GET / HTTP/1.1\r\n'), 1, facts);
  assert.equal(verdict, 'done');
  assert.deepEqual(facts.applicationProtocols, ['h2']);
});

test('http_inspector counts what it found', () => {
  const counted = new CountedFilter(httpInspector);
  for (const text of ['GET / HTTP/1.1\r\n', 'GET / HTTP/1.0\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'x']) {
    counted.inspect(Buffer.from(text));
  }
  assert.deepEqual(Object.fromEntries(counted.counts), {
    'http_inspector.http11_found': 1,
    'http_inspector.http10_found': 1,
    'http_inspector.http2_found': 1,
    'http_inspector.http_not_found': 1,
  });
});

test('http_inspector answers any bytes without throwing, and the same at any split', () => {
  const line = fc.stringMatching(/^[A-Z]{1,5} ?[ -~]{0,20} ?(HTTP\/1\.[019])?\r?\n?$/).map((text) => Buffer.from(text));
  fc.assert(
    fc.property(
      fc.oneof(line, fc.uint8Array({ maxLength: 40 }).map(Buffer.from)),
      fc.integer({ min: 1, max: 9 }),
      (bytes, step) => {
        const whole = new CountedFilter(httpInspector).inspect(bytes);
        const pieces = new CountedFilter(httpInspector).inspect(bytes, step);
        assert.equal(pieces.verdict, whole.verdict);
        assert.deepEqual(pieces.facts.applicationProtocols, whole.facts.applicationProtocols);
      },
    ),
    { numRuns: 2000 },
  );
});
