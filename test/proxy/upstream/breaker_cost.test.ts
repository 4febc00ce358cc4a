/** What a breaker's decision takes: no lock, and nothing of the heap. */
import assert from 'node:assert/strict';
import { PerformanceObserver } from 'node:perf_hooks';
import { test } from 'node:test';
import type { Breaker } from '../../../proxy/upstream/circuit_breakers.ts';
import { createBreakerMemory, createBreakerRow, SharedBreakers } from '../../../proxy/upstream/shared_breakers.ts';

const DECISIONS = 2_000_000;

/** How often the collector of young objects came meanwhile. */
async function collections(work: () => void): Promise<number> {
  let count = 0;
  const observer = new PerformanceObserver((list) => {
    count += list.getEntries().length;
  });
  observer.observe({ entryTypes: ['gc'] });
  work();
  await new Promise(setImmediate);
  count += observer.takeRecords().length;
  observer.disconnect();
  return count;
}

function decide(breaker: Breaker): void {
  for (let i = 0; i < DECISIONS; i++) {
    // One that is allowed, one that is not, and both ways back.
    if (breaker.tryAcquire('requests')) breaker.tryAcquire('requests');
    breaker.release('requests');
    if (breaker.tryAcquire('retries')) breaker.release('retries');
  }
}

test('a decision is made by atomics that need no lock', () => {
  assert.equal(Atomics.isLockFree(Int32Array.BYTES_PER_ELEMENT), true);
});

for (const [says, retryBudget] of [
  ['limits', undefined],
  ['a retry budget', { percent: 20, minConcurrency: 3 }],
] as const) {
  test(`two million decisions by ${says} allocate nothing`, async () => {
    const breakers = new SharedBreakers(createBreakerMemory(), createBreakerRow());
    const limits = { maxConnections: 1, maxPendingRequests: 1, maxRequests: 1, maxRetries: 1, retryBudget };
    const breaker = breakers.open('up', 'default', limits);
    decide(breaker);
    // Sixteen bytes a decision would fill the young generation many times over.
    let garbage: unknown;
    const allocating = await collections(() => {
      for (let i = 0; i < DECISIONS; i++) garbage = { i };
    });
    assert.ok(garbage !== undefined && allocating > 2, `${allocating}: it would not have been seen`);
    const found = await collections(() => decide(breaker));
    assert.ok(found <= 1, `${found} collections`);
    assert.equal(breaker.count('requests'), 0);
  });
}
