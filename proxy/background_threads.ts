/**
 * Lets V8's own threads give way to traffic: they compile what has become hot, for a second or two after a start, and
 * take whole time slices while a data thread waits for the core. Linux only; elsewhere nothing happens.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { hasLibc, libc } from './net/libc.ts';

/** As V8's platform in Node calls them; Linux cuts names at 15 characters. */
const BACKGROUND_THREAD = 'node-V8Worker';
/** A tenth of a share each: compiling goes on under full load too, since compiled code is what takes the load off. */
const NICE = 10;
/** Of setpriority(2): a thread is a "process" there. */
const PRIO_PROCESS = 0;

/** Called once, when the threads are there. @returns how many give way now. */
export function yieldToTraffic(): number {
  if (!hasLibc) return 0;
  let count = 0;
  try {
    for (const thread of readdirSync('/proc/self/task')) {
      const name = readFileSync(`/proc/self/task/${thread}/comm`, 'latin1').trimEnd();
      if (name === BACKGROUND_THREAD && libc().setpriority(PRIO_PROCESS, Number(thread), NICE) === 0) count++;
    }
  } catch {
    // No /proc, or a thread has just ended: it is only a matter of speed.
  }
  return count;
}
