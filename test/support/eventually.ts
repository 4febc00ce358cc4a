/** Waiting for what comes by itself: as long as a busy machine may need, not longer than a person would. */
import assert from 'node:assert/strict';

const LONGEST_MS = 30_000;
const LOOK_MS = 5;

/** Rejects, with `says`, when it does not hold within 30 s. */
export async function eventually(says: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const endMs = performance.now() + LONGEST_MS;
  while (!(await holds())) {
    if (performance.now() > endMs) assert.fail(`never: ${says}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}
