import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import proxyProtocol from '../../../filters/listener/proxy_protocol.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
import { PROXY_TLVS } from '../../../proxy/net/proxy_header.ts';
import { CountedFilter } from '../../support/listener_filters.ts';

const signature = '0d0a0d0a000d0a515549540a';
/** A version 2 header: command byte, family byte, body in hex. */
const v2 = (command: string, family: string, body: string): Buffer =>
  Buffer.from(`${signature}${command}${family}${(body.length / 2).toString(16).padStart(4, '0')}${body}`, 'hex');
const v4Addresses = 'c0000201c6336401dc0401bb';
const v6Addresses = `20010db8${'0'.repeat(23)}1${'0'.repeat(31)}1dc0401bb`;
const after = Buffer.from('GET / HTTP/1.1\r\n');

const good: readonly (readonly [string, Buffer, string, string])[] = [
  [
    'version 1 names TCP4 addresses',
    Buffer.from('PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n'),
    '192.0.2.1:56324',
    '198.51.100.1:443',
  ],
  [
    'version 1 names TCP6 addresses',
    Buffer.from('PROXY TCP6 2001:db8::1 ::1 1 65535\r\n'),
    '[2001:db8::1]:1',
    '[::1]:65535',
  ],
  ['version 1 says UNKNOWN', Buffer.from('PROXY UNKNOWN\r\n'), '10.0.0.9:40000', '10.0.0.1:8080'],
  [
    'version 1 says UNKNOWN with addresses',
    Buffer.from('PROXY UNKNOWN a b c d\r\n'),
    '10.0.0.9:40000',
    '10.0.0.1:8080',
  ],
  ['version 2 names TCP4 addresses', v2('21', '11', v4Addresses), '192.0.2.1:56324', '198.51.100.1:443'],
  ['version 2 names TCP6 addresses', v2('21', '21', v6Addresses), '[2001:db8::1]:56324', '[::1]:443'],
  [
    'version 2 carries TLVs',
    v2('21', '11', `${v4Addresses}020003616263ea0001ff`),
    '192.0.2.1:56324',
    '198.51.100.1:443',
  ],
  ['version 2 speaks for the balancer itself (LOCAL)', v2('20', '11', v4Addresses), '10.0.0.9:40000', '10.0.0.1:8080'],
  ['version 2 leaves the family open', v2('21', '00', ''), '10.0.0.9:40000', '10.0.0.1:8080'],
];

for (const [says, header, remote, local] of good) {
  test(`proxy_protocol takes the header off, at any split, when ${says}`, () => {
    const bytes = Buffer.concat([header, after]);
    for (const step of [bytes.length, 1, 5]) {
      const { verdict, facts } = new CountedFilter(proxyProtocol).inspect(bytes, step);
      assert.equal(verdict, 'done');
      assert.equal(facts.remoteAddress.text, remote);
      assert.equal(facts.localAddress.text, local);
      assert.equal(facts.directRemoteAddress.text, '10.0.0.9:40000');
      assert.equal(facts.consumedBytes, header.length);
    }
  });
}

/** attacks.md row 18: refused before anybody parses HTTP. */
const bad: readonly (readonly [string, Buffer])[] = [
  ['there is none', after],
  ['version 1 is longer than any', Buffer.from(`PROXY TCP4 ${'1'.repeat(120)}`)],
  ['version 1 has a family of its own', Buffer.from('PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n')],
  ['version 1 names an address of the other family', Buffer.from('PROXY TCP4 ::1 ::1 1 1\r\n')],
  ['version 1 has a port too many', Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n')],
  ['version 1 names port 65536', Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n')],
  ['version 1 writes a port with a zero before it', Buffer.from('PROXY TCP4 1.2.3.4 1.2.3.4 1 080\r\n')],
  ['version 1 ends with a bare LF', Buffer.from(`PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n${'x'.repeat(100)}`)],
  ['version 1 names an address with a zone', Buffer.from('PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n')],
  ['version 2 says version 3', v2('31', '11', v4Addresses)],
  ['version 2 has an unknown command', v2('22', '11', v4Addresses)],
  ['version 2 carries datagrams', v2('21', '12', v4Addresses)],
  ['version 2 names unix sockets', v2('21', '31', '00'.repeat(216))],
  ['version 2 is shorter than its addresses', v2('21', '11', 'c0000201')],
  ['version 2 has a TLV longer than the header', v2('21', '11', `${v4Addresses}02ffff61`)],
  ['version 2 has a TLV cut short', v2('21', '11', `${v4Addresses}0200`)],
  ['version 2 has TLVs of 60 KiB', v2('21', '11', `${v4Addresses}04ea60${'00'.repeat(60_000)}`)],
];

for (const [says, bytes] of bad) {
  test(`proxy_protocol closes the connection, at any split, when ${says}`, () => {
    for (const step of [bytes.length, 1]) {
      const { verdict, facts } = new CountedFilter(proxyProtocol).inspect(bytes, step);
      assert.equal(verdict, 'reject');
      assert.equal(facts.consumedBytes, 0);
      assert.equal(facts.remoteAddress.text, '10.0.0.9:40000');
    }
  });
}

test('proxy_protocol refuses an oversize header by its length, before its bytes have come', () => {
  const header = v2('21', '11', `${v4Addresses}04ea60${'00'.repeat(60_000)}`);
  assert.equal(new CountedFilter(proxyProtocol).inspect(header, 1).after, 16);
});

test('proxy_protocol lets connections without a header pass when it may', () => {
  const lenient = new CountedFilter(proxyProtocol, { allow_requests_without_proxy_protocol: true });
  const { verdict, facts } = lenient.inspect(after, 1);
  assert.equal(verdict, 'done');
  assert.equal(facts.consumedBytes, 0);
  assert.equal(lenient.filter.inspectEnd?.(Buffer.from('PRO'), facts), 'done');
  assert.equal(new CountedFilter(proxyProtocol).filter.inspectEnd?.(Buffer.from('PRO'), facts), 'reject');
});

test('proxy_protocol refuses a version that is disallowed', () => {
  const counted = new CountedFilter(proxyProtocol, { disallowed_versions: ['V1'] });
  assert.equal(counted.inspect(Buffer.from('PROXY UNKNOWN\r\n')).verdict, 'reject');
  assert.equal(counted.inspect(v2('21', '11', v4Addresses)).verdict, 'done');
  assert.deepEqual(Object.fromEntries(counted.counts), {
    'proxy_proto.versions.v1.disallowed': 1,
    'proxy_proto.versions.v2.found': 1,
  });
});

test('proxy_protocol makes dynamic metadata of TLVs, the last of a type holding, and keeps those to be passed on', () => {
  const header = v2('21', '11', `${v4Addresses}020003616263e00001ffea0002c328020003646566`);
  const { facts } = new CountedFilter(proxyProtocol, {
    rules: [
      { tlv_type: 2, on_tlv_present: { key: 'authority' } },
      { tlv_type: 0xea, on_tlv_present: { metadata_namespace: 'aws', key: 'vpc' } },
      { tlv_type: 3, on_tlv_present: { key: 'absent' } },
    ],
    pass_through_tlvs: { match_type: 'INCLUDE', tlv_type: [0xe0] },
  }).inspect(header);
  assert.deepEqual(Object.fromEntries(facts.dynamicMetadata ?? []), {
    'envoy.filters.listener.proxy_protocol': { authority: 'def' },
    // No UTF-8.
    aws: { vpc: '\ufffd(' },
  });
  assert.deepEqual(facts.filterState?.get(PROXY_TLVS), [{ type: 0xe0, value: Buffer.from([0xff]) }]);
});

test('proxy_protocol makes nothing of TLVs behind LOCAL', () => {
  const rules = [{ tlv_type: 2, on_tlv_present: { key: 'a' } }];
  const { facts } = new CountedFilter(proxyProtocol, { rules, pass_through_tlvs: {} }).inspect(
    v2('20', '11', `${v4Addresses}020003616263`),
  );
  assert.equal(facts.dynamicMetadata, undefined);
  assert.equal(facts.filterState, undefined);
});

test('proxy_protocol refuses a rule without a key, and filter state of TLVs, by name', () => {
  const parse = (config: object) => () => new CountedFilter(proxyProtocol, config);
  assert.throws(parse({ rules: [{}] }), ConfigError);
  assert.throws(parse({ rules: [{ tlv_type: 2, on_tlv_present: {} }] }), /key/);
  assert.throws(parse({ tlv_location: 'FILTER_STATE' }), /tlv_location/);
});

test('proxy_protocol answers any bytes without throwing, and the same at any split', () => {
  const headers = fc.constantFrom(...good.map(([, header]) => header));
  const mutated = fc
    .tuple(headers, fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 3 }))
    .map(([header, changes]) => {
      const bytes = Buffer.from(header);
      for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
      return bytes;
    });
  fc.assert(
    fc.property(
      fc.oneof(mutated, fc.uint8Array({ maxLength: 130 }).map(Buffer.from)),
      fc.integer({ min: 1, max: 20 }),
      (bytes, step) => {
        const whole = new CountedFilter(proxyProtocol).inspect(bytes);
        const pieces = new CountedFilter(proxyProtocol).inspect(bytes, step);
        assert.equal(pieces.verdict, whole.verdict);
        assert.equal(pieces.facts.consumedBytes, whole.facts.consumedBytes);
        assert.equal(pieces.facts.remoteAddress.text, whole.facts.remoteAddress.text);
      },
    ),
    { numRuns: 3000 },
  );
});
