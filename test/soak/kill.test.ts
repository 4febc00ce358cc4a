/** The short form of the kill soak. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kill } from './kill.ts';

test('the queue of a dead data thread is served again in a moment', { timeout: 110_000 }, async (t) => {
  const { awayMs, startMs } = await kill(t, 3, (line) => t.diagnostic(line));
  // 100 to 150 ms on an idle machine; tests share theirs, where the start of a whole proxy says how long that takes.
  assert.ok(Math.min(...awayMs) < Math.max(1000, 2 * startMs), `${awayMs} ms away, ${startMs} ms to start`);
});
