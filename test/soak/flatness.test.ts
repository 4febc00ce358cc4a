/** What counts as flat. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { flatness, type Sample, table } from './flatness.ts';

const run = (of: (index: number) => number): Sample[] => Array.from({ length: 100 }, (_, index) => ({ mb: of(index) }));
const SLACK = { mb: { ratio: 0.1, amount: 2 } };
const isFlat = (samples: Sample[]): boolean | undefined => flatness(samples, SLACK)[0]?.isFlat;

for (const [says, of, wanted] of [
  ['a constant is flat', () => 50, true],
  ['garbage that is collected again is flat', (index: number) => 50 + (index % 10) * 8, true],
  ['warming up does not count', (index: number) => (index < 10 ? 10 : 50), true],
  ['a leak is not flat', (index: number) => 50 + index / 2, false],
  ['a leak below garbage is not flat', (index: number) => 50 + index / 2 + (index % 10) * 8, false],
  ['falling is flat', (index: number) => 100 - index / 2, true],
] as const) {
  test(`flatness: ${says}`, () => assert.equal(isFlat(run(of)), wanted));
}

test('table aligns its columns to the right', () => {
  assert.equal(
    table([
      ['s', 'heap'],
      ['10', '7'],
    ]),
    ' s  heap\n10     7',
  );
});
