/** When a dead data thread is started again. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FAST_DEATH_MS, RestartPolicy } from '../../proxy/restart_policy.ts';

test('a data thread is restarted at once, and later and later while it dies fast', () => {
  const policy = new RestartPolicy();
  const delays = Array.from({ length: 10 }, () => policy.died(50));
  assert.deepEqual(delays, [0, 100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
});

test('a data thread that lived long is restarted at once again', () => {
  const policy = new RestartPolicy();
  for (let i = 0; i < 5; i++) policy.died(50);
  assert.equal(policy.died(FAST_DEATH_MS), 0);
  assert.equal(policy.died(50), 100);
});
