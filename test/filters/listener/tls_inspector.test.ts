import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import tlsInspector from '../../../filters/listener/tls_inspector.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
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

test('tls_inspector refuses fingerprints by name', () => {
  assert.throws(() => new CountedFilter(tlsInspector, { enable_ja3_fingerprinting: true }), ConfigError);
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
        const whole = new CountedFilter(tlsInspector).inspect(bytes);
        const pieces = new CountedFilter(tlsInspector).inspect(bytes, step);
        assert.equal(pieces.verdict, whole.verdict);
        assert.equal(pieces.facts.serverName, whole.facts.serverName);
        assert.deepEqual(pieces.facts.applicationProtocols, whole.facts.applicationProtocols);
      },
    ),
    { numRuns: 3000 },
  );
});
