import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import tlsInspector from '../../../filters/listener/tls_inspector.ts';
import { clientHello, helloMessage, opensslHello, records } from '../../support/client_hello.ts';
import { CountedFilter } from '../../support/listener_filters.ts';

const grease: [number, Buffer] = [0x8a8a, Buffer.from([0])];
const plainHello = clientHello({ serverName: 'db.example.com', applicationProtocols: ['h2', 'http/1.1'] });

/** says, bytes, verdict, what was found. */
const cases: readonly (readonly [string, Buffer, 'done' | 'reject', string])[] = [
  ['a hello names a server and protocols', plainHello, 'done', 'tls db.example.com h2,http/1.1'],
  [
    'a hello lies in records of one byte',
    clientHello({ serverName: 'a.b', applicationProtocols: ['istio'], recordBytes: 1 }),
    'done',
    'tls a.b istio',
  ],
  ['a hello lies in records of 100 bytes', clientHello({ serverName: 'a.b', recordBytes: 100 }), 'done', 'tls a.b '],
  ['GREASE surrounds what is known', clientHello({ serverName: 'g.e', extensions: [grease] }), 'done', 'tls g.e '],
  ['the hello is of before TLS 1.2, without extensions', clientHello({ noExtensions: true }), 'done', 'tls - '],
  ['there is no server name', clientHello({ applicationProtocols: ['h2'] }), 'done', 'tls - h2'],
  ['the server name is in capitals', clientHello({ serverName: 'DB.Example.COM' }), 'done', 'tls db.example.com '],
  [
    'the hello is an outer one of ECH',
    clientHello({ serverName: 'public.example', extensions: [[0xfe0d, Buffer.alloc(200, 1)]] }),
    'done',
    'tls public.example ',
  ],
  [
    'application data follows in the same read',
    Buffer.concat([plainHello, Buffer.from([20, 3, 3, 0, 1, 1])]),
    'done',
    'tls db.example.com h2,http/1.1',
  ],
  ['the hello is longer than 16 KiB', clientHello({ extensions: [[21, Buffer.alloc(16_400)]] }), 'reject', ' - '],
  ['the name holds a NUL', clientHello({ serverName: 'a\0b' }), 'done', ' - '],
  ['the name is empty', clientHello({ serverName: '' }), 'done', ' - '],
  ['the name has 256 bytes', clientHello({ serverName: 'a'.repeat(256) }), 'done', ' - '],
  ['an extension comes twice', clientHello({ extensions: [grease, grease] }), 'done', ' - '],
  ['an ALPN entry is empty', clientHello({ applicationProtocols: [''] }), 'done', ' - '],
  ['the message is another one', records(Buffer.from([2, 0, 0, 1, 0])), 'done', ' - '],
  ['a record has no bytes', Buffer.from([22, 3, 1, 0, 0]), 'done', ' - '],
  ['a record is longer than TLS allows', Buffer.from([22, 3, 1, 0x40, 1]), 'done', ' - '],
  [
    'the second record is no handshake',
    Buffer.concat([records(helloMessage({}).subarray(0, 20)), Buffer.from([23, 3, 3, 0, 1, 1])]),
    'done',
    ' - ',
  ],
  ['it is HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n'), 'done', ' - '],
  ['it is an SSLv2 hello', Buffer.from('802e0100020015000000100100', 'hex'), 'done', ' - '],
];

for (const [says, bytes, verdict, found] of cases) {
  test(`tls_inspector answers ${verdict}, at any split, when ${says}`, () => {
    for (const step of [bytes.length, 1, 3, 7]) {
      const inspected = new CountedFilter(tlsInspector).inspect(bytes, step);
      assert.equal(inspected.verdict, verdict, `in steps of ${step}`);
      const { transportProtocol, serverName, applicationProtocols } = inspected.facts;
      assert.equal(`${transportProtocol} ${serverName ?? '-'} ${applicationProtocols.join()}`, found);
    }
  });
}

for (const [says, options, found] of [
  ['TLS 1.2', { servername: 'x.example.org', ALPNProtocols: ['h2'], maxVersion: 'TLSv1.2' }, 'x.example.org h2'],
  ['TLS 1.3 alone', { servername: 'x.example.org', minVersion: 'TLSv1.3' }, 'x.example.org '],
  ['no server name', { ALPNProtocols: ['istio-peer-exchange', 'istio'] }, ' istio-peer-exchange,istio'],
] as const) {
  test(`tls_inspector reads what OpenSSL sends with ${says}, whole and byte by byte`, async () => {
    const bytes = await opensslHello(options);
    for (const step of [bytes.length, 1]) {
      const { verdict, facts } = new CountedFilter(tlsInspector).inspect(bytes, step);
      assert.equal(verdict, 'done');
      assert.equal(`${facts.serverName ?? ''} ${facts.applicationProtocols.join()}`, found);
    }
  });
}

test('tls_inspector decides by the first byte when it cannot be TLS', () => {
  assert.equal(new CountedFilter(tlsInspector).inspect(Buffer.from('x'), 1).after, 1);
});

test('tls_inspector waits for more when a hello is cut anywhere', () => {
  for (let cut = 1; cut < plainHello.length; cut++) {
    const { verdict, facts } = new CountedFilter(tlsInspector).inspect(plainHello.subarray(0, cut));
    assert.equal(verdict, 'more', `cut at ${cut}`);
    assert.ok(
      facts.wantedBytes > cut && facts.wantedBytes <= plainHello.length,
      `wants ${facts.wantedBytes} at ${cut}`,
    );
  }
});

test('tls_inspector counts what it found', () => {
  const counted = new CountedFilter(tlsInspector);
  counted.inspect(plainHello);
  counted.inspect(clientHello({}));
  counted.inspect(Buffer.from('GET'));
  counted.inspect(clientHello({ extensions: [[21, Buffer.alloc(16_400)]] }));
  assert.deepEqual(Object.fromEntries(counted.counts), {
    'tls_inspector.tls_found': 2,
    'tls_inspector.sni_found': 1,
    'tls_inspector.alpn_found': 1,
    'tls_inspector.sni_not_found': 1,
    'tls_inspector.alpn_not_found': 1,
    'tls_inspector.tls_not_found': 1,
    'tls_inspector.client_hello_too_large': 1,
  });
});

test('tls_inspector closes on a malformed hello when it is told to', () => {
  const strict = new CountedFilter(tlsInspector, { close_connection_on_client_hello_parsing_errors: true });
  assert.equal(strict.inspect(clientHello({ serverName: '' })).verdict, 'reject');
  assert.equal(strict.inspect(Buffer.from('GET')).verdict, 'done');
});

/** A list of numbers behind its length, as extensions have it. */
function list(lengthBytes: 1 | 2, size: 1 | 2, values: readonly number[]): Buffer {
  const bytes = Buffer.alloc(lengthBytes + size * values.length);
  bytes.writeUIntBE(size * values.length, 0, lengthBytes);
  for (const [index, value] of values.entries()) bytes.writeUIntBE(value, lengthBytes + index * size, size);
  return bytes;
}

const both = { enable_ja3_fingerprinting: true, enable_ja4_fingerprinting: true };
const empty = Buffer.alloc(0);

// The examples of both specifications.
const ja3Example = clientHello({
  version: 769,
  suites: [47, 53, 5, 10, 49161, 49162, 49171, 49172, 50, 56, 19, 4],
  extensions: [
    [0, Buffer.from('0008000005612e622e63', 'hex')],
    [10, list(2, 2, [23, 24, 25])],
    [11, list(1, 1, [0])],
  ],
});
const ja4Example = clientHello({
  suites: [
    0x1a1a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x9c, 0x9d, 0x2f,
    0x35,
  ],
  extensions: [
    [0x3a3a, empty],
    [0x1b, empty],
    [0x33, empty],
    [0x4469, empty],
    [0x17, empty],
    [0x2d, empty],
    [0x0d, list(2, 2, [0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601])],
    [0x05, empty],
    [0x23, empty],
    [0x12, empty],
    [0x2b, list(1, 2, [0x4a4a, 0x0304, 0x0303])],
    [0xff01, empty],
    [0x0b, list(1, 1, [0])],
    [0x0a, list(2, 2, [0xdada, 29, 23, 24])],
    [0x15, empty],
  ],
  serverName: 'a.example',
  applicationProtocols: ['h2', 'http/1.1'],
});

for (const [says, hello, wanted] of [
  ['the example of JA3', ja3Example, { ja3: 'ada70206e40642a3e4461f35503241d5' }],
  ['the example of JA4', ja4Example, { ja4: 't13d1516h2_8daaf6152771_e5627efa2ab1' }],
  [
    'no extensions',
    clientHello({ noExtensions: true, suites: [0x0a0a] }),
    { ja4: 't12i000000_000000000000_000000000000' },
  ],
  ['a protocol of odd bytes', clientHello({ applicationProtocols: ['\xab\xcd'] }), { ja4: /^t12i0201ad_/ }],
] as const) {
  test(`tls_inspector takes the fingerprints of ${says}, at any split`, () => {
    for (const step of [hello.length, 1, 7]) {
      const { facts } = new CountedFilter(tlsInspector, both).inspect(hello, step);
      for (const [kind, value] of Object.entries(wanted) as ['ja3' | 'ja4', string | RegExp][]) {
        assert.match(facts.fingerprints?.[kind] ?? '', typeof value === 'string' ? new RegExp(`^${value}$`) : value);
      }
    }
  });
}

test('tls_inspector takes no fingerprint that nobody asked for', () => {
  assert.equal(new CountedFilter(tlsInspector).inspect(plainHello).facts.fingerprints, undefined);
  const { facts } = new CountedFilter(tlsInspector, { enable_ja4_fingerprinting: true }).inspect(plainHello);
  assert.equal(facts.fingerprints?.ja3, '');
});

test('tls_inspector answers any bytes without throwing, and the same at any split', () => {
  const mutated = fc
    .tuple(fc.constant(plainHello), fc.array(fc.tuple(fc.nat(plainHello.length - 1), fc.nat(255)), { maxLength: 6 }))
    .map(([hello, changes]) => {
      const bytes = Buffer.from(hello);
      for (const [at, value] of changes) bytes[at] = value;
      return bytes;
    });
  fc.assert(
    fc.property(
      fc.oneof(mutated, fc.uint8Array({ maxLength: 300 }).map(Buffer.from)),
      fc.integer({ min: 1, max: 40 }),
      (bytes, step) => {
        const whole = new CountedFilter(tlsInspector, both).inspect(bytes);
        const pieces = new CountedFilter(tlsInspector, both).inspect(bytes, step);
        assert.equal(pieces.verdict, whole.verdict);
        assert.equal(pieces.facts.serverName, whole.facts.serverName);
        assert.deepEqual(pieces.facts.applicationProtocols, whole.facts.applicationProtocols);
        assert.deepEqual(pieces.facts.fingerprints, whole.facts.fingerprints);
      },
    ),
    { numRuns: 3000 },
  );
});
