/** The fault harness over TCP; see fault_matrix_tcp.ts. */
import { test } from 'node:test';
import { tcpFaultMatrix } from './fault_matrix_tcp.ts';

for (const isMutual of [false, true]) {
  test(`an upstream that misbehaves in every way over TCP${isMutual ? ' with mutual TLS' : ''}: each connection ends as the fault says, nothing is left`, (t) =>
    tcpFaultMatrix(t, { isMutual, connections: 30, log: (line) => t.diagnostic(line) }));
}
