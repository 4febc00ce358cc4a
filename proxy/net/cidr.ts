/** Ranges of IP addresses. Source: envoy.config.core.v3.CidrRange. */
import ipaddr from 'ipaddr.js';
import { ConfigError } from '../config_error.ts';
import type { Fields } from '../resource_fields.ts';

export interface Cidr {
  /** `10.0.0.0/8`. */
  readonly text: string;
  readonly prefixLength: number;
  /** The network, 4 or 16 bytes, host bits zero. */
  readonly bytes: Uint8Array;
  /** Of IPv4: the network as a number; undefined for IPv6. */
  readonly network4: number | undefined;
  /** Of another family, or no address at all: false. */
  contains(ip: string): boolean;
}

/** envoy.config.core.v3.CidrRange. @throws {ConfigError} */
export function parseCidr(fields: Fields): Cidr {
  const address = fields.requiredString('address_prefix');
  const length = fields.integer('prefix_len', 0, 128) ?? 0;
  return cidr(address, length, fields.at('address_prefix'));
}

/** @throws {ConfigError} when `address` is no IP address or `length` too long for its family. */
export function cidr(address: string, length: number, path: string): Cidr {
  if (!ipaddr.isValid(address)) throw new ConfigError(path, `an IP address is wanted, got "${address}"`);
  const network = ipaddr.process(address);
  const most = network.kind() === 'ipv4' ? 32 : 128;
  if (length > most) throw new ConfigError(path, `prefix_len must be at most ${most} for ${address}, got ${length}`);
  const text = `${address}/${length}`;
  const bytes = maskedBytes(Uint8Array.from(network.toByteArray()), length);
  if (network.kind() === 'ipv4') {
    const wanted = maskedIpv4(ipv4(network.toString()), length);
    return {
      text,
      prefixLength: length,
      bytes,
      network4: wanted,
      contains(ip) {
        const value = ipv4(ip);
        return value >= 0 && maskedIpv4(value, length) === wanted;
      },
    };
  }
  return {
    text,
    prefixLength: length,
    bytes,
    network4: undefined,
    contains(ip) {
      if (!ip.includes(':')) return false;
      // A zone names an interface, not a part of the address.
      const zone = ip.indexOf('%');
      const plain = zone < 0 ? ip : ip.slice(0, zone);
      if (!ipaddr.isValid(plain)) return false;
      const other = ipaddr.process(plain);
      return other.kind() === 'ipv6' && other.match(network, length);
    },
  };
}

/** 4 or 16 bytes, a v4-mapped IPv6 address as 4; undefined for what is no address (a unix socket's path). */
export function ipBytes(text: string): Uint8Array | undefined {
  if (!ipaddr.isValid(text)) return undefined;
  return Uint8Array.from(ipaddr.process(text).toByteArray());
}

/** Whether the address lies in the loopback range of its family. */
export function isLoopback(ip: string): boolean {
  return ip.startsWith('127.') || ip === '::1';
}

/** The first `bits` bits of an address, the others zero. */
export function maskedBytes(bytes: Uint8Array, bits: number): Uint8Array {
  const out = Uint8Array.from(bytes);
  const whole = bits >> 3;
  if (whole < out.length) {
    out[whole] = (out[whole] as number) & (0xff00 >> (bits & 7)) & 0xff;
    out.fill(0, whole + 1);
  }
  return out;
}

/** The first `length` bits of an IPv4 address. */
export function maskedIpv4(value: number, length: number): number {
  return length === 0 ? 0 : (value & ((-1 << (32 - length)) >>> 0)) >>> 0;
}

/** The address as a number; −1 if it is not four decimal numbers. */
export function ipv4(ip: string): number {
  let value = 0;
  let part = -1;
  let parts = 1;
  for (let i = 0; i < ip.length; i++) {
    const code = ip.charCodeAt(i);
    if (code === 46) {
      if (part < 0 || ++parts > 4) return -1;
      value = value * 256 + part;
      part = -1;
    } else if (code >= 48 && code <= 57) {
      part = (part < 0 ? 0 : part * 10) + code - 48;
      if (part > 255) return -1;
    } else return -1;
  }
  return parts === 4 && part >= 0 ? value * 256 + part : -1;
}
