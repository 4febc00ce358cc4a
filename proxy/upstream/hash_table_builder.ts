/**
 * Builds the tables of consistent hashing for all data threads, each once: small ones on the control thread, the others
 * on a thread that lives only as long as there is something to build. A table stays while a data thread has it.
 */
import { Worker } from 'node:worker_threads';
import { buildHashTable, costOf, type HashTableSpec } from '../load_balancers/hash_table.ts';
import type { Gauge, Statistics } from '../telemetry/statistics.ts';
import type { BuiltTable } from './hash_table_worker.ts';

/** In steps of about 0.2 µs: what costs more would keep the control thread from its work. */
const SMALL = 10_000;
const IDLE_MS = 10_000;

interface Entry {
  readonly spec: string;
  memory: SharedArrayBuffer | undefined;
  /** Threads that wait for it. */
  waiting: ((memory: SharedArrayBuffer | undefined) => void)[];
  users: number;
}

export class HashTableBuilder {
  readonly #tables = new Map<string, Entry>();
  /** By thread, by the number that it gave. */
  readonly #held = new Map<object, Map<number, Entry>>();
  readonly #count: Gauge;
  readonly #bytes: Gauge;
  #worker: Worker | undefined = undefined;
  readonly #ordered = new Map<string, Entry>();
  #idle: NodeJS.Timeout | undefined = undefined;

  constructor(statistics: Statistics) {
    this.#count = statistics.gauge('server.hash_tables');
    this.#bytes = statistics.gauge('server.hash_tables_bytes');
  }

  /** `thread`: stands for it until it is forgotten. */
  wanted(thread: object, id: number, spec: string, answer: (memory: SharedArrayBuffer | undefined) => void): void {
    let entry = this.#tables.get(spec);
    if (entry === undefined) {
      entry = { spec, memory: undefined, waiting: [], users: 0 };
      this.#tables.set(spec, entry);
      this.#build(entry);
    }
    entry.users++;
    let held = this.#held.get(thread);
    if (held === undefined) {
      held = new Map();
      this.#held.set(thread, held);
    }
    held.set(id, entry);
    if (entry.memory === undefined) entry.waiting.push(answer);
    else answer(entry.memory);
  }

  letGo(thread: object, id: number): void {
    const entry = this.#held.get(thread)?.get(id);
    if (entry === undefined) return;
    this.#held.get(thread)?.delete(id);
    this.#released(entry);
  }

  /** The thread has died. */
  forget(thread: object): void {
    for (const entry of this.#held.get(thread)?.values() ?? []) this.#released(entry);
    this.#held.delete(thread);
  }

  async stop(): Promise<void> {
    clearTimeout(this.#idle);
    await this.#worker?.terminate();
  }

  #released(entry: Entry): void {
    if (--entry.users > 0) return;
    this.#tables.delete(entry.spec);
    this.#measure();
  }

  #build(entry: Entry): void {
    const spec = JSON.parse(entry.spec) as HashTableSpec;
    if (costOf(spec) <= SMALL) return this.#built(entry, buildHashTable(spec).buffer);
    this.#ordered.set(entry.spec, entry);
    clearTimeout(this.#idle);
    this.#worker ??= this.#start();
    this.#worker.postMessage(entry.spec);
  }

  #built(entry: Entry, memory: SharedArrayBuffer | undefined): void {
    entry.memory = memory;
    for (const answer of entry.waiting.splice(0)) answer(memory);
    if (this.#tables.get(entry.spec) !== entry) return;
    if (memory === undefined) {
      this.#tables.delete(entry.spec);
      return;
    }
    this.#measure();
  }

  #measure(): void {
    let count = 0;
    let bytes = 0;
    for (const { memory } of this.#tables.values()) {
      if (memory === undefined) continue;
      count++;
      bytes += memory.byteLength;
    }
    this.#count.set(count);
    this.#bytes.set(bytes);
  }

  #start(): Worker {
    const extension = import.meta.url.slice(import.meta.url.lastIndexOf('.'));
    const worker = new Worker(new URL(`./hash_table_worker${extension}`, import.meta.url), {
      execArgv: ['--disable-warning=ExperimentalWarning'],
      name: 'hash-tables',
    });
    worker.unref();
    worker.on('message', ({ spec, memory }: BuiltTable) => this.#arrived(spec, memory));
    // Whoever waits builds for itself.
    worker.on('error', () => {});
    worker.on('exit', () => {
      if (this.#worker === worker) this.#worker = undefined;
      for (const spec of [...this.#ordered.keys()]) this.#arrived(spec, undefined);
    });
    return worker;
  }

  #arrived(spec: string, memory: SharedArrayBuffer | undefined): void {
    const entry = this.#ordered.get(spec);
    if (entry === undefined) return;
    this.#ordered.delete(spec);
    this.#built(entry, memory);
    if (this.#ordered.size > 0) return;
    this.#idle = setTimeout(() => {
      const worker = this.#worker;
      this.#worker = undefined;
      void worker?.terminate();
    }, IDLE_MS).unref();
  }
}
