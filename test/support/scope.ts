/** What a test opened, closed again: for one test (its context) or for a whole file. */
import { after } from 'node:test';

/** A test's context is one. */
export interface Scope {
  after(close: () => unknown): void;
}

/** Closes in reverse order when the file's tests are over. Call it at the top of the file. */
export function fileScope(): Scope {
  const closers: (() => unknown)[] = [];
  after(async () => {
    for (const close of closers.reverse()) await close();
  });
  return { after: (close) => void closers.push(close) };
}
