/** The soak of misbehaving replicas, for six seconds; longer with `npm run soak -- faults SECONDS`. */
import { test } from 'node:test';
import { faults } from './faults.ts';

test('while replicas take turns in misbehaving, nothing grows, stays open or fails', async (t) => {
  await faults(t, 6, () => {});
});
