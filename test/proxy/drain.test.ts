/** When answers ask for their connection to be closed. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Direction, type DrainScope, inScope, ThreadDrain } from '../../proxy/drain.ts';

test('a scope holds the listeners that its name says', () => {
  const table: readonly (readonly [DrainScope, Direction, boolean])[] = [
    ['all', 'inbound', true],
    ['all', 'outbound', true],
    ['all', undefined, true],
    ['inbound', 'inbound', true],
    ['inbound', 'outbound', false],
    ['inbound', undefined, false],
    ['not outbound', 'inbound', true],
    ['not outbound', 'outbound', false],
    ['not outbound', undefined, true],
  ];
  for (const [scope, direction, holds] of table)
    assert.equal(inScope(scope, direction), holds, `${scope} ${direction}`);
});

test('an immediate drain closes with every answer, of its scope only', () => {
  const drain = new ThreadDrain(
    () => 0,
    () => 0.999,
  );
  assert.equal(drain.closes('inbound', 'default'), false);
  drain.begin({ scope: 'inbound', strategy: 'immediate', timeMs: 600_000 }, 0);
  assert.equal(drain.closes('inbound', 'default'), true);
  assert.equal(drain.closes('outbound', 'default'), false);
  assert.equal(drain.closes('inbound', 'modify_only'), false);
});

test('a gradual drain closes with the probability of the time that has passed', () => {
  let nowMs = 1000;
  let random = 0;
  const drain = new ThreadDrain(
    () => nowMs,
    () => random,
  );
  drain.begin({ scope: 'all', strategy: 'gradual', timeMs: 1000 }, 0);
  for (const [atMs, share] of [
    [0, 0],
    [250, 0.25],
    [999, 0.999],
    [1000, 1],
    [5000, 1],
  ] as const) {
    nowMs = 1000 + atMs;
    let closed = 0;
    for (let i = 0; i < 1000; i++) {
      random = i / 1000;
      if (drain.closes(undefined, 'default')) closed++;
    }
    assert.equal(closed / 1000, share);
  }
  // A thread that is started in its middle goes on there.
  const other = new ThreadDrain(
    () => 0,
    () => 0.5,
  );
  other.begin({ scope: 'all', strategy: 'gradual', timeMs: 1000 }, 499);
  assert.equal(other.closes(undefined, 'default'), false);
  other.begin({ scope: 'all', strategy: 'gradual', timeMs: 1000 }, 501);
  assert.equal(other.closes(undefined, 'default'), true);
});

test('failed health sends everybody elsewhere until it is well again', () => {
  const drain = new ThreadDrain(
    () => 0,
    () => 0,
  );
  drain.healthFailed = true;
  assert.equal(drain.closes('outbound', 'default'), true);
  assert.equal(drain.closes('outbound', 'modify_only'), false);
  drain.healthFailed = false;
  assert.equal(drain.closes('outbound', 'default'), false);
});
