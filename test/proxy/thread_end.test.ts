/** How threads end: by their own hand where they can, since Node aborts all of the process over a callback that is terminated. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { endThread } from '../../proxy/thread_end.ts';

/** Nearly always within a call that native code has made: qsort's comparison, which takes its time. */
const BUSY_IN_A_CALLBACK = `
import { DynamicLibrary, getRawPointer } from 'node:ffi';
import { parentPort } from 'node:worker_threads';
const library = new DynamicLibrary(null);
const { qsort } = library.getFunctions({ qsort: { arguments: ['pointer', 'u64', 'u64', 'pointer'], return: 'void' } });
const compare = library.registerCallback({ arguments: ['pointer', 'pointer'], return: 'i32' }, () => {
  const endMs = performance.now() + 2;
  while (performance.now() < endMs);
  return 0;
});
const numbers = new Uint8Array(2);
parentPort.on('message', ({ kind }) => kind === 'end' && process.exit(1));
parentPort.postMessage('ready');
const work = () => {
  qsort(getRawPointer(numbers.buffer), 2n, 1n, compare);
  setImmediate(work);
};
work();
`;

test('endThread ends a thread that is in a native callback, and nothing else', async () => {
  for (let i = 0; i < 5; i++) {
    const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(BUSY_IN_A_CALLBACK)}`));
    await once(worker, 'message');
    await endThread(worker);
    assert.equal(worker.threadId, -1);
    // A second time there is nothing to end.
    await endThread(worker);
  }
});

test('endThread terminates a thread that does not listen', async () => {
  const worker = new Worker('require("node:worker_threads").parentPort.postMessage("ready"); for (;;);', {
    eval: true,
  });
  await once(worker, 'message');
  await endThread(worker);
  assert.equal(worker.threadId, -1);
});
