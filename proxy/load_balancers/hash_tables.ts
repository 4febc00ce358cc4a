/** Where balancers get their tables from, whoever builds them. */
import { buildHashTable, type HashTable, type HashTableSpec } from './hash_table.ts';

export interface HashTables {
  want(spec: HashTableSpec): WantedTable;
}

export interface WantedTable {
  /** Resolves when the table is there; undefined: it is. Never rejects. */
  readonly ready: Promise<void> | undefined;
  /** The table; built here and now where it is not there yet. */
  now(): HashTable;
}

/** Builds when the table is first used: for a thread that has nobody to build for it. */
export const builtHere: HashTables = {
  want(spec) {
    let table: HashTable | undefined;
    return { ready: undefined, now: () => (table ??= buildHashTable(spec)) };
  },
};
