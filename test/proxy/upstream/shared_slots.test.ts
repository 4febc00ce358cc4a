/** Slots that threads share: one for each key whatever they do at once, and none left over. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import {
  createBreakerMemory,
  createBreakerRow,
  forgetRow,
  SharedBreakers,
  usedSlots,
} from '../../../proxy/upstream/shared_breakers.ts';
import {
  createSlotMemory,
  createSlotRow,
  forgetSlots,
  SharedSlots,
  slotsWithKey,
  usedSlotsOf,
} from '../../../proxy/upstream/shared_slots.ts';

test('threads that claim and release the same keys never give one key two slots, and leave none', async () => {
  // Few slots and many keys: probes collide and slots are freed in the middle of others' look-ups.
  const memory = createSlotMemory(64);
  const workers = [1, 2, 3, 4].map(
    (seed) =>
      new Worker(new URL('../../support/slot_churner.ts', import.meta.url), {
        workerData: { memory, row: createSlotRow(memory), keys: 48, rounds: 60_000, seed: seed * 7919 },
      }),
  );
  const results = (await Promise.all(workers.map((worker) => once(worker, 'message')))).map(([result]) => result);
  for (const { doubled, full } of results) {
    assert.equal(doubled, 0);
    // A thread that the system stopped half-way is waited for, but not for long.
    assert.ok(full < 600, `${full} of 60,000 got none`);
  }
  assert.equal(usedSlotsOf(memory), 0);
});

test('a slot stays with its key while one of its threads holds it, and is initialised once', () => {
  const memory = createSlotMemory(16);
  const rows = [createSlotRow(memory), createSlotRow(memory)] as const;
  const [a, b] = [new SharedSlots(memory, rows[0]), new SharedSlots(memory, rows[1])];
  const fresh: number[] = [];
  const slot = a.claim('x', (found) => fresh.push(found));
  assert.equal(
    b.claim('x', (found) => fresh.push(found)),
    slot,
  );
  assert.deepEqual(fresh, [slot]);
  a.release(slot);
  assert.equal(slotsWithKey(memory, 'x'), 1);
  assert.notEqual(b.claim('y'), slot);
  // The thread that dies lets go of all it held.
  forgetSlots(memory, rows[1]);
  assert.equal(usedSlotsOf(memory), 0);
});

test('a thread that is stopped while it claims is waited for: both get one slot', async () => {
  const memory = createSlotMemory(16);
  const slow = new Worker(new URL('../../support/slow_claimer.ts', import.meta.url), {
    workerData: { memory, row: createSlotRow(memory), sleepMs: 15 },
  });
  const [first] = await once(slow, 'message');
  assert.equal(first, 'tentative');
  const mine = new SharedSlots(memory, createSlotRow(memory)).claim('x', () => assert.fail('somebody had it'));
  const [theirs] = await once(slow, 'message');
  assert.equal(mine, theirs);
  assert.equal(slotsWithKey(memory, 'x'), 1);
});

test('a full table says so', () => {
  const memory = createSlotMemory(4);
  const slots = new SharedSlots(memory, createSlotRow(memory));
  assert.deepEqual(new Set([1, 2, 3, 4].map((key) => slots.claim(`${key}`))), new Set([0, 1, 2, 3]));
  assert.equal(slots.claim('5'), -1);
});

const LIMITS = { maxConnections: 2, maxPendingRequests: 2, maxRequests: 2, maxRetries: 1 };

test('a closed breaker keeps its slot until its last request ends, and counts nowhere else afterwards', () => {
  const memory = createBreakerMemory();
  const row = createBreakerRow();
  const breakers = new SharedBreakers(memory, row);
  const breaker = breakers.open('a', 'default', LIMITS);
  assert.equal(breaker.tryAcquire('requests'), true);
  breakers.close('a', 'default');
  assert.equal(usedSlots(memory), 1);
  // Opened again meanwhile: the same counts.
  assert.equal(breakers.open('a', 'default', LIMITS).count('requests'), 1);
  breakers.close('a', 'default');
  breaker.release('requests');
  assert.equal(usedSlots(memory), 0);
  // Whoever still holds it disturbs nobody.
  breaker.acquire('requests');
  assert.equal(breakers.open('a', 'default', LIMITS).count('requests'), 0);
});

test('limits hold across threads, and a dead thread’s share is given back', () => {
  const memory = createBreakerMemory();
  const rows = [createBreakerRow(), createBreakerRow()] as const;
  const [a, b] = rows.map((row) => new SharedBreakers(memory, row).open('a', 'default', LIMITS));
  assert.deepEqual(
    [a?.tryAcquire('requests'), b?.tryAcquire('requests'), a?.tryAcquire('requests')],
    [true, true, false],
  );
  forgetRow(memory, rows[1]);
  assert.deepEqual([a?.count('requests'), a?.tryAcquire('requests'), a?.tryAcquire('requests')], [1, true, false]);
  forgetRow(memory, rows[0]);
  assert.equal(usedSlots(memory), 0);
});
