/** What a stream has asked for and been given of one type, and the requests that follow. Source: Envoy docs "xDS protocol". */
import type { Json } from '../resources.ts';
import type { XdsType } from './resource_types.ts';

/** google.rpc.Code INVALID_ARGUMENT: Envoy's code for a push that it refuses. */
const INVALID_ARGUMENT = 3;
/** A NACK's text; the rest is in the log. */
const MAX_DETAIL_CHARS = 4096;

export interface Subscription {
  readonly type: XdsType;
  readonly names: ReadonlySet<string>;
  /** Everything there is of a type. */
  addAll(): void;
  add(name: string): void;
  remove(name: string): void;
  /** The first request of a new stream; undefined: there is nothing to ask for. */
  first(): Json | undefined;
  /** What names have come and gone since the last request; undefined: none. */
  changes(): Json | undefined;
  /** Answers a push. */
  answer(nonce: string, version: string, errors: readonly string[]): Json;
  /** A resource was taken over in this version. */
  accepted(name: string, version: string): void;
  gone(name: string): void;
}

function errorDetail(errors: readonly string[]): Json {
  if (errors.length === 0) return {};
  const text = errors.join('\n');
  const message = text.length > MAX_DETAIL_CHARS ? `${text.slice(0, MAX_DETAIL_CHARS - 1)}…` : text;
  return { error_detail: { code: INVALID_ARGUMENT, message } };
}

export class DeltaSubscription implements Subscription {
  readonly type: XdsType;
  readonly names = new Set<string>();
  /** What the server has been told. */
  readonly #told = new Set<string>();
  readonly #unsettled = new Set<string>();
  readonly #versions = new Map<string, string>();
  /** Everything there is, beside what is named. */
  #wantsAll = false;

  constructor(type: XdsType) {
    this.type = type;
  }

  addAll(): void {
    this.#wantsAll = true;
  }

  add(name: string): void {
    this.names.add(name);
    this.#unsettled.add(name);
  }

  remove(name: string): void {
    this.names.delete(name);
    this.#versions.delete(name);
    this.#unsettled.add(name);
  }

  first(): Json | undefined {
    this.#told.clear();
    this.#unsettled.clear();
    if (this.names.size === 0 && !this.#wantsAll) return undefined;
    for (const name of this.names) this.#told.add(name);
    // Nothing named stands for everything; beside names it has one of its own.
    const all = this.#wantsAll && this.names.size > 0 ? ['*'] : [];
    return {
      type_url: this.type.url,
      resource_names_subscribe: [...all, ...this.names],
      ...(this.#versions.size > 0 && { initial_resource_versions: Object.fromEntries(this.#versions) }),
    };
  }

  changes(): Json | undefined {
    const subscribe: string[] = [];
    const unsubscribe: string[] = [];
    for (const name of this.#unsettled) {
      const isWanted = this.names.has(name);
      if (isWanted === this.#told.has(name)) {
        // Let go and wanted again in between: what the server gave is forgotten, so it is asked for anew.
        if (isWanted && !this.#versions.has(name)) subscribe.push(name);
        continue;
      }
      (isWanted ? subscribe : unsubscribe).push(name);
      if (isWanted) this.#told.add(name);
      else this.#told.delete(name);
    }
    this.#unsettled.clear();
    if (subscribe.length === 0 && unsubscribe.length === 0) return undefined;
    return {
      type_url: this.type.url,
      ...(subscribe.length > 0 && { resource_names_subscribe: subscribe }),
      ...(unsubscribe.length > 0 && { resource_names_unsubscribe: unsubscribe }),
    };
  }

  answer(nonce: string, _version: string, errors: readonly string[]): Json {
    return { type_url: this.type.url, response_nonce: nonce, ...errorDetail(errors) };
  }

  accepted(name: string, version: string): void {
    this.#versions.set(name, version);
  }

  gone(name: string): void {
    this.#versions.delete(name);
  }
}

export class SotwSubscription implements Subscription {
  readonly type: XdsType;
  readonly names = new Set<string>();
  #version = '';
  #nonce = '';
  #isChanged = false;

  constructor(type: XdsType) {
    this.type = type;
  }

  addAll(): void {}

  add(name: string): void {
    this.names.add(name);
    this.#isChanged = true;
  }

  remove(name: string): void {
    this.names.delete(name);
    this.#isChanged = true;
  }

  first(): Json | undefined {
    this.#nonce = '';
    this.#isChanged = false;
    if (this.names.size === 0 && !this.type.isWildcard) return undefined;
    return this.#request();
  }

  changes(): Json | undefined {
    if (!this.#isChanged) return undefined;
    this.#isChanged = false;
    return this.#request();
  }

  answer(nonce: string, version: string, errors: readonly string[]): Json {
    this.#nonce = nonce;
    if (errors.length === 0) this.#version = version;
    this.#isChanged = false;
    return { ...this.#request(), ...errorDetail(errors) };
  }

  accepted(): void {}

  gone(): void {}

  #request(): Json {
    return {
      type_url: this.type.url,
      version_info: this.#version,
      resource_names: [...this.names],
      ...(this.#nonce !== '' && { response_nonce: this.#nonce }),
    };
  }
}
