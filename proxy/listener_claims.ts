/**
 * Which listener is to have which address, decided when a control plane pushes it: what cannot be bound is refused then,
 * by name, while its last good version goes on. Sockets are opened later, when the listener is served.
 */
import type { ListenerConfig } from './listener_config.ts';
import type { ListeningSockets } from './listening_sockets.ts';
import { addressKey } from './listening_sockets.ts';
import { socketAddress } from './net/connection_info.ts';
import { BindError, ListeningSocket } from './net/listening_socket.ts';

export class ListenerClaims {
  readonly #sockets: ListeningSockets;
  readonly #isConfigured: (listener: string) => boolean;
  readonly #claims = new Map<string, readonly string[]>();

  /** `isConfigured`: served, or warming. */
  constructor(sockets: ListeningSockets, isConfigured: (listener: string) => boolean) {
    this.#sockets = sockets;
    this.#isConfigured = isConfigured;
  }

  /** @param removed names that go with the same push. @returns by name, why it cannot have its addresses. */
  async claim(listeners: readonly ListenerConfig[], removed: readonly string[]): Promise<ReadonlyMap<string, string>> {
    const refused = new Map<string, string>();
    for (const name of removed) this.#claims.delete(name);
    for (const name of this.#claims.keys()) if (!this.#isConfigured(name)) this.#claims.delete(name);
    const going = new Set(removed);
    const before = new Map(listeners.map(({ name }) => [name, this.#claims.get(name)]));
    for (const config of listeners) this.#claims.set(config.name, keysOf(config));
    for (const config of listeners) {
      const reason = await this.#complaintOf(config, going);
      if (reason === undefined) continue;
      refused.set(config.name, reason);
      const earlier = before.get(config.name);
      if (earlier === undefined) this.#claims.delete(config.name);
      else this.#claims.set(config.name, earlier);
    }
    return refused;
  }

  async #complaintOf(config: ListenerConfig, going: ReadonlySet<string>): Promise<string | undefined> {
    const { name } = config;
    for (const [index, key] of keysOf(config).entries()) {
      const { ip, port, ipv4Compat } = config.addresses[index] as ListenerConfig['addresses'][number];
      const other = this.#ownerOf(key, name, going);
      if (other !== undefined) return `listener "${other}" listens on ${socketAddress(ip, port).text}`;
      if (this.#sockets.isOpen(key)) continue;
      try {
        await ListeningSocket.probe(ip, port, { ipv4Compat });
      } catch (error) {
        if (!(error instanceof BindError)) throw error;
        return `${error.message} (${error.code})`;
      }
    }
    return undefined;
  }

  /** Another listener that has it, or is to have it. */
  #ownerOf(key: string, name: string, going: ReadonlySet<string>): string | undefined {
    // Of two in one push the first has it.
    for (const [other, keys] of this.#claims) {
      if (other === name) break;
      if (keys.includes(key)) return other;
    }
    for (const other of this.#sockets.usersOf(key)) {
      if (other === name || going.has(other) || !this.#isConfigured(other)) continue;
      if (this.#claims.get(other)?.includes(key) ?? true) return other;
    }
    return undefined;
  }
}

function keysOf(config: ListenerConfig): string[] {
  return config.bindToPort ? config.addresses.map((address) => addressKey(config, address)) : [];
}
