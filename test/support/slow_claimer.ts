/** A thread that the system stops in the middle of claiming a slot, as far as others can tell. */
import { parentPort, workerData } from 'node:worker_threads';

import { SharedSlots, type SlotMemory } from '../../proxy/upstream/shared_slots.ts';

const { memory, row, sleepMs } = workerData as {
  readonly memory: SlotMemory;
  readonly row: SharedArrayBuffer;
  readonly sleepMs: number;
};
const slot = new SharedSlots(memory, row).claim('x', () => {
  parentPort?.postMessage('tentative');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, sleepMs);
});
parentPort?.postMessage(slot);
