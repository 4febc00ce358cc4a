/** The fault harness over http1; see fault_matrix.ts. */
import { test } from 'node:test';
import { faultMatrix } from './fault_matrix.ts';

for (const isMutual of [false, true]) {
  test(`replicas that misbehave in every way over http1${isMutual ? ' with mutual TLS' : ''}: no request that may be sent again fails, no other is sent twice, nothing is left`, (t) =>
    faultMatrix(t, { protocol: 'http1', isMutual, requests: 60, log: (line) => t.diagnostic(line) }));
}
