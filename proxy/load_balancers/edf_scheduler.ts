/** Earliest deadline first: weighted turns, smooth over time. Source: Envoy source/common/upstream/edf_scheduler.h. */

interface Entry {
  readonly index: number;
  deadline: number;
  readonly order: number;
}

/** A binary heap over fixed entries; picking costs O(log n) and allocates nothing. */
export class EdfScheduler {
  readonly #heap: Entry[] = [];
  readonly #weights: readonly number[];

  /** `offset`: in [0, 1), where in the cycle to begin, so that threads do not all begin with the same host. */
  constructor(weights: readonly number[], offset: number) {
    this.#weights = weights;
    weights.forEach((weight, index) => {
      this.#heap.push({ index, deadline: 1 / weight, order: index });
    });
    this.#heap.sort((a, b) => a.deadline - b.deadline || a.order - b.order);
    const turns = Math.floor(offset * weights.length);
    for (let i = 0; i < turns; i++) this.next();
  }

  /** @returns the index whose turn it is. */
  next(): number {
    const top = this.#heap[0] as Entry;
    top.deadline += 1 / (this.#weights[top.index] as number);
    this.#sink();
    return top.index;
  }

  #sink(): void {
    const heap = this.#heap;
    const moved = heap[0] as Entry;
    let at = 0;
    for (;;) {
      let child = at * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && before(heap[child + 1] as Entry, heap[child] as Entry)) child++;
      if (!before(heap[child] as Entry, moved)) break;
      heap[at] = heap[child] as Entry;
      at = child;
    }
    heap[at] = moved;
  }
}

function before(a: Entry, b: Entry): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.order < b.order);
}
