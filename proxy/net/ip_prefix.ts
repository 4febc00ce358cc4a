/** Address prefixes (CIDR ranges), and a table that finds the most specific one. */
import ipaddr from 'ipaddr.js';

/** envoy.config.core.v3.CidrRange, read. */
export interface IpPrefix {
  /** Network bytes, 4 or 16, host bits zero. */
  readonly bytes: Uint8Array;
  readonly bits: number;
}

/** @returns undefined where `ip` is no address or `bits` (default: all) do not fit its family. */
export function parsePrefix(ip: string, bits: number | undefined): IpPrefix | undefined {
  const bytes = ipBytes(ip);
  if (bytes === undefined) return undefined;
  const most = bytes.length * 8;
  const length = bits ?? most;
  return length > most ? undefined : { bytes: masked(bytes, length), bits: length };
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

function masked(bytes: Uint8Array, bits: number): Uint8Array {
  const out = Uint8Array.from(bytes);
  const whole = bits >> 3;
  if (whole < out.length) {
    out[whole] = (out[whole] as number) & (0xff00 >> (bits & 7)) & 0xff;
    out.fill(0, whole + 1);
  }
  return out;
}

const keyOf = (bytes: Uint8Array): string => Buffer.from(bytes).latin1Slice();

/** Values by prefix; the longest prefix that holds an address decides. */
export class PrefixTable<T> {
  /** Of one family and length, longest first. */
  readonly #levels: { readonly family: number; readonly bits: number; readonly values: Map<string, T> }[] = [];
  #any: T | undefined = undefined;

  /** The value of this very prefix (undefined: no condition), made when it is new. */
  at(prefix: IpPrefix | undefined, make: () => T): T {
    if (prefix === undefined) {
      this.#any ??= make();
      return this.#any;
    }
    const family = prefix.bytes.length;
    let level = this.#levels.find((known) => known.family === family && known.bits === prefix.bits);
    if (level === undefined) {
      level = { family, bits: prefix.bits, values: new Map() };
      this.#levels.push(level);
      this.#levels.sort((a, b) => b.bits - a.bits);
    }
    const key = keyOf(prefix.bytes);
    let value = level.values.get(key);
    if (value === undefined) {
      value = make();
      level.values.set(key, value);
    }
    return value;
  }

  find(ip: string): T | undefined {
    if (this.#levels.length === 0) return this.#any;
    const bytes = ipBytes(ip);
    if (bytes === undefined) return this.#any;
    for (const { family, bits, values } of this.#levels) {
      if (family !== bytes.length) continue;
      const value = values.get(keyOf(masked(bytes, bits)));
      if (value !== undefined) return value;
    }
    return this.#any;
  }
}
