/**
 * The streams in progress on a connection, as a linked list: one that leaves takes its links along. (A Set's old tables,
 * promoted by the collector, would keep dead streams alive until a full collection.)
 */

export interface Linked<T> {
  previousOpen: T | undefined;
  nextOpen: T | undefined;
}

export class OpenStreams<T extends Linked<T>> {
  size = 0;
  #first: T | undefined = undefined;

  add(stream: T): void {
    const first = this.#first;
    stream.nextOpen = first;
    if (first !== undefined) first.previousOpen = stream;
    this.#first = stream;
    this.size++;
  }

  /** `stream` is one of them. */
  delete(stream: T): void {
    const { previousOpen, nextOpen } = stream;
    if (previousOpen === undefined) this.#first = nextOpen;
    else previousOpen.nextOpen = nextOpen;
    if (nextOpen !== undefined) nextOpen.previousOpen = previousOpen;
    stream.previousOpen = undefined;
    stream.nextOpen = undefined;
    this.size--;
  }

  /** A list of its own: streams may come and go while it is walked. */
  all(): T[] {
    const list: T[] = [];
    for (let stream = this.#first; stream !== undefined; stream = stream.nextOpen) list.push(stream);
    return list;
  }
}
