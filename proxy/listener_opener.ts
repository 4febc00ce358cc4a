/** Opens the sockets of listeners that are about to be served, and remembers what threads have to be given of them. */
import type { ListenerConfig } from './listener_config.ts';
import { ListenerClaims } from './listener_claims.ts';
import { descriptorsFor, ListeningSockets } from './listening_sockets.ts';
import type { ListeningSocket } from './net/listening_socket.ts';
import type { DrainScope } from './drain.ts';
import type { Update } from './distribution.ts';
import type { Batch } from './distributor.ts';
import type { HeldResource } from './held_resource.ts';
import type { ListenAddress } from './proxy_options.ts';

export interface ListenerOpenerOptions {
  readonly threads: number;
  configOf(listener: HeldResource): ListenerConfig;
  /** Served, or warming. */
  isConfigured(listener: string): boolean;
  /** undefined: it listens nowhere. */
  onListening(name: string, address: ListenAddress | undefined): void;
  /** It is left out. May throw: then nothing of the batch is served. */
  onFailure(listener: HeldResource, error: Error): void;
}

/** By listener, a thread's own descriptors; undefined: the thread opens the address. */
export type Descriptors = ReadonlyMap<string, readonly (number | undefined)[]>;

export class ListenerOpener {
  readonly #options: ListenerOpenerOptions;
  readonly #sockets: ListeningSockets;
  readonly #claims: ListenerClaims;
  /** Of the batch under way. */
  #opened: ReadonlyMap<string, readonly ListeningSocket[]> = new Map();

  constructor(options: ListenerOpenerOptions) {
    this.#options = options;
    this.#sockets = new ListeningSockets(options.threads);
    this.#claims = new ListenerClaims(this.#sockets, options.isConfigured);
  }

  /** For a push, before it is taken over. @returns by name, why a listener cannot have its addresses. */
  claim(listeners: readonly ListenerConfig[], removed: readonly string[]): Promise<ReadonlyMap<string, string>> {
    return this.#claims.claim(listeners, removed);
  }

  /** Opens what sockets are new. @returns the listeners that cannot have theirs. */
  async prepare({ changed, removed }: Batch): Promise<ReadonlySet<HeldResource>> {
    const failed = new Set<HeldResource>();
    const opened = new Map<string, readonly ListeningSocket[]>();
    for (const { type, name } of removed) if (type === 'listener') this.#sockets.forget(name);
    const listeners = changed.filter(({ type }) => type === 'listener');
    const configs = new Map(listeners.map((resource) => [resource, this.#options.configOf(resource)]));
    for (const config of configs.values()) this.#sockets.release(config);
    for (const [resource, config] of configs) {
      try {
        const sockets = await this.#sockets.open(config);
        if (sockets === undefined) continue;
        opened.set(resource.name, sockets);
        const [first] = sockets;
        this.#options.onListening(config.name, first === undefined ? undefined : { ip: first.ip, port: first.port });
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        this.#options.onFailure(resource, error);
        failed.add(resource);
      }
    }
    this.#opened = opened;
    return failed;
  }

  /** Of the listeners of an update of the batch under way. */
  descriptors({ upserts }: Update, thread: number): Descriptors {
    const given = new Map<string, readonly ListeningSocket[]>();
    for (const { type, name } of upserts) {
      const sockets = type === 'listener' ? this.#opened.get(name) : undefined;
      if (sockets !== undefined) given.set(name, sockets);
    }
    return descriptorsFor(given, thread);
  }

  /** Of all there are, for a thread that takes a dead one's place. */
  allDescriptors(thread: number): Descriptors {
    return descriptorsFor(this.#sockets.all(), thread);
  }

  /** Threads have the batch: what nobody uses any more is closed. */
  settle(): void {
    this.#opened = new Map();
    this.#sockets.settle();
  }

  /** No listener of this scope listens any more, now or later. */
  stop(scope: DrainScope): void {
    this.#sockets.stop(scope);
  }

  close(): void {
    this.#sockets.close();
  }
}
