import assert from 'node:assert/strict';
import { test } from 'node:test';
import { RoundPause, ROUNDS_WITHOUT } from '../../../proxy/net/round_pause.ts';

/** `streams` open; a round takes `workMs` and begins `gapMs` after the last one's end. */
function setUp(streams: number) {
  const seen = { nowMs: 1000, pauses: 0, pauseMs: 0.06 };
  const pause = new RoundPause(
    () => seen.nowMs,
    () => {
      seen.pauses++;
      seen.nowMs += seen.pauseMs;
    },
  );
  for (let i = 0; i < streams; i++) pause.streamOpened();
  const round = ({ messages = 4, workMs = 0.03, gapMs = 0.02 } = {}): boolean => {
    for (let i = 0; i < messages; i++) pause.streamAnswered();
    seen.nowMs += gapMs;
    const beganMs = seen.nowMs;
    seen.nowMs += workMs;
    const before = seen.pauses;
    pause.roundOver(beganMs);
    return seen.pauses > before;
  };
  // The first round follows nothing.
  assert.equal(round({ gapMs: 1 }), false);
  return { seen, pause, round };
}

test('RoundPause pauses while many streams are open and rounds are short and close', () => {
  const { round } = setUp(16);
  assert.equal(round(), true);
  assert.equal(round(), true);
});

test('RoundPause lets few streams wait for nothing', () => {
  const { pause, round } = setUp(16);
  pause.streamClosed();
  assert.equal(round(), false);
  pause.streamOpened();
  assert.equal(round(), true);
});

test('RoundPause does not pause behind a round that had enough to do', () => {
  const { round } = setUp(100);
  assert.equal(round({ workMs: 0.2 }), false);
  assert.equal(round(), true);
});

test('RoundPause does not pause where rounds are far apart', () => {
  const { round } = setUp(100);
  assert.equal(round({ gapMs: 0.3 }), false);
  assert.equal(round(), true);
});

test('RoundPause goes without after pauses that brought single messages, and tries again', () => {
  const { round } = setUp(100);
  let pauses = 0;
  while (round({ messages: 1 })) pauses++;
  assert.equal(pauses, 8);
  for (let i = 1; i < ROUNDS_WITHOUT; i++) assert.equal(round(), false);
  assert.equal(round(), true);
});

test('RoundPause goes without where a pause takes too long', () => {
  const { seen, round } = setUp(100);
  seen.pauseMs = 15;
  assert.equal(round(), true);
  for (let i = 0; i < ROUNDS_WITHOUT; i++) assert.equal(round(), false);
  seen.pauseMs = 0.06;
  assert.equal(round(), true);
  assert.equal(round(), true);
});
