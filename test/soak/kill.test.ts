/** The short form of the kill soak. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kill } from './kill.ts';

test('the queue of a dead data thread is served again in a moment', { timeout: 30_000 }, async (t) => {
  const away = await kill(t, 3, (line) => t.diagnostic(line));
  // 100 to 150 ms on an idle machine; tests share theirs.
  assert.ok(Math.min(...away) < 1000, `${away}`);
});
