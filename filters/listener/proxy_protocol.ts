/**
 * The PROXY header that a load balancer puts before a connection, versions 1 and 2: who the client is. Whatever is not a
 * whole, valid header ends the connection before anybody parses a request. Envoy: envoy.extensions.filters.listener.proxy_protocol.v3;
 * source: haproxy's proxy-protocol.txt.
 */
import { isIPv4, isIPv6 } from 'node:net';
import { socketAddress } from '../../proxy/net/connection_info.ts';
import type { ConnectionFacts, ListenerFilterFactory } from '../../proxy/net/listener_filter.ts';
import {
  FAMILIES,
  parsePassThrough,
  PROXY_TLVS,
  type Tlv,
  type TlvTypes,
  V2_SIGNATURE,
} from '../../proxy/net/proxy_header.ts';
import { Fields } from '../../proxy/resource_fields.ts';

interface Config {
  /** Default false: a connection without a header is closed. */
  readonly allowWithout: boolean;
  readonly disallowed: ReadonlySet<1 | 2>;
  readonly statPrefix: string;
  /** TLVs that become dynamic metadata of the connection. */
  readonly rules: readonly TlvRule[];
  /** TLVs that PROXY headers to hosts may repeat. */
  readonly passThrough: TlvTypes;
}

interface TlvRule {
  readonly type: number;
  readonly namespace: string;
  readonly key: string;
}

type Verdict = 'more' | 'reject' | 'absent' | { readonly consumed: number; readonly tlvs?: Buffer };

const V1_START = Buffer.from('PROXY ', 'latin1');
/** The longest line there can be, its end included. */
const V1_MAX_BYTES = 107;
const V2_HEADER = 16;
/** Addresses and TLVs. A load balancer's own take some hundred bytes; the format would let a peer send 64 KiB. */
const V2_MAX_BYTES = 8192;

export default {
  typeUrls: ['type.googleapis.com/envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol'],
  parse(json): Config {
    const fields = new Fields(json);
    if (fields.oneOf('tlv_location', ['DYNAMIC_METADATA', 'FILTER_STATE'], 'DYNAMIC_METADATA') === 'FILTER_STATE') {
      fields.fail('tlv_location', 'FILTER_STATE is not supported: rules make dynamic metadata');
    }
    return {
      rules: fields.messages('rules').map(parseRule),
      passThrough: parsePassThrough(fields.message('pass_through_tlvs')),
      allowWithout: fields.boolean('allow_requests_without_proxy_protocol') ?? false,
      disallowed: new Set(
        fields.list('disallowed_versions').map((version) => (version === 'V1' || version === 0 ? 1 : 2)),
      ),
      statPrefix: fields.string('stat_prefix') ?? '',
    };
  },
  create({ allowWithout, disallowed, statPrefix, rules, passThrough }, deps) {
    const prefix = statPrefix === '' ? 'proxy_proto' : `proxy_proto.${statPrefix}`;
    const byVersion = (name: string) => [1, 2].map((version) => deps.counter(`${prefix}.versions.v${version}.${name}`));
    const [found, refused, barred] = [byVersion('found'), byVersion('error'), byVersion('disallowed')];
    const absent = {
      allowed: deps.counter(`${prefix}.not_found_allowed`),
      disallowed: deps.counter(`${prefix}.not_found_disallowed`),
    };
    return {
      inspect(bytes, facts) {
        const version = versionOf(bytes);
        if (version === 'more') return 'more';
        if (version === 'absent') {
          (allowWithout ? absent.allowed : absent.disallowed).inc();
          return allowWithout ? 'done' : 'reject';
        }
        if (disallowed.has(version)) {
          barred[version - 1]?.inc();
          return 'reject';
        }
        const verdict = version === 1 ? readV1(bytes, facts) : readV2(bytes, facts);
        if (verdict === 'more') return 'more';
        if (typeof verdict === 'string') {
          refused[version - 1]?.inc();
          return 'reject';
        }
        found[version - 1]?.inc();
        facts.consumedBytes += verdict.consumed;
        if (verdict.tlvs !== undefined) keepTlvs(verdict.tlvs, rules, passThrough, facts);
        return 'done';
      },
      // Half a header is none; half a signature may be a client that says little.
      inspectEnd: (bytes) =>
        allowWithout && bytes.length < V2_HEADER && versionOf(bytes) === 'more' ? 'done' : 'reject',
    };
  },
} satisfies ListenerFilterFactory<Config>;

function versionOf(bytes: Buffer): 1 | 2 | 'more' | 'absent' {
  for (const [version, start] of [
    [1, V1_START],
    [2, V2_SIGNATURE],
  ] as const) {
    const there = Math.min(bytes.length, start.length);
    if (bytes.compare(start, 0, there, 0, there) === 0) return there === start.length ? version : 'more';
  }
  return 'absent';
}

/** `PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n`. */
function readV1(bytes: Buffer, facts: ConnectionFacts): Verdict {
  const end = bytes.subarray(0, V1_MAX_BYTES).indexOf('\r\n');
  if (end < 0) return bytes.length >= V1_MAX_BYTES ? 'reject' : 'more';
  const line = bytes.latin1Slice(0, end);
  const consumed = end + 2;
  // Addresses behind UNKNOWN are to be ignored.
  if (line === 'PROXY UNKNOWN' || line.startsWith('PROXY UNKNOWN ')) return { consumed };
  const parts = line.split(' ');
  const [, family, source = '', destination = '', sourcePort = '', destinationPort = ''] = parts;
  if (parts.length !== 6) return 'reject';
  const isAddress = family === 'TCP4' ? isIPv4 : family === 'TCP6' ? isIPv6 : undefined;
  if (isAddress === undefined || !isAddress(source) || !isAddress(destination)) return 'reject';
  if (source.includes('%') || destination.includes('%')) return 'reject';
  const [from, to] = [portOf(sourcePort), portOf(destinationPort)];
  if (from === undefined || to === undefined) return 'reject';
  restore(facts, source, from, destination, to);
  return { consumed };
}

function portOf(text: string): number | undefined {
  const port = /^(?:0|[1-9]\d{0,4})$/.test(text) ? Number(text) : 65536;
  return port > 65535 ? undefined : port;
}

function readV2(bytes: Buffer, facts: ConnectionFacts): Verdict {
  if (bytes.length < V2_HEADER) return 'more';
  const [versionAndCommand, family, length] = [bytes.readUInt8(12), bytes.readUInt8(13), bytes.readUInt16BE(14)];
  const command = versionAndCommand & 0x0f;
  if (versionAndCommand >> 4 !== 2 || command > 1 || length > V2_MAX_BYTES) return 'reject';
  const consumed = V2_HEADER + length;
  const isLocal = command === 0 || family === FAMILIES.unspecified;
  const addressBytes = isLocal ? 0 : family === FAMILIES.tcp4 ? 12 : family === FAMILIES.tcp6 ? 36 : -1;
  if (addressBytes < 0 || length < addressBytes) return 'reject';
  if (bytes.length < consumed) return 'more';
  // LOCAL: the balancer speaks for itself, and what follows is to be skipped.
  if (isLocal) return { consumed };
  const tlvs = bytes.subarray(V2_HEADER + addressBytes, consumed);
  if (!areTlvs(tlvs)) return 'reject';
  const size = (addressBytes - 4) / 2;
  const at = V2_HEADER;
  restore(
    facts,
    ipText(bytes.subarray(at, at + size)),
    bytes.readUInt16BE(at + 2 * size),
    ipText(bytes.subarray(at + size, at + 2 * size)),
    bytes.readUInt16BE(at + 2 * size + 2),
  );
  return { consumed, tlvs };
}

/** type, length (2), value; one after the other up to the end. */
function areTlvs(bytes: Buffer): boolean {
  let at = 0;
  while (at < bytes.length) {
    if (bytes.length - at < 3) return false;
    at += 3 + bytes.readUInt16BE(at + 1);
  }
  return at === bytes.length;
}

const METADATA_NAMESPACE = 'envoy.filters.listener.proxy_protocol';

/** `bytes` are borrowed, and well formed (areTlvs). */
function keepTlvs(bytes: Buffer, rules: readonly TlvRule[], passThrough: TlvTypes, facts: ConnectionFacts): void {
  const passed: Tlv[] = [];
  for (let at = 0; at < bytes.length; ) {
    const type = bytes.readUInt8(at);
    const end = at + 3 + bytes.readUInt16BE(at + 1);
    const value = bytes.subarray(at + 3, end);
    for (const rule of rules) {
      if (rule.type !== type) continue;
      facts.dynamicMetadata ??= new Map();
      // Like Envoy: text as it stands, what is no UTF-8 replaced.
      facts.dynamicMetadata.set(rule.namespace, {
        ...facts.dynamicMetadata.get(rule.namespace),
        [rule.key]: value.toString('utf8'),
      });
    }
    if (passThrough === 'all' || passThrough.has(type)) passed.push({ type, value: Buffer.from(value) });
    at = end;
  }
  if (passed.length === 0) return;
  facts.filterState ??= new Map();
  facts.filterState.set(PROXY_TLVS, passed);
}

/** envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol.Rule. */
function parseRule(rule: Fields): TlvRule {
  const made = rule.requiredMessage('on_tlv_present');
  return {
    type: rule.integer('tlv_type', 0, 255) ?? 0,
    namespace: made.string('metadata_namespace') || METADATA_NAMESPACE,
    key: made.requiredString('key'),
  };
}

function ipText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.');
  const words: string[] = [];
  for (let at = 0; at < 16; at += 2) words.push(bytes.readUInt16BE(at).toString(16));
  return words.join(':').replace(/(?:^|:)0(?::0)+(?:$|:)/, '::');
}

function restore(
  facts: ConnectionFacts,
  source: string,
  sourcePort: number,
  destination: string,
  destinationPort: number,
): void {
  facts.remoteAddress = socketAddress(source, sourcePort);
  const local = socketAddress(destination, destinationPort);
  if (local.text === facts.localAddress.text) return;
  facts.localAddress = local;
  facts.localAddressRestored = true;
}
