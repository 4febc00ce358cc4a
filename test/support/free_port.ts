/** Ports for programs that must be told one. Everything else listens on port 0. */
import { once } from 'node:events';
import { createServer } from 'node:net';

/** Nobody listens there, and no listener on port 0 can get it, as it can one that was free a moment ago. */
export const REFUSED_PORT = 1;

/**
 * Below those that the system gives to connections and to listeners on port 0, and those of h2specd: a free one stays
 * free until it is used.
 */
const FIRST = 10_000;
const COUNT = 14_000;

export function freePort(): Promise<number> {
  return freePorts(1);
}

/** The first of so many in a row. */
export async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = FIRST + Math.floor(Math.random() * (COUNT - count));
    const servers = Array.from({ length: count }, (_, index) => createServer().listen(first + index, '127.0.0.1'));
    const bound = await Promise.allSettled(servers.map((server) => once(server, 'listening')));
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    if (bound.every(({ status }) => status === 'fulfilled')) return first;
  }
}
