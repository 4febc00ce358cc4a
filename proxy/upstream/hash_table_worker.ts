/** The thread that builds tables of consistent hashing: one after the other, as they are ordered. */
import { parentPort } from 'node:worker_threads';
import { buildHashTable, type HashTableSpec } from '../load_balancers/hash_table.ts';

/** `spec`: as it was ordered. */
export interface BuiltTable {
  readonly spec: string;
  readonly memory: SharedArrayBuffer;
}

const port = parentPort;
port?.on('message', (spec: string) => {
  const { buffer } = buildHashTable(JSON.parse(spec) as HashTableSpec);
  port.postMessage({ spec, memory: buffer } satisfies BuiltTable);
});
