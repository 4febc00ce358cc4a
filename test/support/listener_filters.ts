/** Listener filters without sockets: bytes in at any split, facts and verdict out. */
import { socketAddress } from '../../proxy/net/connection_info.ts';
import type { ConnectionFacts, ListenerFilter, ListenerFilterDeps } from '../../proxy/net/listener_filter.ts';

export interface Inspected {
  readonly verdict: 'more' | 'done' | 'reject';
  readonly facts: ConnectionFacts;
  /** How many bytes were there when it was decided. */
  readonly after: number;
}

interface AnyFactory {
  parse(json: unknown): unknown;
  create(config: never, deps: ListenerFilterDeps): ListenerFilter;
}

export class CountedFilter {
  readonly counts = new Map<string, number>();
  readonly filter: ListenerFilter;

  constructor(factory: AnyFactory, config: object = {}) {
    this.filter = factory.create(factory.parse(config) as never, {
      statPrefix: 'listener.test',
      histogram: () => ({ record: () => {} }),
      counter: (name) => ({ inc: () => this.add(name, 1), add: (count) => this.add(name, count) }),
    });
  }

  add(name: string, count: number): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + count);
  }

  /** Offers the bytes in pieces of `step`, as the listener does. */
  inspect(bytes: Buffer, step = bytes.length || 1, facts = newFacts()): Inspected {
    let verdict = this.filter.inspect(Buffer.alloc(0), facts);
    for (let length = step; verdict === 'more'; length += step) {
      const there = Math.min(length, bytes.length);
      if (facts.wantedBytes <= there || there === bytes.length) {
        facts.wantedBytes = 0;
        verdict = this.filter.inspect(Buffer.from(bytes.subarray(0, there)), facts);
      }
      if (verdict !== 'more') return { verdict, facts, after: there };
      if (length >= bytes.length) break;
    }
    return { verdict, facts, after: bytes.length };
  }
}

export function newFacts(original?: { readonly ip: string; readonly port: number }): ConnectionFacts {
  return {
    transportProtocol: '',
    serverName: undefined,
    applicationProtocols: [],
    fingerprints: undefined,
    localAddress: socketAddress('10.0.0.1', 8080),
    localAddressRestored: false,
    remoteAddress: socketAddress('10.0.0.9', 40_000),
    directRemoteAddress: socketAddress('10.0.0.9', 40_000),
    consumedBytes: 0,
    wantedBytes: 0,
    filterState: undefined,
    dynamicMetadata: undefined,
    originalDestination: () => (original === undefined ? undefined : socketAddress(original.ip, original.port)),
  };
}
