/** Resources that single requests ask for by name, beside what is subscribed to as a whole: until the server has answered. */
import type { Demand, Json } from '../resources.ts';
import type { Push, PushedResource } from './discovery_messages.ts';
import { CLUSTER, VIRTUAL_HOST, type XdsType } from './resource_types.ts';

/** Names that are subscribed to because a request wanted them: they come of clients. */
export const MAX_DEMANDED = 10_000;
/** A server that does not answer: the name is let go. Longer than requests wait. */
const ANSWER_TIMEOUT_MS = 60_000;

interface Open {
  readonly onAbsent: Set<() => void>;
  readonly timer: NodeJS.Timeout;
}

export type ResolveStream = (source: Json, type: XdsType) => DemandStream | undefined;

export interface DemandStream {
  start(): void;
  subscribe(type: XdsType, name: string): void;
  unsubscribe(type: XdsType, name: string): void;
}

export class Demands {
  readonly #open = new Map<string, Open>();
  readonly #streams = new Map<string, DemandStream>();
  readonly #onFull: () => void;

  /** `onFull`: a name was not asked for because there are so many. */
  constructor(onFull: () => void) {
    this.#onFull = onFull;
  }

  /** `resolve` gives the server of a config source; undefined: none that can be asked for names. @returns whether one is asked. */
  demand(demand: Demand, source: Json | undefined, resolve: ResolveStream, onAbsent: () => void): boolean {
    const type = demand.kind === 'host' ? VIRTUAL_HOST : CLUSTER;
    const stream = source === undefined ? undefined : resolve(source, type);
    if (stream === undefined) return false;
    this.#ask(stream, type, demand.kind === 'host' ? `${demand.routes}/${demand.host}` : demand.name, onAbsent);
    stream.start();
    return true;
  }

  #ask(stream: DemandStream, type: XdsType, name: string, onAbsent: () => void): void {
    const key = `${type.url} ${name}`;
    const open = this.#open.get(key);
    if (open !== undefined) {
      open.onAbsent.add(onAbsent);
      return;
    }
    if (this.#streams.size >= MAX_DEMANDED && !this.#streams.has(key)) {
      this.#onFull();
      onAbsent();
      return;
    }
    const timer = setTimeout(() => this.#absent(type, name), ANSWER_TIMEOUT_MS).unref();
    this.#open.set(key, { onAbsent: new Set([onAbsent]), timer });
    this.#streams.set(key, stream);
    stream.subscribe(type, name);
  }

  /** A push was taken over. */
  answered(type: XdsType, { resources }: Push, absent: Iterable<string>): void {
    if (this.#streams.size === 0) return;
    for (const { name, aliases = [] } of resources) {
      for (const there of [name, ...aliases]) {
        const key = `${type.url} ${there}`;
        clearTimeout(this.#open.get(key)?.timer);
        this.#open.delete(key);
      }
    }
    for (const name of absent) this.#absent(type, name);
  }

  stop(): void {
    for (const { timer } of this.#open.values()) clearTimeout(timer);
  }

  #absent(type: XdsType, name: string): void {
    const key = `${type.url} ${name}`;
    const open = this.#open.get(key);
    this.#open.delete(key);
    this.#streams.get(key)?.unsubscribe(type, name);
    this.#streams.delete(key);
    if (open === undefined) return;
    clearTimeout(open.timer);
    for (const tell of open.onAbsent) tell();
  }
}

/** A resource without content is one that does not exist, under any of its names. */
export function withoutEmpty(push: Push): Push {
  const isEmpty = ({ typeUrl, bytes }: PushedResource): boolean => typeUrl === '' && bytes.length === 0;
  const empty = push.isComplete ? [] : push.resources.filter(isEmpty);
  if (empty.length === 0) return push;
  return {
    ...push,
    resources: push.resources.filter((resource) => !isEmpty(resource)),
    removed: [...push.removed, ...empty.flatMap(({ name, aliases = [] }) => [name, ...aliases])],
  };
}
