/** What a start waits for of a control plane: the first push of types, each for a while. */
import type { XdsType } from './resource_types.ts';

export interface StartEvents {
  /** It did not come in time. `name` '': everything of the type. */
  onTimeout(type: XdsType, name: string, timeoutMs: number): void;
  /** Nothing of the type is awaited any more. */
  onGiven(type: XdsType): void;
  /** Nothing at all. */
  onAll(): void;
}

interface Awaited {
  readonly type: XdsType;
  readonly name: string;
  isGiven: boolean;
  timer: NodeJS.Timeout | undefined;
}

export class StartOrder {
  readonly #events: StartEvents;
  readonly #awaited: Awaited[] = [];

  constructor(events: StartEvents) {
    this.#events = events;
  }

  get isEmpty(): boolean {
    return this.#awaited.length === 0;
  }

  /** @param timeoutMs 0: for ever */
  await(type: XdsType, name: string, timeoutMs: number): void {
    const awaited: Awaited = { type, name, isGiven: false, timer: undefined };
    if (timeoutMs > 0) {
      awaited.timer = setTimeout(() => {
        this.#events.onTimeout(type, name, timeoutMs);
        this.given(type, (waiting) => waiting === name);
      }, timeoutMs).unref();
    }
    this.#awaited.push(awaited);
  }

  isAwaited(type: XdsType): boolean {
    return this.#awaited.some((entry) => entry.type === type && !entry.isGiven);
  }

  /** A push was dealt with, good or bad, or nobody will push. */
  given(type: XdsType, isMeant: (name: string) => boolean): void {
    let isNews = false;
    for (const awaited of this.#awaited) {
      if (awaited.type !== type || awaited.isGiven || !isMeant(awaited.name)) continue;
      awaited.isGiven = true;
      clearTimeout(awaited.timer);
      isNews = true;
    }
    if (!isNews) return;
    if (!this.isAwaited(type)) this.#events.onGiven(type);
    if (this.#awaited.every(({ isGiven }) => isGiven)) this.#events.onAll();
  }

  stop(): void {
    for (const { timer } of this.#awaited) clearTimeout(timer);
  }
}
