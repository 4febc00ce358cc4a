import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { buildProxyHeaderConfig } from '../../../config/build/proxy_header.ts';
import proxyProtocol from '../../../filters/listener/proxy_protocol.ts';
import { ConfigError } from '../../../proxy/config_error.ts';
import { socketAddress } from '../../../proxy/net/connection_info.ts';
import {
  type ProxiedConnection,
  PROXY_TLVS,
  type ProxyHeaderConfig,
  proxyHeader,
  type Tlv,
} from '../../../proxy/net/proxy_header.ts';
import { Fields } from '../../../proxy/resource_fields.ts';
import { CountedFilter, newFacts } from '../../support/listener_filters.ts';

const OWN = { localAddress: socketAddress('10.0.0.1', 1000), remoteAddress: socketAddress('10.0.0.2', 80) };
const client = (from: string, to: string, tlvs?: readonly Tlv[]): ProxiedConnection => ({
  remoteAddress: socketAddress(from, 56324),
  localAddress: socketAddress(to, 443),
  filterState: tlvs === undefined ? undefined : new Map([[PROXY_TLVS, tlvs]]),
});
const config = (json: object): ProxyHeaderConfig => buildProxyHeaderConfig(new Fields(json));
/** As the kernel writes IPv6 addresses. */
const canonical = (ip: string): string =>
  new URL(`http://${ip.includes(':') ? `[${ip}]` : ip}/`).hostname.replace(/^\[|\]$/g, '');
const tlv = (type: number, value: string): Tlv => ({ type, value: Buffer.from(value) });

describe('proxyHeader', () => {
  for (const [says, from, to, line] of [
    ['IPv4', '192.0.2.1', '198.51.100.1', 'PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n'],
    ['IPv6', '2001:db8::1', '::1', 'PROXY TCP6 2001:db8::1 ::1 56324 443\r\n'],
    ['IPv4 beside IPv6', '192.0.2.1', '::1', 'PROXY TCP6 ::ffff:192.0.2.1 ::1 56324 443\r\n'],
    ['a zone', 'fe80::1%eth0', '::1', 'PROXY TCP6 fe80::1 ::1 56324 443\r\n'],
  ] as const) {
    it(`version 1 names ${says}`, () =>
      assert.equal(proxyHeader(config({}), client(from, to), OWN).toString('latin1'), line));
  }

  it('version 1 names no unix socket', () => {
    const unix = { ...client('1.2.3.4', '::1'), localAddress: socketAddress('/run/x', 0) };
    assert.equal(proxyHeader(config({ version: 'V1' }), unix, OWN).toString(), 'PROXY UNKNOWN\r\n');
    assert.equal(proxyHeader(config({ version: 'V2' }), unix, OWN).toString('hex'), '0d0a0d0a000d0a515549540a21000000');
  });

  it('names the connection itself in version 1, and says LOCAL in version 2, when nobody is proxied', () => {
    assert.equal(
      proxyHeader(config({ version: 'V1' }), undefined, OWN).toString(),
      'PROXY TCP4 10.0.0.1 10.0.0.2 1000 80\r\n',
    );
    assert.equal(
      proxyHeader(config({ version: 'V2' }), undefined, OWN).toString('hex'),
      '0d0a0d0a000d0a515549540a20000000',
    );
  });

  it('version 2 carries what was added and what of the client is passed on, in that order', () => {
    const found = [tlv(2, 'abc'), tlv(5, 'x'), tlv(2, 'def'), tlv(0xf0, 'theirs')];
    const header = (json: object): string =>
      proxyHeader(config({ version: 'V2', ...json }), client('192.0.2.1', '198.51.100.1', found), OWN)
        .subarray(28)
        .toString('hex');
    assert.equal(header({}), '');
    assert.equal(
      header({ pass_through_tlvs: { match_type: 'INCLUDE', tlv_type: [2] } }),
      '020003616263' + '020003646566',
    );
    assert.equal(
      header({ pass_through_tlvs: {}, added_tlvs: [{ type: 0xf0, value: 'YWI=' }] }),
      'f000026162' + '020003616263' + '05000178' + '020003646566',
    );
  });

  it('leaves out what does not fit rather than lie about its length', () => {
    const big = tlv(2, 'x'.repeat(40_000));
    const header = proxyHeader(
      config({ version: 'V2', pass_through_tlvs: {} }),
      client('192.0.2.1', '198.51.100.1', [big, big]),
      OWN,
    );
    assert.equal(header.readUInt16BE(14), header.length - 16);
    assert.ok(header.length < 65_000);
  });

  it('is read by the listener filter as it was meant, whatever the addresses', () => {
    const filter = { pass_through_tlvs: {}, rules: [{ tlv_type: 7, on_tlv_present: { key: 'seven' } }] };
    fc.assert(
      fc.property(
        fc.oneof(fc.ipV4(), fc.ipV6().map(canonical)),
        fc.oneof(fc.ipV4(), fc.ipV6().map(canonical)),
        fc.constantFrom('V1', 'V2'),
        fc.array(fc.tuple(fc.nat(255), fc.uint8Array({ maxLength: 20 })), { maxLength: 4 }),
        (from, to, version, tlvs) => {
          const given = tlvs.map(([type, value]) => ({ type, value: Buffer.from(value) }));
          const proxied = client(from, to, given);
          const header = proxyHeader(config({ version, pass_through_tlvs: {} }), proxied, OWN);
          const { verdict, facts } = new CountedFilter(proxyProtocol, filter).inspect(
            header,
            header.length,
            newFacts(),
          );
          assert.equal(verdict, 'done');
          assert.equal(facts.consumedBytes, header.length);
          assert.equal(facts.remoteAddress.port, 56324);
          if (from.includes(':') === to.includes(':')) {
            assert.equal(canonical(facts.remoteAddress.ip), from);
            assert.equal(canonical(facts.localAddress.ip), to);
          }
          if (version === 'V2') assert.deepEqual(facts.filterState?.get(PROXY_TLVS) ?? [], given);
        },
      ),
    );
  });

  for (const [says, json, message] of [
    ['a version of its own', { version: 'V3' }, /version/],
    ['a type beyond 255', { pass_through_tlvs: { match_type: 'INCLUDE', tlv_type: [256] } }, /tlv_type/],
    ['a value that is made of a format', { added_tlvs: [{ type: 1, format_string: {} }] }, /format_string/],
    ['no value', { added_tlvs: [{ type: 1 }] }, /value/],
  ] as const) {
    it(`${says} is refused, its field named`, () =>
      assert.throws(
        () => config(json),
        (error) => error instanceof ConfigError && message.test(error.path),
      ));
  }
});
