/**
 * The end of a thread, by its own hand. Worker.terminate() stops JavaScript wherever it is, and within OpenSSL's call of ours
 * (net/tls/openssl.ts) Node aborts the whole process over that: "Callbacks cannot throw an exception".
 */
import { once } from 'node:events';
import type { Worker } from 'node:worker_threads';
import type { ToThread } from './thread_messages.ts';

/** A thread that does not come round to it is terminated: it is in a loop of its own, not in a handshake. */
const WAIT_MS = 2000;

/** Resolves when it is gone. */
export async function endThread(worker: Worker): Promise<void> {
  // −1: it has gone.
  if (worker.threadId === -1) return;
  const gone = once(worker, 'exit');
  worker.postMessage({ kind: 'end' } satisfies ToThread);
  const timer = setTimeout(() => void worker.terminate(), WAIT_MS);
  await gone;
  clearTimeout(timer);
}
