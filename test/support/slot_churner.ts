/** A thread that claims and releases slots as fast as it can: started by shared_slots.test.ts. */
import { parentPort, workerData } from 'node:worker_threads';
import { SharedSlots, type SlotMemory, slotsWithKey } from '../../proxy/upstream/shared_slots.ts';

const { memory, row, keys, rounds, seed } = workerData as {
  memory: SlotMemory;
  row: SharedArrayBuffer;
  keys: number;
  rounds: number;
  seed: number;
};
const slots = new SharedSlots(memory, row);
const held = new Map<string, number>();
let doubled = 0;
let full = 0;
let state = seed;
/** xorshift32: the same run for the same seed. */
function random(below: number): number {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}
for (let round = 0; round < rounds; round++) {
  const key = `cluster ${random(keys)}`;
  const slot = held.get(key);
  if (slot === undefined) {
    const claimed = slots.claim(key);
    if (claimed < 0) full++;
    else {
      held.set(key, claimed);
      if (slotsWithKey(memory, key) > 1) doubled++;
    }
  } else {
    slots.release(slot);
    held.delete(key);
  }
}
for (const slot of held.values()) slots.release(slot);
parentPort?.postMessage({ doubled, full });
