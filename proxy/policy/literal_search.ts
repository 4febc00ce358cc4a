/**
 * Finds which of many literals a text holds, in one pass over it (Aho and Corasick, 1975). Transitions lie in one open
 * hash table, so that memory goes with the literals' length and not with the alphabet: 24 bytes or so a character.
 *
 *   table: [state, code unit, next state] × slots; a state is a prefix of a literal, 0 the empty one.
 *   fail[state]: the longest proper suffix of it that is a prefix too; hit[state]: the next one of those that is a literal.
 */
export class LiteralSearch<T> {
  readonly #table: Int32Array;
  readonly #mask: number;
  readonly #fail: Int32Array;
  /** The nearest state, itself or along `fail`, that is a literal; 0: none. */
  readonly #hit: Int32Array;
  readonly #values: (T | undefined)[];
  /** By state: the search that saw it last, so that none is reported twice. */
  readonly #seen: Uint32Array;
  #search = 0;

  /** None of the literals is empty. */
  constructor(literals: ReadonlyMap<string, T>) {
    let characters = 1;
    for (const literal of literals.keys()) characters += literal.length;
    let slots = 4;
    while (slots < characters * 2) slots *= 2;
    this.#mask = slots - 1;
    this.#table = new Int32Array(slots * 3).fill(-1);
    const parents = new Int32Array(characters);
    const codes = new Uint16Array(characters);
    this.#values = [undefined];
    let states = 1;
    for (const [literal, value] of literals) {
      let state = 0;
      for (let i = 0; i < literal.length; i++) {
        const code = literal.charCodeAt(i);
        let next = this.#next(state, code);
        if (next < 0) {
          next = states++;
          parents[next] = state;
          codes[next] = code;
          this.#values.push(undefined);
          this.#add(state, code, next);
        }
        state = next;
      }
      this.#values[state] = value;
    }
    this.#fail = new Int32Array(states);
    this.#hit = new Int32Array(states);
    this.#seen = new Uint32Array(states);
    for (const state of byDepth(parents, states)) this.#link(state, parents[state] as number, codes[state] as number);
  }

  /** Calls `found` with the value of each literal in `text`, once each; `carry` goes from call to call. */
  each<C>(text: string, found: (value: T, carry: C) => C, carry: C): C {
    let result = carry;
    if (++this.#search > 0xffffffff) {
      this.#seen.fill(0);
      this.#search = 1;
    }
    const search = this.#search;
    const seen = this.#seen;
    let state = 0;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      let next = this.#next(state, code);
      while (next < 0 && state !== 0) {
        state = this.#fail[state] as number;
        next = this.#next(state, code);
      }
      state = Math.max(next, 0);
      // What lies behind a literal that was seen was seen with it.
      for (let hit = this.#hit[state] as number; hit !== 0 && seen[hit] !== search; ) {
        seen[hit] = search;
        result = found(this.#values[hit] as T, result);
        hit = this.#hit[this.#fail[hit] as number] as number;
      }
    }
    return result;
  }

  #link(state: number, parent: number, code: number): void {
    let fail = 0;
    if (parent !== 0) {
      let from = this.#fail[parent] as number;
      let next = this.#next(from, code);
      while (next < 0 && from !== 0) {
        from = this.#fail[from] as number;
        next = this.#next(from, code);
      }
      fail = Math.max(next, 0);
    }
    this.#fail[state] = fail;
    this.#hit[state] = this.#values[state] === undefined ? (this.#hit[fail] as number) : state;
  }

  #next(state: number, code: number): number {
    const table = this.#table;
    let slot = (Math.imul(state, 0x9e3779b1) ^ Math.imul(code, 0x85ebca6b)) >>> 7;
    for (; ; slot++) {
      const at = (slot & this.#mask) * 3;
      const from = table[at] as number;
      if (from < 0) return -1;
      if (from === state && table[at + 1] === code) return table[at + 2] as number;
    }
  }

  #add(state: number, code: number, next: number): void {
    const table = this.#table;
    let slot = (Math.imul(state, 0x9e3779b1) ^ Math.imul(code, 0x85ebca6b)) >>> 7;
    while ((table[(slot & this.#mask) * 3] as number) >= 0) slot++;
    const at = (slot & this.#mask) * 3;
    table[at] = state;
    table[at + 1] = code;
    table[at + 2] = next;
  }
}

/** Parents come before children in number, but links need the shallow ones first. */
function byDepth(parents: Int32Array, states: number): number[] {
  const depth = new Int32Array(states);
  const order: number[] = [];
  for (let state = 1; state < states; state++) {
    depth[state] = (depth[parents[state] as number] as number) + 1;
    order.push(state);
  }
  return order.sort((a, b) => (depth[a] as number) - (depth[b] as number));
}
