/** A table of address prefixes that finds the most specific one. */
import { type Cidr, ipBytes, maskedBytes } from './cidr.ts';

const keyOf = (bytes: Uint8Array): string => Buffer.from(bytes).latin1Slice();

/** Values by prefix; the longest prefix that holds an address decides. */
export class PrefixTable<T> {
  /** Of one family and length, longest first. */
  readonly #levels: { readonly family: number; readonly bits: number; readonly values: Map<string, T> }[] = [];
  #any: T | undefined = undefined;

  /** The value of this very prefix (undefined: no condition), made when it is new. */
  at(prefix: Cidr | undefined, make: () => T): T {
    if (prefix === undefined) {
      this.#any ??= make();
      return this.#any;
    }
    const { bytes: network, prefixLength } = prefix;
    const family = network.length;
    let level = this.#levels.find((known) => known.family === family && known.bits === prefixLength);
    if (level === undefined) {
      level = { family, bits: prefixLength, values: new Map() };
      this.#levels.push(level);
      this.#levels.sort((a, b) => b.bits - a.bits);
    }
    const key = keyOf(network);
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
      const value = values.get(keyOf(maskedBytes(bytes, bits)));
      if (value !== undefined) return value;
    }
    return this.#any;
  }
}
