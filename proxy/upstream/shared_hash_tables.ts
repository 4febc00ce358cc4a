/**
 * Tables of consistent hashing on a data thread: asked of the control thread, which has each built once for all threads.
 * What a table is made of is its name, so that its indices always fit the hosts of whoever wanted it.
 */
import { buildHashTable, type HashTable, type HashTableSpec } from '../load_balancers/hash_table.ts';
import type { HashTables, WantedTable } from '../load_balancers/hash_tables.ts';

/** To the control thread. `wanted` is answered by `arrived`. */
export interface HashTableRequests {
  wanted(id: number, spec: string): void;
  /** No balancer of this thread has it any more. */
  letGo(id: number): void;
}

export class SharedHashTables implements HashTables {
  readonly #requests: HashTableRequests;
  /** By specification. */
  readonly #wanted = new Map<string, WeakRef<SharedTable>>();
  readonly #waiting = new Map<number, SharedTable>();
  readonly #forgotten = new FinalizationRegistry<{ readonly id: number; readonly spec: string }>(({ id, spec }) => {
    this.#requests.letGo(id);
    if (this.#wanted.get(spec)?.deref() === undefined) this.#wanted.delete(spec);
  });
  #nextId = 1;

  constructor(requests: HashTableRequests) {
    this.#requests = requests;
  }

  want(spec: HashTableSpec): WantedTable {
    const text = JSON.stringify(spec);
    const known = this.#wanted.get(text)?.deref();
    if (known !== undefined) return known;
    const id = this.#nextId++;
    const table = new SharedTable(spec);
    this.#wanted.set(text, new WeakRef(table));
    this.#waiting.set(id, table);
    this.#forgotten.register(table, { id, spec: text });
    this.#requests.wanted(id, text);
    return table;
  }

  /** undefined: it could not be built; whoever needs it builds it. */
  arrived(id: number, memory: SharedArrayBuffer | undefined): void {
    this.#waiting.get(id)?.arrived(memory === undefined ? undefined : new Uint32Array(memory));
    this.#waiting.delete(id);
  }
}

class SharedTable implements WantedTable {
  readonly #spec: HashTableSpec;
  readonly #waited = Promise.withResolvers<void>();
  #ready: Promise<void> | undefined = this.#waited.promise;
  #table: HashTable | undefined = undefined;

  constructor(spec: HashTableSpec) {
    this.#spec = spec;
  }

  get ready(): Promise<void> | undefined {
    return this.#ready;
  }

  now(): HashTable {
    this.#table ??= buildHashTable(this.#spec);
    return this.#table;
  }

  arrived(table: HashTable | undefined): void {
    this.#table = table ?? this.#table;
    this.#ready = undefined;
    this.#waited.resolve();
  }
}
