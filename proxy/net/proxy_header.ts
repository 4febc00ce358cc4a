/**
 * The PROXY header that goes before a connection to a host: whom the connection is for. Versions 1 and 2.
 * Source: haproxy's proxy-protocol.txt; Envoy: envoy.config.core.v3.ProxyProtocolConfig.
 */
import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { Fields } from '../resource_fields.ts';
import type { SocketAddress } from './connection_info.ts';

/** One entry behind the addresses of a version 2 header. */
export interface Tlv {
  /** 0 to 255. */
  readonly type: number;
  readonly value: Buffer;
}

export type TlvTypes = 'all' | ReadonlySet<number>;

export interface ProxyHeaderConfig {
  readonly version: 1 | 2;
  /** Of the client's own header, which to repeat: those of these types, or all. */
  readonly passThrough: TlvTypes;
  /** Written as well; instead of the client's of the same type. */
  readonly added: readonly Tlv[];
}

/** The connection for which another one is made. x-forwarded-for changes nothing of it, as in Envoy. */
export interface ProxiedConnection {
  readonly remoteAddress: SocketAddress;
  /** Where the client believed to connect to. */
  readonly localAddress: SocketAddress;
  readonly filterState: ReadonlyMap<string, unknown> | undefined;
}

/** Filter state: the TLVs that a listener's PROXY header had and that are to be passed on, as `readonly Tlv[]`. */
export const PROXY_TLVS = 'envoy.network.proxy_protocol_options';

/** envoy.config.core.v3.ProxyProtocolPassThroughTLVs; undefined: none. @throws {ConfigError} */
export function parsePassThrough(fields: Fields | undefined): TlvTypes {
  if (fields === undefined) return new Set();
  if (fields.oneOf('match_type', ['INCLUDE_ALL', 'INCLUDE'], 'INCLUDE_ALL') === 'INCLUDE_ALL') return 'all';
  return new Set(
    fields.list('tlv_type').map((type) => {
      if (typeof type === 'number' && Number.isInteger(type) && type >= 0 && type < 256) return type;
      return fields.fail('tlv_type', `types are 0 to 255, got ${String(type)}`);
    }),
  );
}

/** A version 2 header begins with it. */
export const V2_SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');
/** What a version 2 header's addresses are of. */
export const FAMILIES = { unspecified: 0x00, tcp4: 0x11, tcp6: 0x21 } as const;
const LOCAL = 0x20;
const PROXY = 0x21;
/** What the header's length field can say. */
const MAX_BODY_BYTES = 65_535;

/**
 * `proxied` undefined: the proxy asks for itself (a health check). Version 2 says so (LOCAL), version 1 names the
 * connection's own ends, as Envoy does.
 */
export function proxyHeader(
  { version, passThrough, added }: ProxyHeaderConfig,
  proxied: ProxiedConnection | undefined,
  own: { readonly localAddress: SocketAddress; readonly remoteAddress: SocketAddress },
): Buffer {
  if (version === 1) {
    const [from, to] =
      proxied === undefined ? [own.localAddress, own.remoteAddress] : [proxied.remoteAddress, proxied.localAddress];
    return version1(from, to);
  }
  if (proxied === undefined) return version2(LOCAL, FAMILIES.unspecified, [], []);
  const found = (proxied.filterState?.get(PROXY_TLVS) ?? []) as readonly Tlv[];
  const replaced = new Set(added.map(({ type }) => type));
  const passed = found.filter(({ type }) => !replaced.has(type) && (passThrough === 'all' || passThrough.has(type)));
  return version2(PROXY, ...addresses(proxied.remoteAddress, proxied.localAddress), [...added, ...passed]);
}

/** Which connections may share one to the host: those that would have the same header. */
export function proxiedKey({ remoteAddress, localAddress }: ProxiedConnection): string {
  return `${remoteAddress.text} ${localAddress.text}`;
}

function version1(from: SocketAddress, to: SocketAddress): Buffer {
  const family = familyOf(from, to);
  if (family === 0) return Buffer.from('PROXY UNKNOWN\r\n', 'latin1');
  const [source, destination] = [inFamily(from.ip, family), inFamily(to.ip, family)];
  return Buffer.from(`PROXY TCP${family} ${source} ${destination} ${from.port} ${to.port}\r\n`, 'latin1');
}

function version2(command: number, family: number, ends: readonly Buffer[], tlvs: readonly Tlv[]): Buffer {
  const pieces: Buffer[] = [];
  let length = 0;
  const add = (piece: Buffer): void => {
    pieces.push(piece);
    length += piece.length;
  };
  ends.forEach(add);
  for (const { type, value } of tlvs) {
    // What does not fit is left out, the later first: a header that lies about its length would take the host's bytes.
    if (length + 3 + value.length > MAX_BODY_BYTES) break;
    add(Buffer.from([type, value.length >> 8, value.length & 0xff]));
    add(value);
  }
  const start = Buffer.from([command, family, length >> 8, length & 0xff]);
  return Buffer.concat([V2_SIGNATURE, start, ...pieces]);
}

function addresses(from: SocketAddress, to: SocketAddress): [number, readonly Buffer[]] {
  const family = familyOf(from, to);
  if (family === 0) return [FAMILIES.unspecified, []];
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(from.port, 0);
  ports.writeUInt16BE(to.port, 2);
  return [family === 4 ? FAMILIES.tcp4 : FAMILIES.tcp6, [bytesOf(from.ip, family), bytesOf(to.ip, family), ports]];
}

/** 6 where one of them is IPv6; 0: a unix socket, which no header can name. */
function familyOf(from: SocketAddress, to: SocketAddress): 0 | 4 | 6 {
  const families = [isIP(from.ip), isIP(to.ip)];
  if (families.includes(0)) return 0;
  return families.includes(6) ? 6 : 4;
}

/** IPv4 beside IPv6 is written as the IPv6 address that stands for it; zones mean nothing on another machine. */
function inFamily(ip: string, family: 4 | 6): string {
  if (family === 6 && isIP(ip) === 4) return `::ffff:${ip}`;
  const zone = ip.indexOf('%');
  return zone < 0 ? ip : ip.slice(0, zone);
}

function bytesOf(ip: string, family: 4 | 6): Buffer {
  return Buffer.from(ipaddr.parse(inFamily(ip, family)).toByteArray());
}
