import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { Deadline, deadlineCounts, Deadlines } from '../../../proxy/net/deadlines.ts';

function setUp(t: { after(fn: () => void): void }) {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  let now = 0;
  const deadlines = new Deadlines(() => now);
  return {
    deadlines,
    advance(ms: number) {
      now += ms;
      mock.timers.tick(ms);
    },
  };
}

test('Deadlines fires an entry once its duration has passed', (t) => {
  const { deadlines, advance } = setUp(t);
  const fired: string[] = [];
  const list = deadlines.list(100);
  list.arm(new Deadline(() => fired.push('a')));
  advance(60);
  list.arm(new Deadline(() => fired.push('b')));
  advance(39);
  assert.deepEqual(fired, []);
  advance(1);
  assert.deepEqual(fired, ['a']);
  advance(60);
  assert.deepEqual(fired, ['a', 'b']);
});

test('Deadlines does not fire what was cancelled or armed again later', (t) => {
  const { deadlines, advance } = setUp(t);
  const fired: string[] = [];
  const list = deadlines.list(100);
  const cancelled = new Deadline(() => fired.push('cancelled'));
  const moved = new Deadline(() => fired.push('moved'));
  list.arm(cancelled);
  list.arm(moved);
  cancelled.cancel();
  cancelled.cancel();
  advance(90);
  list.arm(moved);
  advance(90);
  assert.deepEqual(fired, []);
  advance(10);
  assert.deepEqual(fired, ['moved']);
  assert.equal(moved.armed, false);
});

test('Deadlines forgets a list that has run empty and makes a new one when asked again', (t) => {
  const { deadlines, advance } = setUp(t);
  const first = deadlines.list(10);
  first.arm(new Deadline(() => {}));
  advance(10);
  assert.notEqual(deadlines.list(10), first);
});

test('Deadlines lets an entry arm another one while it fires', (t) => {
  const { deadlines, advance } = setUp(t);
  const fired: string[] = [];
  const list = deadlines.list(10);
  list.arm(
    new Deadline(() => {
      fired.push('first');
      list.arm(new Deadline(() => fired.push('second')));
    }),
  );
  advance(10);
  assert.deepEqual(fired, ['first']);
  advance(10);
  assert.deepEqual(fired, ['first', 'second']);
});

test('Deadlines is not late for an entry when one before it arms itself again', (t) => {
  const { deadlines, advance } = setUp(t);
  const fired: string[] = [];
  const list = deadlines.list(100);
  const again: Deadline = new Deadline(() => {
    fired.push('again');
    list.arm(again);
  });
  list.arm(again);
  advance(10);
  list.arm(new Deadline(() => fired.push('b')));
  advance(90);
  assert.deepEqual(fired, ['again']);
  advance(10);
  assert.deepEqual(fired, ['again', 'b']);
  advance(90);
  assert.deepEqual(fired, ['again', 'b', 'again']);
});

test('Deadlines counts its timers and what is armed', (t) => {
  const { deadlines, advance } = setUp(t);
  const before = deadlineCounts();
  const one = new Deadline(() => {});
  deadlines.list(100).arm(one);
  deadlines.list(100).arm(new Deadline(() => {}));
  deadlines.list(200).arm(new Deadline(() => {}));
  const since = (): number[] => [deadlineCounts().timers - before.timers, deadlineCounts().armed - before.armed];
  assert.deepEqual(since(), [2, 3]);
  one.cancel();
  assert.deepEqual(since(), [2, 2]);
  advance(100);
  assert.deepEqual(since(), [1, 1]);
  advance(100);
  assert.deepEqual(since(), [0, 0]);
});

test('a scaled timeout is shorter for what is armed too, and long again afterwards', (t) => {
  const { deadlines, advance } = setUp(t);
  const fired: string[] = [];
  const list = deadlines.scaled('http_downstream_stream_idle', 1000);
  assert.equal(deadlines.scaled('http_downstream_stream_idle', 1000), list);
  assert.notEqual(deadlines.scaled('http_downstream_connection_idle', 1000), list);
  list.arm(new Deadline(() => fired.push('a')));
  advance(300);
  list.arm(new Deadline(() => fired.push('b')));
  deadlines.rescale((_, configuredMs) => configuredMs / 2);
  advance(199);
  assert.equal(fired.length, 0);
  advance(1);
  assert.deepEqual(fired, ['a']);
  deadlines.rescale((_, configuredMs) => configuredMs);
  advance(799);
  assert.deepEqual(fired, ['a']);
  advance(1);
  assert.deepEqual(fired, ['a', 'b']);
  // What is long over by the new measure is over at once.
  list.arm(new Deadline(() => fired.push('c')));
  advance(500);
  deadlines.rescale(() => 10);
  advance(1);
  assert.deepEqual(fired, ['a', 'b', 'c']);
});
