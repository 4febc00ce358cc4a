/** The listening sockets of all listeners, by address: a listener that takes another's place takes its socket over. */
import { ConfigError } from './config_error.ts';
import { type Direction, type DrainScope, inScope } from './drain.ts';
import type { ListenerAddress, ListenerConfig } from './listener_config.ts';
import { socketAddress } from './net/connection_info.ts';
import { ListeningSocket } from './net/listening_socket.ts';

interface OpenSocket {
  readonly socket: ListeningSocket;
  /** Names of listeners. */
  readonly users: Set<string>;
}

export class ListeningSockets {
  /** By listener: what its direction is, and whether it is to listen no more. */
  readonly #directions = new Map<string, Direction>();
  #stopped: DrainScope | undefined = undefined;
  readonly #threads: number;
  readonly #byAddress = new Map<string, OpenSocket>();
  readonly #byListener = new Map<string, readonly string[]>();

  constructor(threads: number) {
    this.#threads = threads;
  }

  /**
   * Opens what is new. What it had before and has no more is closed by `settle`.
   * @returns its sockets; undefined: threads listen on all of them already. @throws {BindError} {ConfigError}
   */
  async open(config: ListenerConfig): Promise<readonly ListeningSocket[] | undefined> {
    const { name } = config;
    this.#directions.set(name, config.direction);
    const keys = this.#keysOf(config);
    const known = this.#byListener.get(name) ?? [];
    if (keys.length === known.length && keys.every((key) => known.includes(key))) return undefined;
    const sockets: ListeningSocket[] = [];
    for (const [index, key] of keys.entries()) {
      const { ip, port, ipv4Compat } = config.addresses[index] as ListenerAddress;
      const { transparent } = config;
      let open = this.#byAddress.get(key);
      if (open === undefined) {
        open = {
          socket: await ListeningSocket.open(ip, port, this.#threads, { ipv4Compat, transparent }),
          users: new Set(),
        };
        this.#byAddress.set(key, open);
      }
      const [other] = [...open.users].filter((user) => user !== name);
      if (other !== undefined) {
        const where = socketAddress(ip, port).text;
        throw new ConfigError('', `listener "${other}" listens on ${where}`);
      }
      open.users.add(name);
      sockets.push(open.socket);
    }
    this.#byListener.set(name, keys);
    for (const key of known) if (!keys.includes(key)) this.#byAddress.get(key)?.users.delete(name);
    return sockets;
  }

  /** Lets go of what a listener had and is to have no more: another one may take it in the same round. */
  release(config: ListenerConfig): void {
    const { name } = config;
    const keys = new Set(this.#keysOf(config));
    for (const key of this.#byListener.get(name) ?? []) {
      if (!keys.has(key)) this.#byAddress.get(key)?.users.delete(name);
    }
  }

  isOpen(key: string): boolean {
    return this.#byAddress.has(key);
  }

  usersOf(key: string): Iterable<string> {
    return this.#byAddress.get(key)?.users ?? [];
  }

  /** Closes the sockets of all listeners of this scope, and opens none for them any more. */
  stop(scope: DrainScope): void {
    if (this.#stopped !== 'all') this.#stopped = scope;
    for (const [name, direction] of this.#directions) {
      if (!inScope(scope, direction)) continue;
      for (const key of this.#byListener.get(name) ?? []) this.#byAddress.get(key)?.users.delete(name);
      this.#byListener.set(name, []);
    }
    this.settle();
  }

  forget(listener: string): void {
    this.#directions.delete(listener);
    for (const key of this.#byListener.get(listener) ?? []) this.#byAddress.get(key)?.users.delete(listener);
    this.#byListener.delete(listener);
  }

  /** Closes what nobody uses: call it when threads have heard of the change. */
  settle(): void {
    for (const [key, { socket, users }] of this.#byAddress) {
      if (users.size > 0) continue;
      socket.close();
      this.#byAddress.delete(key);
    }
  }

  #keysOf(config: ListenerConfig): string[] {
    const stopped = this.#stopped !== undefined && inScope(this.#stopped, config.direction);
    return config.bindToPort && !stopped ? config.addresses.map((address) => addressKey(config, address)) : [];
  }

  /** Of all listeners that have a socket. */
  all(): ReadonlyMap<string, readonly ListeningSocket[]> {
    return new Map(
      [...this.#byListener].map(([name, keys]) => [
        name,
        keys.flatMap((key) => this.#byAddress.get(key)?.socket ?? []),
      ]),
    );
  }

  close(): void {
    for (const { socket } of this.#byAddress.values()) socket.close();
    this.#byAddress.clear();
  }
}

/** Port 0 is another one for each listener. */
export function addressKey(
  { name: listener, transparent }: ListenerConfig,
  { ip, port, ipv4Compat }: ListenerAddress,
): string {
  const families = `${ipv4Compat === true ? ' both' : ''}${transparent ? ' transparent' : ''}`;
  return port === 0 && !ip.startsWith('/') ? `${ip} 0 ${listener}${families}` : `${ip} ${port}${families}`;
}

/** Duplicates for one thread, by listener. */
export function descriptorsFor(
  sockets: ReadonlyMap<string, readonly ListeningSocket[]>,
  thread: number,
): ReadonlyMap<string, readonly (number | undefined)[]> {
  return new Map([...sockets].map(([name, list]) => [name, list.map((socket) => socket.duplicate(thread))]));
}
