/** V8's own threads give way; nobody else does. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { yieldToTraffic } from '../../proxy/background_threads.ts';

const skip = process.platform === 'linux' ? false : 'priorities of threads are a matter of Linux';

/** Niceness of each thread of this process, by its name. proc_pid_stat(5): the 19th field. */
function niceness(): [name: string, nice: number][] {
  return readdirSync('/proc/self/task').map((thread) => {
    const stat = readFileSync(`/proc/self/task/${thread}/stat`, 'latin1');
    const end = stat.lastIndexOf(')');
    return [stat.slice(stat.indexOf('(') + 1, end), Number(stat.slice(end + 2).split(' ')[16])];
  });
}

test('yieldToTraffic makes the threads of V8 nicer when they are there, and no other', { skip }, () => {
  const before = niceness();
  const workers = before.filter(([name]) => name === 'node-V8Worker').length;
  assert.ok(workers > 0);
  assert.equal(yieldToTraffic(), workers);
  const own = before.find(([name]) => name !== 'node-V8Worker')?.[1] ?? 0;
  for (const [name, nice] of niceness()) assert.equal(nice, name === 'node-V8Worker' ? 10 : own, name);
});
