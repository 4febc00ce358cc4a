/** One act for a burst of events, and one for a burst that never ends. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayConcern, QuietTime } from '../../config/quiet_time.ts';
import { eventually } from '../support/eventually.ts';

const HOUR_MS = 3_600_000;

test('QuietTime acts once when a burst is over', async (t) => {
  let acts = 0;
  const quiet = new QuietTime({ quietMs: 5, longestMs: HOUR_MS, act: () => acts++ });
  t.after(() => quiet.stop());
  for (let i = 0; i < 10; i++) quiet.poke();
  await eventually('acts', () => acts > 0);
  assert.equal(acts, 1);
  quiet.poke();
  await eventually('acts for the next burst', () => acts === 2);
});

test('QuietTime acts in the midst of a burst that never ends', async (t) => {
  let acts = 0;
  const quiet = new QuietTime({ quietMs: HOUR_MS, longestMs: 50, act: () => acts++ });
  t.after(() => quiet.stop());
  await eventually('acts, and again', () => {
    quiet.poke();
    return acts > 1;
  });
});

test('QuietTime acts no more when it was stopped', async () => {
  let acts = 0;
  const quiet = new QuietTime({ quietMs: 1, longestMs: 1, act: () => acts++ });
  const other = new QuietTime({ quietMs: 5, longestMs: 5, act: () => acts-- });
  quiet.poke();
  quiet.stop();
  other.poke();
  await eventually('a later one acts', () => acts !== 0);
  assert.equal(acts, -1);
});

test('an event of a folder concerns a file that is read, and names that come and go, not a log beside it', () => {
  const isYaml = (name: string): boolean => name.endsWith('.yaml');
  const cases: readonly (readonly [event: string, name: string | null, wanted: boolean])[] = [
    ['change', 'web.yaml', true],
    ['change', 'mesh', true],
    ['change', 'access.log', false],
    // A link that is swapped, a folder that is made; and where the system names nothing.
    ['rename', '..data', true],
    ['change', null, true],
  ];
  for (const [event, name, wanted] of cases) {
    assert.equal(mayConcern(event, name, ['/etc/mesh'], isYaml), wanted, `${event} ${name}`);
  }
  assert.equal(mayConcern('change', 'web.yaml', ['/etc/mesh']), false);
});
