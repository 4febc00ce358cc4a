/**
 * What is configured: accepted, waiting for what it names, served. Knows no thread, socket or source.
 *
 *            accept                    all it names is there, or the wait is over
 *   source ─────────► warming ───────────────────────────────────────────────────► active ──► gone
 *              │                                                                     ▲
 *              └───────────── it names nothing that is missing ──────────────────────┘
 *
 * While a new version warms, the one before it is served. Source: Envoy docs "Cluster warming", "Listener warming".
 */
import type { Dependency, Json, Resource, ResourceKey, ResourceType } from '../config/resources.ts';
import { HeldResource } from './held_resource.ts';

export interface Accepted {
  readonly resource: Resource;
  readonly dependencies: readonly Dependency[];
}

/** A version that was refused; the last good one, if there is one, goes on. */
export interface FailedVersion extends ResourceKey {
  readonly version: string;
  readonly details: string;
  /** Epoch ms. */
  readonly failedMs: number;
  readonly json: Json | undefined;
}

export interface Surroundings {
  /** To be served from now on. `before`: what it replaces. */
  serve(resource: HeldResource, before: HeldResource | undefined): void;
  drop(resource: HeldResource): void;
  /** @returns whether somebody will give it. */
  subscribe(dependency: Dependency): boolean;
  unsubscribe(dependency: Dependency): void;
  /** @returns what calls it off. */
  setTimer(delayMs: number, callback: () => void): () => void;
  /** A dependency did not come in time. */
  onFetchTimeout(dependency: Dependency): void;
  nowMs(): number;
}

interface Warming {
  readonly resource: HeldResource;
  /** Keys of what is missing. */
  readonly missing: Set<string>;
}

interface Entry {
  owner: number;
  active: HeldResource | undefined;
  warming: Warming | undefined;
}

/** What at least one resource names. */
interface Wanted {
  readonly dependency: Dependency;
  users: number;
  /** Whether a source gives it. */
  readonly isTaken: boolean;
  /** It did not come in time, or its source says that there is none. */
  isAbsent: boolean;
  cancelTimer: () => void;
  /** Keys of what warms for it. */
  readonly waiting: Set<string>;
}

export const keyOf = ({ type, name }: ResourceKey): string => `${type} ${name}`;

export class ConfigurationState {
  readonly #surroundings: Surroundings;
  readonly #entries = new Map<string, Entry>();
  readonly #byOwner = new Map<number, Set<string>>();
  readonly #wanted = new Map<string, Wanted>();
  readonly #failed = new Map<string, FailedVersion>();
  readonly #activeCounts = new Map<ResourceType, number>();
  readonly #warming = new Map<string, Warming>();
  readonly #warmingCounts = new Map<ResourceType, number>();

  constructor(surroundings: Surroundings) {
    this.#surroundings = surroundings;
  }

  get warmingCount(): number {
    return this.#warming.size;
  }

  warmingCountOf(type: ResourceType): number {
    return this.#warmingCounts.get(type) ?? 0;
  }

  activeCount(type: ResourceType): number {
    return this.#activeCounts.get(type) ?? 0;
  }

  *active(): Generator<HeldResource> {
    for (const { active } of this.#entries.values()) if (active !== undefined) yield active;
  }

  *warming(): Generator<HeldResource> {
    for (const { resource } of this.#warming.values()) yield resource;
  }

  failed(): Iterable<FailedVersion> {
    return this.#failed.values();
  }

  get(key: ResourceKey): HeldResource | undefined {
    return this.#entries.get(keyOf(key))?.active;
  }

  /** The newest that was accepted, served or not. */
  newestVersion(key: ResourceKey): string | undefined {
    const entry = this.#entries.get(keyOf(key));
    return entry?.warming?.resource.version ?? entry?.active?.version;
  }

  /** @returns who gave it. */
  ownerOf(key: ResourceKey): number | undefined {
    return this.#entries.get(keyOf(key))?.owner;
  }

  ownedBy(owner: number): ReadonlySet<string> {
    return this.#byOwner.get(owner) ?? new Set();
  }

  accept(owner: number, { resource, dependencies }: Accepted): void {
    const key = keyOf(resource);
    this.#failed.delete(key);
    const entry = this.#entries.get(key) ?? { owner, active: undefined, warming: undefined };
    this.#own(key, entry, owner);
    this.#entries.set(key, entry);
    const held = new HeldResource(resource, dependencies, this.#surroundings.nowMs());
    // What both versions name is never let go in between.
    for (const dependency of dependencies) this.#use(dependency);
    this.#stopWarming(key, entry);
    const missing = new Set<string>();
    for (const dependency of dependencies) {
      const wanted = this.#wanted.get(keyOf(dependency));
      if (wanted === undefined || !this.#isMissing(dependency, wanted)) continue;
      missing.add(keyOf(dependency));
      wanted.waiting.add(key);
    }
    if (missing.size === 0) this.#activate(key, entry, held);
    else {
      entry.warming = { resource: held, missing };
      this.#setWarming(key, entry.warming);
    }
  }

  refuse(failed: FailedVersion): void {
    this.#failed.set(keyOf(failed), failed);
  }

  /**
   * Gone, or known not to be. What a served resource still names goes only with that: a control plane that forgets a
   * route configuration takes no traffic down.
   */
  remove(gone: ResourceKey): void {
    const key = keyOf(gone);
    this.#failed.delete(key);
    if (this.#wanted.get(key)?.isTaken === true) return this.#stopWaitingFor(key);
    const entry = this.#entries.get(key);
    if (entry !== undefined) {
      this.#entries.delete(key);
      this.#byOwner.get(entry.owner)?.delete(key);
      this.#stopWarming(key, entry);
      if (entry.active !== undefined) {
        this.#count(gone.type, -1);
        this.#surroundings.drop(entry.active);
        this.#release(entry.active, key);
      }
    }
  }

  #own(key: string, entry: Entry, owner: number): void {
    if (entry.owner !== owner) this.#byOwner.get(entry.owner)?.delete(key);
    entry.owner = owner;
    const owned = this.#byOwner.get(owner) ?? new Set();
    owned.add(key);
    this.#byOwner.set(owner, owned);
  }

  #activate(key: string, entry: Entry, held: HeldResource): void {
    const before = entry.active;
    entry.active = held;
    if (before === undefined) this.#count(held.type, 1);
    this.#surroundings.serve(held, before);
    if (before !== undefined) this.#release(before, key);
    this.#stopWaitingFor(key);
  }

  #use(dependency: Dependency): void {
    const key = keyOf(dependency);
    let wanted = this.#wanted.get(key);
    if (wanted === undefined) {
      const isTaken = this.#surroundings.subscribe(dependency);
      wanted = { dependency, users: 0, isTaken, isAbsent: false, cancelTimer: () => {}, waiting: new Set() };
      this.#wanted.set(key, wanted);
      if (isTaken && dependency.initialFetchTimeoutMs > 0 && this.#isMissing(dependency, wanted)) {
        wanted.cancelTimer = this.#surroundings.setTimer(dependency.initialFetchTimeoutMs, () => {
          this.#surroundings.onFetchTimeout(dependency);
          this.#stopWaitingFor(key);
        });
      }
    }
    wanted.users++;
  }

  /** Nobody waits for what is there, for what is known not to be, and for what nobody gives. */
  #isMissing(dependency: Dependency, { isTaken, isAbsent }: Wanted): boolean {
    if (!isTaken || isAbsent || dependency.withoutWarming === true) return false;
    return this.#entries.get(keyOf(dependency))?.active === undefined;
  }

  #release({ dependencies }: HeldResource, user: string): void {
    for (const dependency of dependencies) {
      const key = keyOf(dependency);
      const wanted = this.#wanted.get(key);
      if (wanted === undefined) continue;
      wanted.users--;
      if (wanted.users > 0) continue;
      wanted.cancelTimer();
      wanted.waiting.delete(user);
      this.#wanted.delete(key);
      if (!wanted.isTaken) continue;
      this.#surroundings.unsubscribe(wanted.dependency);
      this.remove(dependency);
    }
  }

  #stopWarming(key: string, entry: Entry): void {
    const { warming } = entry;
    if (warming === undefined) return;
    entry.warming = undefined;
    this.#setWarming(key, undefined);
    for (const missing of warming.missing) this.#wanted.get(missing)?.waiting.delete(key);
    this.#release(warming.resource, key);
  }

  /** It is there, or will not come: whoever warms for nothing else is served. */
  #stopWaitingFor(key: string): void {
    const wanted = this.#wanted.get(key);
    if (wanted === undefined) return;
    wanted.cancelTimer();
    wanted.cancelTimer = () => {};
    wanted.isAbsent = this.#entries.get(key)?.active === undefined;
    const waiting = [...wanted.waiting];
    wanted.waiting.clear();
    for (const user of waiting) {
      const entry = this.#entries.get(user);
      const warming = entry?.warming;
      if (entry === undefined || warming === undefined) continue;
      warming.missing.delete(key);
      if (warming.missing.size > 0) continue;
      entry.warming = undefined;
      this.#setWarming(user, undefined);
      this.#activate(user, entry, warming.resource);
    }
  }

  #setWarming(key: string, warming: Warming | undefined): void {
    const before = this.#warming.get(key)?.resource.type;
    const now = warming?.resource.type;
    if (before !== undefined) this.#warmingCounts.set(before, this.warmingCountOf(before) - 1);
    if (now !== undefined) this.#warmingCounts.set(now, this.warmingCountOf(now) + 1);
    if (warming === undefined) this.#warming.delete(key);
    else this.#warming.set(key, warming);
  }

  #count(type: ResourceType, by: number): void {
    this.#activeCounts.set(type, this.activeCount(type) + by);
  }
}

/** A key's parts; names may hold spaces. */
export function parseKey(key: string): ResourceKey {
  const space = key.indexOf(' ');
  return { type: key.slice(0, space) as ResourceKey['type'], name: key.slice(space + 1) };
}
