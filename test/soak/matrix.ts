/** The fault harness over all protocols, with and without mutual TLS, again and again: `npm run soak -- matrix SECONDS`. */
import { faultMatrix } from '../integration/fault_matrix.ts';
import { tcpFaultMatrix } from '../integration/fault_matrix_tcp.ts';

/** Ten times those of `npm test`. */
const REQUESTS = 600;
const CONNECTIONS = 300;

export async function matrix(seconds: number, log: (line: string) => void): Promise<void> {
  const untilMs = performance.now() + seconds * 1000;
  do {
    for (const isMutual of [false, true]) {
      for (const protocol of ['http1', 'http2', 'grpc'] as const) {
        await apart((scope) => faultMatrix(scope, { protocol, isMutual, requests: REQUESTS, log }));
      }
      await apart((scope) => tcpFaultMatrix(scope, { isMutual, connections: CONNECTIONS, log }));
    }
  } while (performance.now() < untilMs);
}

/** Everything that one combination started ends with it. */
async function apart(run: (scope: { after(end: () => unknown): void }) => Promise<void>): Promise<void> {
  const ends: (() => unknown)[] = [];
  try {
    await run({ after: (end) => void ends.push(end) });
  } finally {
    for (const end of ends.reverse()) await end();
  }
}
