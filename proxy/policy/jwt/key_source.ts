/** A provider's keys: inline, or fetched from a cluster and kept for a while. */
import { KeySet } from './key_set.ts';
import type { RemoteKeys } from './provider.ts';

/** Answers the text of a key set. @throws with a sentence that says what failed */
export type FetchKeys = (remote: RemoteKeys) => Promise<string>;

export interface KeySource {
  /** undefined: they could not be had. */
  keys(): KeySet | undefined | Promise<KeySet | undefined>;
}

export class RemoteKeySource implements KeySource {
  readonly #remote: RemoteKeys;
  readonly #fetch: FetchKeys;
  readonly #nowMs: () => number;
  readonly #onChange: () => void;
  readonly #onResult: (error: unknown) => void;
  #current: KeySet | undefined = undefined;
  #text = '';
  #freshUntilMs = Number.NEGATIVE_INFINITY;
  #retryAtMs = Number.NEGATIVE_INFINITY;
  #pending: Promise<KeySet | undefined> | undefined = undefined;

  /** `onChange`: the keys are others than before. `onResult`: after each fetch; undefined is success. */
  constructor(
    remote: RemoteKeys,
    fetch: FetchKeys,
    nowMs: () => number,
    onChange: () => void,
    onResult: (error: unknown) => void,
  ) {
    this.#remote = remote;
    this.#fetch = fetch;
    this.#nowMs = nowMs;
    this.#onChange = onChange;
    this.#onResult = onResult;
  }

  keys(): KeySet | undefined | Promise<KeySet | undefined> {
    const now = this.#nowMs();
    if (now < this.#freshUntilMs) return this.#current;
    // A server that is down is not asked by every request.
    if (now < this.#retryAtMs) return this.#current;
    const fetched = this.#start();
    // Renewed behind the requests' back: what is known serves meanwhile.
    return this.#remote.ahead && this.#current !== undefined ? this.#current : fetched;
  }

  #start(): Promise<KeySet | undefined> {
    this.#pending ??= this.#fetchOnce().finally(() => {
      this.#pending = undefined;
    });
    return this.#pending;
  }

  async #fetchOnce(): Promise<KeySet | undefined> {
    try {
      const text = await this.#fetch(this.#remote);
      const keys = KeySet.parse(text);
      if (keys === undefined) throw new Error(`${this.#remote.uri} answered no JSON Web Key Set`);
      if (text !== this.#text) {
        this.#text = text;
        this.#current = keys;
        this.#onChange();
      }
      this.#freshUntilMs = this.#nowMs() + this.#remote.cacheMs;
      this.#onResult(undefined);
    } catch (error) {
      this.#retryAtMs = this.#nowMs() + this.#remote.refetchAfterMs;
      this.#onResult(error);
    }
    return this.#current;
  }
}
