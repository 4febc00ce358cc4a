/**
 * One message's way through the filters of one direction.
 *
 *   headers ──► slot 0 ──► slot 1 ──► … ──► sink
 *                 │ 'buffer': headers and body wait at this slot until its data hook answers 'continue',
 *                 │           the message ends, or the limit is passed (413 / 500)
 *                 │ promise : the same, and reading stops until it settles
 *                 └ 'stop'  : a local reply was sent; nothing goes further
 */
import type { Filter, FilterResult, FilterStatus } from './filter.ts';
import type { Headers, RequestHeaders, ResponseHeaders } from './headers.ts';
import type { MutableBody } from './body.ts';

/** A filter's place in a chain. */
export interface FilterSlot {
  readonly filter: Filter<unknown>;
  /** Configured name: key of per-route configuration. */
  readonly name: string;
  /** Its state's index in the stream's states. */
  readonly stateIndex: number;
  /** HttpFilter.disabled: off unless a route says otherwise. */
  readonly disabled: boolean;
}

/** The stream: receives what has passed, and is told of pauses and faults. */
export interface PassOwner {
  readonly states: readonly unknown[];
  /** The slot whose hook runs: `routeConfig()` answers for it. */
  currentSlot: FilterSlot | undefined;
  headersPassed(pass: FilterPass, endStream: boolean): void;
  /** `bytes` are borrowed. */
  dataPassed(pass: FilterPass, bytes: Buffer, endStream: boolean): void;
  trailersPassed(pass: FilterPass, trailers: Headers): void;
  readingPaused(pass: FilterPass, paused: boolean): void;
  hookFailed(pass: FilterPass, slot: FilterSlot, error: unknown): void;
  bufferFull(pass: FilterPass): void;
}

/** Filter hooks get the stream as their context; the pass needs to know no more of it. */
type AnyContext = Parameters<NonNullable<Filter<unknown>['decodeHeaders']>>[0];

const NONE = -1;

/** The stream's end: every filter of its chain is told, whatever another one throws. */
export function endFilters(
  slots: readonly FilterSlot[],
  stream: PassOwner & AnyContext,
  failed: (filter: string, error: unknown) => void,
): void {
  for (const slot of slots) {
    if (slot.filter.onDestroy === undefined) continue;
    stream.currentSlot = slot;
    try {
      slot.filter.onDestroy(stream, stream.states[slot.stateIndex]);
    } catch (error) {
      failed(slot.name, error);
    }
  }
}

export class FilterPass {
  readonly decoding: boolean;
  /** Whether the headers have reached the sink. */
  headersDone = false;
  headers: RequestHeaders | ResponseHeaders | undefined = undefined;
  readonly #owner: PassOwner;
  readonly #slots: readonly FilterSlot[];
  readonly #limitBytes: number;
  #headersEnd = false;
  /** Slot that holds the message; NONE: nobody. */
  #held = NONE;
  #headersHeld = false;
  #waiting = false;
  #stopped = false;
  #queue: Buffer[] | undefined = undefined;
  #queuedBytes = 0;
  #queuedEnd = false;
  #queuedTrailers: Headers | undefined = undefined;
  /** What came while somebody waited. */
  #late: { readonly from: number; readonly bytes: Buffer; readonly endStream: boolean }[] | undefined = undefined;
  #lateTrailers: Headers | undefined = undefined;

  /** `slots` in the order of this direction; `limitBytes`: what a holding filter may buffer. */
  constructor(owner: PassOwner, decoding: boolean, slots: readonly FilterSlot[], limitBytes: number) {
    this.#owner = owner;
    this.decoding = decoding;
    this.#slots = slots;
    this.#limitBytes = limitBytes;
  }

  /** Of the body, while it waits for a filter. */
  get heldBytes(): number {
    return this.#queuedBytes;
  }

  start(headers: RequestHeaders | ResponseHeaders, endStream: boolean): void {
    this.headers = headers;
    this.#headersEnd = endStream;
    this.#runHeaders(0);
  }

  data(bytes: Buffer, endStream: boolean): void {
    if (!this.#stopped) this.#runData(0, bytes, endStream);
  }

  trailers(trailers: Headers): void {
    if (!this.#stopped) this.#runTrailers(0, trailers);
  }

  /** Data made by a filter itself: goes on behind it. */
  inject(slot: FilterSlot, bytes: Buffer, endStream: boolean): void {
    if (!this.#stopped) this.#runData(this.#slots.indexOf(slot) + 1, bytes, endStream);
  }

  /** Nothing goes further: a local reply or a reset took over. */
  stop(): void {
    this.#stopped = true;
    this.#queue = undefined;
    this.#late = undefined;
  }

  get stopped(): boolean {
    return this.#stopped;
  }

  #runHeaders(from: number): void {
    const slots = this.#slots;
    const headers = this.headers as RequestHeaders & ResponseHeaders;
    for (let i = from; i < slots.length; i++) {
      const slot = slots[i] as FilterSlot;
      const { filter } = slot;
      if (this.decoding ? filter.decodeHeaders === undefined : filter.encodeHeaders === undefined) continue;
      let result: FilterResult;
      this.#owner.currentSlot = slot;
      try {
        const context = this.#owner as unknown as AnyContext;
        const state = this.#owner.states[slot.stateIndex];
        result = this.decoding
          ? (filter.decodeHeaders as NonNullable<typeof filter.decodeHeaders>)(
              context,
              headers,
              this.#headersEnd,
              state,
            )
          : (filter.encodeHeaders as NonNullable<typeof filter.encodeHeaders>)(
              context,
              headers,
              this.#headersEnd,
              state,
            );
      } catch (error) {
        this.#owner.hookFailed(this, slot, error);
        return;
      }
      if (this.#stopped) return;
      if (result === 'continue') continue;
      if (result === 'stop') return this.stop();
      // A filter that asks for the rest of a message without one has all of it.
      if (result === 'buffer' && this.#headersEnd) continue;
      this.#held = i;
      this.#headersHeld = true;
      if (result !== 'buffer') this.#wait(result);
      return;
    }
    this.headersDone = true;
    this.#owner.headersPassed(this, this.#headersEnd);
  }

  #runData(from: number, given: Buffer, endStream: boolean): void {
    // Nobody has seen it: it comes after what waits, from its own beginning.
    if (this.#waiting && from <= this.#held) return this.#enqueueLate(from, given, endStream);
    const slots = this.#slots;
    let bytes = given;
    for (let i = from; i < slots.length; i++) {
      const slot = slots[i] as FilterSlot;
      const { filter } = slot;
      let result: FilterResult = 'continue';
      if (this.decoding ? filter.decodeData !== undefined : filter.encodeData !== undefined) {
        this.#owner.currentSlot = slot;
        const body: MutableBody = { bytes };
        try {
          const context = this.#owner as unknown as AnyContext;
          const state = this.#owner.states[slot.stateIndex];
          result = this.decoding
            ? (filter.decodeData as NonNullable<typeof filter.decodeData>)(context, body, endStream, state)
            : (filter.encodeData as NonNullable<typeof filter.encodeData>)(context, body, endStream, state);
        } catch (error) {
          this.#owner.hookFailed(this, slot, error);
          return;
        }
        bytes = body.bytes;
      } else if (i === this.#held) result = 'buffer';
      if (this.#stopped) return;
      if (result === 'stop') return this.stop();
      if (result === 'continue' && i !== this.#held) continue;
      this.#held = i;
      this.#enqueue(bytes, endStream);
      if (this.#stopped) return;
      if (result === 'continue' || (result === 'buffer' && endStream)) this.#release();
      else if (result !== 'buffer') this.#wait(result);
      return;
    }
    this.#owner.dataPassed(this, bytes, endStream);
  }

  #runTrailers(from: number, trailers: Headers): void {
    if (this.#waiting) {
      this.#lateTrailers = trailers;
      return;
    }
    const slots = this.#slots;
    for (let i = from; i < slots.length; i++) {
      const slot = slots[i] as FilterSlot;
      const { filter } = slot;
      let result: FilterResult = 'continue';
      if (this.decoding ? filter.decodeTrailers !== undefined : filter.encodeTrailers !== undefined) {
        this.#owner.currentSlot = slot;
        try {
          const context = this.#owner as unknown as AnyContext;
          const state = this.#owner.states[slot.stateIndex];
          result = this.decoding
            ? (filter.decodeTrailers as NonNullable<typeof filter.decodeTrailers>)(context, trailers, state)
            : (filter.encodeTrailers as NonNullable<typeof filter.encodeTrailers>)(context, trailers, state);
        } catch (error) {
          this.#owner.hookFailed(this, slot, error);
          return;
        }
      }
      if (this.#stopped) return;
      if (result === 'stop') return this.stop();
      if (result instanceof Promise) {
        this.#held = i;
        this.#queuedTrailers = trailers;
        return this.#wait(result);
      }
      // Nothing comes after trailers: whoever held the message lets go now.
      if (i === this.#held) {
        this.#queuedTrailers = trailers;
        return this.#release();
      }
    }
    this.#owner.trailersPassed(this, trailers);
  }

  #enqueue(bytes: Buffer, endStream: boolean): void {
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > this.#limitBytes) {
      this.stop();
      this.#owner.bufferFull(this);
      return;
    }
    this.#queue ??= [];
    // Kept beyond the hook: copied.
    if (bytes.length > 0) this.#queue.push(Buffer.from(bytes));
    if (endStream) this.#queuedEnd = true;
  }

  #enqueueLate(from: number, bytes: Buffer, endStream: boolean): void {
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > this.#limitBytes) {
      this.stop();
      this.#owner.bufferFull(this);
      return;
    }
    this.#late ??= [];
    this.#late.push({ from, bytes: Buffer.from(bytes), endStream });
  }

  #wait(promise: Promise<FilterStatus>): void {
    this.#waiting = true;
    this.#owner.readingPaused(this, true);
    const slot = this.#slots[this.#held] as FilterSlot;
    promise.then(
      (status) => {
        this.#waiting = false;
        if (this.#stopped) return;
        this.#owner.readingPaused(this, false);
        if (status === 'stop') this.stop();
        else if (status === 'continue' || this.#headersEnd || this.#queuedEnd || this.#queuedTrailers !== undefined) {
          this.#release();
        } else this.#runLate();
      },
      (error: unknown) => {
        this.#waiting = false;
        if (!this.#stopped) this.#owner.hookFailed(this, slot, error);
      },
    );
  }

  /** Lets go of what is held: headers, body and trailers go on behind the holding slot, in order. */
  #release(): void {
    const next = this.#held + 1;
    const queue = this.#queue;
    const ended = this.#queuedEnd;
    const trailers = this.#queuedTrailers;
    this.#held = NONE;
    this.#queue = undefined;
    this.#queuedBytes = 0;
    this.#queuedEnd = false;
    this.#queuedTrailers = undefined;
    if (this.#headersHeld) {
      this.#headersHeld = false;
      this.#runHeaders(next);
    }
    if (queue !== undefined) {
      for (let i = 0; i < queue.length && !this.#stopped; i++) {
        this.#runData(next, queue[i] as Buffer, ended && i === queue.length - 1);
      }
      if (ended && queue.length === 0 && !this.#stopped) this.#runData(next, EMPTY, true);
    }
    if (trailers !== undefined && !this.#stopped) this.#runTrailers(next, trailers);
    this.#runLate();
  }

  #runLate(): void {
    const late = this.#late;
    const trailers = this.#lateTrailers;
    if (this.#waiting || (late === undefined && trailers === undefined)) return;
    this.#late = undefined;
    this.#lateTrailers = undefined;
    // Whoever holds the message or waits again takes the rest in its turn.
    for (let i = 0; late !== undefined && i < late.length && !this.#stopped; i++) {
      const { from, bytes, endStream } = late[i] as (typeof late)[number];
      this.#runData(from, bytes, endStream);
    }
    if (trailers !== undefined && !this.#stopped) this.#runTrailers(0, trailers);
  }
}

const EMPTY = Buffer.alloc(0);
