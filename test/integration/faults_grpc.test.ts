/** The fault harness over grpc; see fault_matrix.ts. */
import { test } from 'node:test';
import { faultMatrix } from './fault_matrix.ts';

for (const isMutual of [false, true]) {
  test(`replicas that misbehave in every way over grpc${isMutual ? ' with mutual TLS' : ''}: no request that may be sent again fails, no other is sent twice, nothing is left`, (t) =>
    faultMatrix(t, { protocol: 'grpc', isMutual, requests: 60, log: (line) => t.diagnostic(line) }));
}
