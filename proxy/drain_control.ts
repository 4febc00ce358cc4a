/** Draining as the control thread orders it: of all data threads, and of those that are started meanwhile. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { DrainOrder, DrainScope, DrainStrategy } from './drain.ts';
import type { ToThread } from './thread_messages.ts';

export interface DrainControlOptions {
  readonly strategy: DrainStrategy;
  readonly timeMs: number;
  broadcast(message: ToThread): void;
  /** The listening sockets of these listeners go. */
  closeSockets(scope: DrainScope): void;
}

export class DrainControl {
  readonly #options: DrainControlOptions;
  #order: DrainOrder | undefined = undefined;
  #startedMs = 0;
  #healthFailed = false;
  /** Whose listeners accept no more; undefined: all accept. */
  stopped: DrainScope | undefined = undefined;

  constructor(options: DrainControlOptions) {
    this.#options = options;
  }

  get active(): boolean {
    return this.#order !== undefined;
  }

  /** Answers ask for their connections to be closed; new ones are accepted all the same. */
  begin(scope: DrainScope, timeMs = this.#options.timeMs): void {
    this.#order = { scope, strategy: this.#options.strategy, timeMs };
    this.#startedMs = performance.now();
    this.#options.broadcast({ kind: 'drain', order: this.#order, elapsedMs: 0 });
  }

  /** Admin's /drain_listeners. Once a graceful drain has begun, others are ignored, as in Envoy. */
  drainListeners(scope: DrainScope, { graceful, skipExit }: { graceful: boolean; skipExit: boolean }): void {
    if (!graceful) return this.stopAccepting(scope);
    if (this.active) return;
    this.begin(scope);
    if (!skipExit) setTimeout(() => this.stopAccepting(scope), this.#options.timeMs).unref();
  }

  stopAccepting(scope: DrainScope): void {
    if (this.stopped !== 'all') this.stopped = scope;
    this.#options.broadcast({ kind: 'stop-accepting', scope });
    this.#options.closeSockets(scope);
  }

  failHealth(failed: boolean): void {
    this.#healthFailed = failed;
    this.#options.broadcast({ kind: 'health', failed });
  }

  /** For a thread that is started while this goes on, after its configuration. */
  messages(): ToThread[] {
    const messages: ToThread[] = [];
    if (this.#healthFailed) messages.push({ kind: 'health', failed: true });
    if (this.#order !== undefined) {
      messages.push({ kind: 'drain', order: this.#order, elapsedMs: performance.now() - this.#startedMs });
    }
    if (this.stopped !== undefined) messages.push({ kind: 'stop-accepting', scope: this.stopped });
    return messages;
  }
}

/** Envoy: a file `drain` in the folder flags_path lets it start with its health check failed. */
export function hasDrainFlag(bootstrap: unknown): boolean {
  const { flags_path } = (bootstrap ?? {}) as { readonly flags_path?: string };
  return flags_path !== undefined && existsSync(join(flags_path, 'drain'));
}
